"""Sending for webhooks: takes deliveries that are due, under a lease, sends them side by side, and notes what came of it.

A delivery is sent at least once, under one id: whoever is cut off in the middle is followed by somebody who takes it again when the
lease has ended. An endpoint has few messages on their way at one time, and one that fails has a single one, so that a slow or
dead receiver delays nobody but itself. Answers are not read: the status says all.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from importlib import import_module
from typing import Any
from uuid import UUID

import structlog
from msgspec import Struct

from aitbc.kernel.crypto.sealing import Seal, Unsealable
from aitbc.kernel.database.batcher import Batcher
from aitbc.kernel.database.unit_of_work import Connection, Database
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError
from aitbc.kernel.primitives.tasks import end
from aitbc.server.webhooks.egress import DestinationRefused, EgressPolicy, NotPublic
from aitbc.server.webhooks.signing import signatures
from aitbc.server.webhooks.tables import State

ATTEMPT_SECONDS = 15.0
LEASE = timedelta(seconds=60)
PAUSES = tuple(timedelta(seconds=seconds) for seconds in (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400))
"""Before the second attempt and each further one, as Standard Webhooks has it; after the last the delivery is dead."""
JITTER = 0.1
FAILING_MAX = timedelta(days=3)
"""An endpoint that took nothing for so long is disabled."""
PER_ENDPOINT = 4
IDLE_SECONDS = 2.0
STATUS_GONE = 410

TAKE = f"""
WITH due AS (
    SELECT d.id FROM kernel.webhook_endpoints w
    LEFT JOIN unnest($2::uuid[], $3::int[]) AS busy(endpoint, count) ON busy.endpoint = w.id
    CROSS JOIN LATERAL (
        SELECT id, due_at FROM kernel.webhook_deliveries
        WHERE endpoint = w.id AND state = 'pending' AND due_at <= $1 ORDER BY due_at
        LIMIT greatest(0, CASE WHEN w.failing_since IS NULL THEN {PER_ENDPOINT} ELSE 1 END - coalesce(busy.count, 0))
        FOR UPDATE SKIP LOCKED) d
    WHERE w.disabled_at IS NULL ORDER BY d.due_at LIMIT $4)
UPDATE kernel.webhook_deliveries d SET attempts = d.attempts + 1, due_at = $5
FROM due, kernel.webhook_endpoints w WHERE d.id = due.id AND w.id = d.endpoint
RETURNING d.id, d.endpoint, d.body, d.attempts, w.url, w.version, w.secret, w.previous_secret, w.previous_until"""  # noqa: S608

NOTE = """
UPDATE kernel.webhook_deliveries d
SET state = v.state, due_at = v.due_at, status = v.status, error = v.error, attempted_at = v.at,
    ended_at = CASE WHEN v.state <> 'pending' THEN v.at END
FROM unnest($1::uuid[], $2::int[], $3::text[], $4::timestamptz[], $5::int[], $6::text[], $7::timestamptz[])
    AS v(id, attempts, state, due_at, status, error, at)
WHERE d.id = v.id AND d.attempts = v.attempts AND d.state = 'pending'"""

# What an endpoint is like is told by those of its present form; in one order, so that two processes do not lock each other out.
JUDGE = """
UPDATE kernel.webhook_endpoints w
SET failing_since = CASE WHEN v.took THEN NULL ELSE coalesce(w.failing_since, $6) END,
    disabled_at = CASE WHEN v.gone OR (NOT v.took AND w.failing_since <= $7) THEN $6 END,
    disabled_reason = CASE WHEN v.gone THEN 'gone' WHEN NOT v.took AND w.failing_since <= $7 THEN 'failing' END
FROM unnest($1::uuid[], $2::int[], $3::bool[], $4::bool[]) AS v(id, version, took, gone)
WHERE w.id = v.id AND w.version = v.version AND w.disabled_at IS NULL
  AND (v.gone OR v.took = (w.failing_since IS NOT NULL) OR w.failing_since <= $7)
  AND w.id IN (SELECT id FROM kernel.webhook_endpoints WHERE id = ANY($5::uuid[]) ORDER BY id FOR NO KEY UPDATE)
