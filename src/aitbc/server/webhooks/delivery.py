"""The delivery worker: leases due deliveries, sends them concurrently, and records the outcomes.

A delivery is sent at least once, under one id: when a worker dies in the middle, another one leases it again after the
lease has expired. An endpoint has few requests in flight, and one that fails has a single one, so that a slow or dead
receiver delays nobody but itself. Response bodies are not read: the status says all.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from importlib import import_module
from typing import Any
from uuid import UUID

import structlog
from msgspec import Struct

from aitbc.kernel.crypto.sealing import Sealer, Unsealable
from aitbc.kernel.database.batcher import Batcher
from aitbc.kernel.database.unit_of_work import Connection, Database
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError
from aitbc.kernel.primitives.tasks import cancel_and_wait, is_set_within
from aitbc.kernel.primitives.trace_context import span_id_of, traceparent_of
from aitbc.kernel.telemetry.spans import Span, is_traced, record
from aitbc.server.webhooks.egress import DestinationRefused, EgressPolicy, NotPublic
from aitbc.server.webhooks.signing import signatures
from aitbc.server.webhooks.tables import State

TIMEOUT_SECONDS = 15.0
LEASE = timedelta(seconds=60)
RETRY_DELAYS = tuple(
    timedelta(seconds=seconds) for seconds in (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
)
"""The backoff schedule of Standard Webhooks, before the second and each further attempt; then the delivery is dead."""
JITTER = 0.1
FAILING_MAX = timedelta(days=3)
"""An endpoint that has failed for so long is disabled."""
IN_FLIGHT_PER_ENDPOINT = 4
POLL_SECONDS = 2.0
STATUS_GONE = 410

LEASE_DUE = f"""
WITH due AS (
    SELECT d.id FROM kernel.webhook_endpoints w
    LEFT JOIN unnest($2::uuid[], $3::int[]) AS busy(endpoint, count) ON busy.endpoint = w.id
    CROSS JOIN LATERAL (
        SELECT id, due_at FROM kernel.webhook_deliveries
        WHERE endpoint = w.id AND state = 'pending' AND due_at <= $1 ORDER BY due_at
        LIMIT greatest(0, CASE WHEN w.failing_since IS NULL THEN {IN_FLIGHT_PER_ENDPOINT} ELSE 1 END - coalesce(busy.count, 0))
        FOR UPDATE SKIP LOCKED) d
    WHERE w.disabled_at IS NULL ORDER BY d.due_at LIMIT $4)
UPDATE kernel.webhook_deliveries d SET attempts = d.attempts + 1, due_at = $5
FROM due, kernel.webhook_endpoints w WHERE d.id = due.id AND w.id = d.endpoint
RETURNING d.id, d.endpoint, d.body, d.attempts, d.trace_id, w.url, w.version, w.secret, w.previous_secret, w.previous_until"""  # noqa: S608

RECORD_OUTCOMES = """
UPDATE kernel.webhook_deliveries d
SET state = v.state, due_at = v.due_at, status = v.status, error = v.error, attempted_at = v.at,
    ended_at = CASE WHEN v.state <> 'pending' THEN v.at END
FROM unnest($1::uuid[], $2::int[], $3::text[], $4::timestamptz[], $5::int[], $6::text[], $7::timestamptz[])
    AS v(id, attempts, state, due_at, status, error, at)
WHERE d.id = v.id AND d.attempts = v.attempts AND d.state = 'pending'"""

# Only outcomes of the endpoint's current version count; locked in one order, so that two processes do not deadlock.
UPDATE_ENDPOINTS = """
UPDATE kernel.webhook_endpoints w
SET failing_since = CASE WHEN v.delivered THEN NULL ELSE coalesce(w.failing_since, $6) END,
    disabled_at = CASE WHEN v.gone OR (NOT v.delivered AND w.failing_since <= $7) THEN $6 END,
    disabled_reason = CASE WHEN v.gone THEN 'gone' WHEN NOT v.delivered AND w.failing_since <= $7 THEN 'failing' END
FROM unnest($1::uuid[], $2::int[], $3::bool[], $4::bool[]) AS v(id, version, delivered, gone)
WHERE w.id = v.id AND w.version = v.version AND w.disabled_at IS NULL
  AND (v.gone OR v.delivered = (w.failing_since IS NOT NULL) OR w.failing_since <= $7)
  AND w.id IN (SELECT id FROM kernel.webhook_endpoints WHERE id = ANY($5::uuid[]) ORDER BY id FOR NO KEY UPDATE)
RETURNING w.id, w.disabled_reason"""

log = structlog.get_logger("aitbc.webhooks")


class LeasedDelivery(Struct, frozen=True):
    """A leased delivery, with what is needed to send it."""

    id: UUID
    endpoint: UUID
    body: str
    attempts: int
    trace_id: str | None
    url: str
    version: int
    secret: bytes
    previous_secret: bytes | None
    previous_until: datetime | None

    @property
    def span(self) -> str:
        """The span of this attempt, in hexadecimal: it follows from the delivery and the number of the attempt."""
        return span_id_of(f"{ids.encode('dlv', self.id)}/{self.attempts}")


class Outcome(Struct, frozen=True):
    """The outcome of an attempt: a status, or the reason why no response came."""

    leased: LeasedDelivery
    at: datetime
    status: int | None
    error: str | None

    @property
    def is_delivered(self) -> bool:
        """Whether the receiver accepted it."""
        return self.error is None

    @property
    def is_gone(self) -> bool:
        """Whether the receiver answered 410 Gone: it wants no more."""
        return self.status == STATUS_GONE

    @property
    def state(self) -> State:
        """The state of the delivery after this attempt."""
        if self.is_delivered:
            return State.DELIVERED
        return State.DEAD if self.is_gone or self.leased.attempts > len(RETRY_DELAYS) else State.PENDING

    @property
    def due_at(self) -> datetime:
        """When it is due again, with jitter, if it is retried."""
        if self.state is not State.PENDING:
            return self.at
        return self.at + RETRY_DELAYS[self.leased.attempts - 1] * random.uniform(1 - JITTER, 1 + JITTER)

    @property
    def label(self) -> str:
        """The label of its metric."""
        return "retried" if self.state is State.PENDING else self.state.value


class DeliveryWorker:
    """Sends due deliveries, for as long as the process lives."""

    def __init__(
        self,
        database: Database,
        seal: Sealer,
        egress: EgressPolicy,
        *,
        in_flight_max: int,
        draining: asyncio.Event | None = None,
    ) -> None:
        """`database` is the kernel's; no attempt is begun once `draining` is set."""
        self._database = database
        self._seal = seal
        self._egress = egress
        self._in_flight_max = in_flight_max
        self._draining = draining or asyncio.Event()
        self._wake = asyncio.Event()
        self._in_flight: Counter[UUID] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._recorder: Batcher[Outcome, None] = Batcher(self._record)
        self._session: Any = None
        self.outcomes: Counter[str] = Counter({"delivered": 0, "retried": 0, "dead": 0})
        """Attempts by outcome."""

    def wake(self) -> None:
        """Look for due deliveries now."""
        self._wake.set()

    async def run(self) -> None:
        """Send until cancelled or draining."""
        if not self._in_flight_max:
            return
        pause = 0.0
        try:
            while not self._draining.is_set():
                try:
                    count = await self.send_due()
                    pause = 0.0
                except AppError as error:
                    count, pause = 0, min(pause * 2 or 0.5, 10.0)
                    log.warning("webhooks_paused", reason=error.message, seconds=pause)
                    await asyncio.sleep(pause)
                except Exception:
                    count = 0
                    log.exception("webhooks_failed")
                if not count:
                    await is_set_within(self._wake, POLL_SECONDS)
                    self._wake.clear()
            await self.wait_until_idle()  # requests in flight may complete
        finally:
            await self.close()

    async def send_due(self) -> int:
        """Lease due deliveries and begin to send them; returns how many."""
        room = self._in_flight_max - len(self._tasks)
        if room <= 0:
            return 0
        at = now()
        async with self._database.raw(writes=True) as connection:
            rows = await connection.fetch(
                LEASE_DUE, at, list(self._in_flight), list(self._in_flight.values()), room, at + LEASE
            )
        for row in rows:
            leased = LeasedDelivery(**dict(row))
            self._in_flight[leased.endpoint] += 1
            task = asyncio.create_task(self._attempt(leased))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return len(rows)

    async def wait_until_idle(self) -> None:
        """Wait until no request is in flight."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Cancel requests in flight; they are sent again when their lease expires."""
        await cancel_and_wait(self._tasks)
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _attempt(self, leased: LeasedDelivery) -> None:
        try:
            outcome = await self._send(leased)
            await self._recorder.do(outcome)
            self.outcomes[outcome.label] += 1
        except AppError as error:
            log.warning("webhook_outcome_lost", delivery=ids.encode("dlv", leased.id), reason=error.message)
        except Exception:
            log.exception("webhook_attempt_failed", delivery=ids.encode("dlv", leased.id))
        finally:
            self._in_flight[leased.endpoint] -= 1
            if not self._in_flight[leased.endpoint]:
                del self._in_flight[leased.endpoint]
            self._wake.set()

    async def _send(self, leased: LeasedDelivery) -> Outcome:
        status, error, began_at = None, None, now()
        try:
            client = await self._client()
            async with asyncio.timeout(TIMEOUT_SECONDS):
                status = await self._post(client, leased)
        except Exception as failure:  # noqa: BLE001 - whatever it is, the attempt failed
            error = _reason(failure)
        if status is not None and not 200 <= status < 300:
            error = f"HTTP {status}" + ("; redirects are not followed" if 300 <= status < 400 else "")
        outcome = Outcome(leased, now(), status, error)
        _trace(outcome, began_at)
        return outcome

    async def _post(self, client: Any, leased: LeasedDelivery) -> int:
        self._egress.check(leased.url)
        at, message, body = now(), ids.encode("dlv", leased.id), leased.body.encode()
        secrets = [leased.secret]
        if leased.previous_secret is not None and leased.previous_until is not None and leased.previous_until > at:
            secrets.append(leased.previous_secret)
        unsealed = [self._seal.unseal(secret).decode() for secret in secrets]
        timestamp = int(at.timestamp())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "aitbc-webhooks/1",
            "webhook-id": message,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signatures(unsealed, message, timestamp, body),
        }
        if leased.trace_id is not None:
            headers["traceparent"] = traceparent_of(leased.trace_id, leased.span)
        async with client.post(leased.url, data=body, headers=headers, allow_redirects=False) as answer:
            answer.close()  # the body, which may be endless, is not read
            status: int = answer.status
            return status

    async def _client(self) -> Any:
        if self._session is None:  # imported in a thread, since it would hold up the event loop
            egress_client = await asyncio.to_thread(import_module, "aitbc.server.webhooks.egress_client")
            self._session = self._session or egress_client.new_session(self._egress, TIMEOUT_SECONDS)
        return self._session

    async def _record(self, outcomes: Sequence[Outcome]) -> Sequence[None]:
        # Endpoints before their deliveries, as whoever changes an endpoint locks them.
        async with self._database.raw_transaction() as connection:
            changed = await _update_endpoints(connection, outcomes)
            await _record_deliveries(connection, outcomes)
        for row in changed:
            if row["disabled_reason"] is not None:
                endpoint = ids.encode("hook", row["id"])
                log.warning("webhook_endpoint_disabled", endpoint=endpoint, reason=row["disabled_reason"])
        return [None] * len(outcomes)