RETURNING w.id, w.disabled_reason"""

log = structlog.get_logger("aitbc.webhooks")


class Leased(Struct, frozen=True):
    """A delivery to be attempted now."""

    id: UUID
    endpoint: UUID
    body: str
    attempts: int
    url: str
    version: int
    secret: bytes
    previous_secret: bytes | None
    previous_until: datetime | None


class Outcome(Struct, frozen=True):
    """What came of an attempt: a status, or no answer and the reason."""

    leased: Leased
    at: datetime
    status: int | None
    error: str | None

    @property
    def took(self) -> bool:
        """Whether the receiver has it."""
        return self.error is None

    @property
    def gone(self) -> bool:
        """Whether the receiver wants no more."""
        return self.status == STATUS_GONE

    @property
    def state(self) -> State:
        """What the delivery is now."""
        if self.took:
            return State.DELIVERED
        return State.DEAD if self.gone or self.leased.attempts > len(PAUSES) else State.PENDING

    @property
    def due_at(self) -> datetime:
        """When it is tried again, if it is."""
        if self.state is not State.PENDING:
            return self.at
        return self.at + PAUSES[self.leased.attempts - 1] * random.uniform(1 - JITTER, 1 + JITTER)

    @property
    def word(self) -> str:
        """As it is counted."""
        return "retried" if self.state is State.PENDING else self.state.value


class DeliveryWorker:
    """Sends what is due, for as long as the process lives."""

    def __init__(
        self,
        database: Database,
        seal: Seal,
        destinations: EgressPolicy,
        *,
        in_flight_max: int,
        draining: asyncio.Event | None = None,
    ) -> None:
        """The kernel's own database; nothing new is begun once `draining` is set."""
        self._database = database
        self._seal = seal
        self._destinations = destinations
        self._in_flight_max = in_flight_max
        self._draining = draining or asyncio.Event()
        self._wake = asyncio.Event()
        self._busy: Counter[UUID] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._notes: Batcher[Outcome, None] = Batcher(self._note_all)
        self._session: Any = None
        self.outcomes: Counter[str] = Counter({"delivered": 0, "retried": 0, "dead": 0})
        """How attempts ended."""

    def wake(self) -> None:
        """There may be something to send."""
        self._wake.set()

    async def run(self) -> None:
        """Send for ever; ends by cancellation, whatever is on its way."""
        if not self._in_flight_max:
            return
        pause = 0.0
        try:
            while not self._draining.is_set():
                try:
                    taken = await self.send_due()
                    pause = 0.0
                except AppError as error:
                    taken, pause = 0, min(pause * 2 or 0.5, 10.0)
                    log.warning("webhooks_paused", reason=error.message, seconds=pause)
                    await asyncio.sleep(pause)
                except Exception:
                    taken = 0
                    log.exception("webhooks_failed")
                if not taken:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._wake.wait(), IDLE_SECONDS)
                    self._wake.clear()
            await self.settled()  # what is on its way may arrive
        finally:
            await self.close()

    async def send_due(self) -> int:
        """Take what is due and begin to send it; answers how many there were."""
        room = self._in_flight_max - len(self._tasks)
        if room <= 0:
            return 0
        at = now()
        async with self._database.raw() as connection:
            rows = await connection.fetch(TAKE, at, list(self._busy), list(self._busy.values()), room, at + LEASE)
        for row in rows:
            leased = Leased(**dict(row))
            self._busy[leased.endpoint] += 1
            task = asyncio.create_task(self._attempt(leased))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return len(rows)

    async def settled(self) -> None:
        """Wait until nothing is on its way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Give up what is on its way; the end of its lease brings it again."""
        await end(self._tasks)
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _attempt(self, leased: Leased) -> None:
        try:
            outcome = await self._send(leased)
            await self._notes.do(outcome)
            self.outcomes[outcome.word] += 1
        except AppError as error:
            log.warning("webhook_outcome_not_noted", delivery=ids.encode("dlv", leased.id), reason=error.message)
        except Exception:
            log.exception("webhook_attempt_failed", delivery=ids.encode("dlv", leased.id))
        finally:
            self._busy[leased.endpoint] -= 1
            if not self._busy[leased.endpoint]:
                del self._busy[leased.endpoint]
            self._wake.set()

    async def _send(self, leased: Leased) -> Outcome:
        status, error = None, None
        try:
            client = await self._client()
            async with asyncio.timeout(ATTEMPT_SECONDS):
                status = await self._post(client, leased)
        except Exception as failure:  # noqa: BLE001 - whatever it is, the receiver did not take it
            error = _told(failure)
        if status is not None and not 200 <= status < 300:
            error = f"HTTP {status}" + ("; redirects are not followed" if 300 <= status < 400 else "")
        return Outcome(leased, now(), status, error)

    async def _post(self, client: Any, leased: Leased) -> int:
        self._destinations.check(leased.url)
        at, message, body = now(), ids.encode("dlv", leased.id), leased.body.encode()
        secrets = [leased.secret]
        if leased.previous_secret is not None and leased.previous_until is not None and leased.previous_until > at:
            secrets.append(leased.previous_secret)
        opened = [self._seal.open(secret).decode() for secret in secrets]
        timestamp = int(at.timestamp())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "aitbc-webhooks/1",
            "webhook-id": message,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signatures(opened, message, timestamp, body),
        }
        async with client.post(leased.url, data=body, headers=headers, allow_redirects=False) as answer:
            answer.close()  # whatever else it says, endlessly perhaps, is not read
            status: int = answer.status
            return status

    async def _client(self) -> Any:
        if self._session is None:  # loaded in a thread: it takes a while, and others need not wait for it
            outgoing = await asyncio.to_thread(import_module, "aitbc.server.webhooks.egress_client")
            self._session = self._session or outgoing.new_session(self._destinations, ATTEMPT_SECONDS)
        return self._session

    async def _note_all(self, outcomes: Sequence[Outcome]) -> Sequence[None]:
        # Endpoints before their deliveries, as whoever changes an endpoint locks them.
        async with self._database.raw_transaction() as connection:
            judged = await _judge_endpoints(connection, outcomes)
            await _note_deliveries(connection, outcomes)
        for row in judged:
            if row["disabled_reason"] is not None:
                endpoint = ids.encode("hook", row["id"])
                log.warning("webhook_endpoint_disabled", endpoint=endpoint, reason=row["disabled_reason"])
        return [None] * len(outcomes)