async def _update_endpoints(connection: Connection, outcomes: Sequence[Outcome]) -> Sequence[Any]:
    """Update the health of the endpoints by these outcomes; returns those that changed."""
    last = {outcome.leased.endpoint: outcome for outcome in sorted(outcomes, key=_precedence)}
    at = now()
    return await connection.fetch(
        UPDATE_ENDPOINTS,
        list(last),
        [outcome.leased.version for outcome in last.values()],
        [outcome.is_delivered for outcome in last.values()],
        [outcome.is_gone for outcome in last.values()],
        list(last),
        at,
        at - FAILING_MAX,
    )


async def _record_deliveries(connection: Connection, outcomes: Sequence[Outcome]) -> None:
    await connection.execute(
        RECORD_OUTCOMES,
        [outcome.leased.id for outcome in outcomes],
        [outcome.leased.attempts for outcome in outcomes],
        [outcome.state.value for outcome in outcomes],
        [outcome.due_at for outcome in outcomes],
        [outcome.status for outcome in outcomes],
        [outcome.error for outcome in outcomes],
        [outcome.at for outcome in outcomes],
    )


def _trace(outcome: Outcome, began_at: datetime) -> None:
    """Tell the span of an attempt, if anybody collects spans."""
    leased = outcome.leased
    if is_traced() and leased.trace_id is not None:
        told: dict[str, str | int] = {"aitbc.delivery": ids.encode("dlv", leased.id)}
        told["aitbc.attempt_number"] = leased.attempts
        if outcome.status is not None:
            told["http.response.status_code"] = outcome.status
        record(
            Span(
                name="webhook send",
                request_id=leased.trace_id,
                began_at=min(began_at, outcome.at),
                ended_at=outcome.at,
                id=leased.span,
                attributes=told,
                failed=not outcome.is_delivered,
            )
        )


def _precedence(outcome: Outcome) -> tuple[bool, bool]:
    """Sort key: of several outcomes of one endpoint the last counts; failed, then delivered, then gone."""
    return outcome.is_gone, outcome.is_delivered


def _reason(failure: BaseException) -> str:
    """Why no response came, in words that reveal nothing about our network to the owner of an endpoint."""
    if isinstance(failure, DestinationRefused):
        return failure.fields[0].message
    if isinstance(failure, NotPublic) or isinstance(getattr(failure, "os_error", None), NotPublic):
        return str(NotPublic.__doc__)
    if isinstance(failure, Unsealable):
        return "the secret cannot be read any more; rotate it"
    if isinstance(failure, TimeoutError):
        return f"no answer within {TIMEOUT_SECONDS:g} s"
    from aitbc.server.webhooks.egress_client import reason_of  # noqa: PLC0415 - see there

    return reason_of(failure) or f"the connection or the answer broke ({type(failure).__name__})"