async def _judge_endpoints(connection: Connection, outcomes: Sequence[Outcome]) -> Sequence[Any]:
    """What the outcomes say about their endpoints; answers those that changed."""
    last = {outcome.leased.endpoint: outcome for outcome in sorted(outcomes, key=_weight)}
    at = now()
    return await connection.fetch(
        JUDGE,
        list(last),
        [outcome.leased.version for outcome in last.values()],
        [outcome.took for outcome in last.values()],
        [outcome.gone for outcome in last.values()],
        list(last),
        at,
        at - FAILING_MAX,
    )


async def _note_deliveries(connection: Connection, outcomes: Sequence[Outcome]) -> None:
    await connection.execute(
        NOTE,
        [outcome.leased.id for outcome in outcomes],
        [outcome.leased.attempts for outcome in outcomes],
        [outcome.state.value for outcome in outcomes],
        [outcome.due_at for outcome in outcomes],
        [outcome.status for outcome in outcomes],
        [outcome.error for outcome in outcomes],
        [outcome.at for outcome in outcomes],
    )


def _weight(outcome: Outcome) -> tuple[bool, bool]:
    """Of several outcomes of one endpoint the one that counts comes last: gone before taken, taken before failed."""
    return outcome.gone, outcome.took


def _told(failure: BaseException) -> str:
    """Why no answer came, in words that tell the owner of an endpoint nothing about our network."""
    if isinstance(failure, DestinationRefused):
        return failure.fields[0].message
    if isinstance(failure, NotPublic) or isinstance(getattr(failure, "os_error", None), NotPublic):
        return str(NotPublic.__doc__)
    if isinstance(failure, Unsealable):
        return "the secret cannot be read any more; rotate it"
    if isinstance(failure, TimeoutError):
        return f"no answer within {ATTEMPT_SECONDS:g} s"
    from aitbc.server.webhooks.egress_client import reason_of  # noqa: PLC0415 - see there

    return reason_of(failure) or f"the connection or the answer broke ({type(failure).__name__})"
