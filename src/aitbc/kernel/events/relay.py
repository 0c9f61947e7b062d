"""Deliver events from a module's outbox to their subscribers: at least once, which the inbox makes exactly once.

Lease due rows and commit; deliver them with no transaction open; then mark them delivered, or due again after
2**attempts seconds, guarded by the attempt number. After a crash the lease expires and the rows are due again. After
`ATTEMPTS_MAX` attempts an event is dead; a critical one is retried for ever, and each failure is logged as an error.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Protocol, TypeVar
from uuid import UUID

import structlog
from msgspec import Struct
from sqlalchemy import Uuid, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY

from aitbc.kernel.database.outbox import ATTEMPTS_MAX, Event, decode
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives.clock import elapsed, now
from aitbc.kernel.primitives.errors import AppError
from aitbc.kernel.primitives.request_id import event_requests, request_id
from aitbc.kernel.primitives.tasks import is_set_within

LEASE = timedelta(seconds=30)
BATCH_MAX = 500
DEBOUNCE_SECONDS = 0.05
"""The pause between two rounds of a busy relay: a round costs about the same for one event and for fifty."""
BACKOFF_SECONDS_MAX = 600
"""The longest pause between two attempts."""
AHEAD_MAX = timedelta(seconds=BACKOFF_SECONDS_MAX) + 4 * LEASE
"""An event that is due later than this was written, or tried, while the clock was ahead."""
CLOCK_CHECK_SECONDS = 30.0
IDLE_SECONDS = 2.0
"""How often the relay polls when nothing wakes it: a fallback."""

log = structlog.get_logger("aitbc.relay")
Handler = Callable[[Any, Sequence[Any]], Awaitable[None]]
"""Handles events in a unit of work or, if it is `set_based`, in a transaction on a raw connection."""
Method = TypeVar("Method", bound=Callable[..., Awaitable[None]])


class OutboxRow(Struct, frozen=True):
    """A leased row of the outbox."""

    id: UUID
    kind: str
    body: str
    attempts: int
    request_id: str | None


class Subscriber(Protocol):
    """A destination of events: a handler of this process or of another, or webhooks."""

    name: str

    async def receive(self, events: Sequence[tuple[UUID, Event]]) -> None:
        """Handle those of these events that were not handled before: all of them, or none."""


def set_based(method: Method) -> Method:
    """Mark a handler of frequent events: it gets a raw connection, not a unit of work, and publishes no events."""
    vars(method)["is_set_based"] = True
    return method


class EventHandler:
    """One handler of one module: handles each event once, in the transaction of its own changes."""

    def __init__(self, database: Database, name: str, handler: Handler) -> None:
        self.database = database
        self.name = name
        self._handler = handler
        self._is_set_based = getattr(handler, "is_set_based", False)

    async def receive(self, events: Sequence[tuple[UUID, Event]]) -> None:
        """Handle those of these events that were not handled before: all of them, or none."""
        if self._is_set_based:
            await self._receive_set_based(events)
        else:
            await self._receive(events)

    async def _receive_set_based(self, events: Sequence[tuple[UUID, Event]]) -> None:
        async with self.database.raw_transaction() as connection:
            fresh = await connection.fetch(
                f"INSERT INTO {self.database.module}.inbox (event_id, handler, heard_at) "  # noqa: S608 - a module's name
                "SELECT id, $2, $3 FROM unnest($1::uuid[]) AS id ON CONFLICT DO NOTHING RETURNING event_id",
                [id_ for id_, _ in events],
                self.name,
                now(),
            )
            unhandled = {row["event_id"] for row in fresh}
            if unhandled:
                await self._handler(connection, [event for id_, event in events if id_ in unhandled])

    async def _receive(self, events: Sequence[tuple[UUID, Event]]) -> None:
        schema = self.database.module
        async with self.database.unit_of_work() as uow:
            # Through the session, not the driver: only so is the insert part of the unit of work's transaction.
            fresh = await uow.session.execute(
                text(
                    f"INSERT INTO {schema}.inbox (event_id, handler, heard_at) "  # noqa: S608 - a module's name
                    "SELECT id, :handler, :at FROM unnest(CAST(:ids AS uuid[])) AS id "
                    "ON CONFLICT DO NOTHING RETURNING event_id"
                ).bindparams(bindparam("ids", type_=ARRAY(Uuid)), handler=self.name, at=now()),
                {"ids": [id_ for id_, _ in events]},
            )
            unhandled = set(fresh.scalars())
            if unhandled:
                await self._handler(uow, [event for id_, event in events if id_ in unhandled])


class Relay:
    """Delivers the events in one module's outbox, in rounds, until cancelled."""

    def __init__(self, database: Database, subscribers: Mapping[str, Sequence[Subscriber]]) -> None:
        self._database = database
        self._subscribers = subscribers
        self._wake = asyncio.Event()
        self._schema = database.module
        self._clock_checked_at = float("-inf")
        database.on_publish(self._wake.set)

    async def run(self) -> None:
        """Deliver until cancelled; cancelling is safe at any point, also within a delivery."""
        pause = 0.0
        while True:
            try:
                delivered = await self.deliver_due()
                pause = 0.0
            except Exception as error:  # noqa: BLE001 - whatever it is, events are delivered when it is over
                delivered, pause = 0, min(pause * 2 or 0.5, 10.0)
                reason = error.message if isinstance(error, AppError) else repr(error)
                log.warning("relay_paused", module=self._schema, reason=reason, seconds=pause)
                await asyncio.sleep(pause)
            if 0 < delivered < BATCH_MAX:  # the first event is delivered without delay; let the next ones collect
                await asyncio.sleep(DEBOUNCE_SECONDS)
            elif not delivered:
                await is_set_within(self._wake, IDLE_SECONDS)
                self._wake.clear()

    async def deliver_due(self) -> int:
        """Run one round: lease, deliver, mark. Returns how many events were leased."""
        if elapsed() - self._clock_checked_at > CLOCK_CHECK_SECONDS:
            await self._bring_forward()
            self._clock_checked_at = elapsed()
        due = await self._lease()
        by_kind: dict[str, list[OutboxRow]] = defaultdict(list)
        for row in due:
            by_kind[row.kind].append(row)
        delivered: list[OutboxRow] = []
        failed: list[tuple[OutboxRow, str]] = []
        for kind, group in by_kind.items():
            for row, error in await self._deliver(kind, group):
                if error is None:
                    delivered.append(row)
                else:
                    failed.append((row, error))
        await self._mark(delivered, failed)
        return len(due)

    async def _bring_forward(self) -> None:
        """Make due what the clock put off, when it was ahead for a while and is right again."""
        at = now()
        async with self._database.raw(writes=True) as connection:
            done = await connection.execute(
                f"UPDATE {self._schema}.outbox SET due_at = $1 "  # noqa: S608
                "WHERE delivered_at IS NULL AND dead_at IS NULL AND due_at > $2",
                at,
                at + AHEAD_MAX,
            )
        if count := int(done.rpartition(" ")[2]):
            log.warning("events_brought_forward", module=self._schema, count=count, meaning="the clock was ahead")

    async def _lease(self) -> list[OutboxRow]:
        at = now()
        async with self._database.raw(writes=True) as connection:
            rows = await connection.fetch(
                f"""WITH due AS (
                    SELECT id FROM {self._schema}.outbox
                    WHERE delivered_at IS NULL AND dead_at IS NULL AND due_at <= $1
                    ORDER BY due_at LIMIT {BATCH_MAX} FOR UPDATE SKIP LOCKED)
                UPDATE {self._schema}.outbox o SET attempts = o.attempts + 1, due_at = $2 FROM due
                WHERE o.id = due.id RETURNING o.id, o.kind, o.body, o.attempts, o.request_id""",  # noqa: S608
                at,
                at + LEASE,
            )
        return sorted((OutboxRow(*row) for row in rows), key=lambda row: row.id)

    async def _deliver(self, kind: str, group: list[OutboxRow]) -> list[tuple[OutboxRow, str | None]]:
        events: list[tuple[OutboxRow, Event]] = []
        outcome: dict[UUID, str | None] = {}
        for row in group:
            try:
                events.append((row, decode(row.kind, row.body)))
            except Exception as error:  # noqa: BLE001
                outcome[row.id] = f"it no longer decodes: {error}"
        for subscriber in self._subscribers.get(kind, ()):
            try:
                await _receive(subscriber, events)
            except Exception as error:  # noqa: BLE001
                log.warning(
                    "events_failed", subscriber=subscriber.name, kind=kind, count=len(events), reason=repr(error)
                )
                outcome |= await self._deliver_singly(subscriber, events)
        return [(row, outcome.get(row.id)) for row in group]

    async def _deliver_singly(
        self, subscriber: Subscriber, events: list[tuple[OutboxRow, Event]]
    ) -> dict[UUID, str | None]:
        outcome: dict[UUID, str | None] = {}
        for row, event in events:
            token = request_id.set(row.request_id)
            try:
                await _receive(subscriber, [(row, event)])
            except Exception as error:  # noqa: BLE001
                outcome[row.id] = f"{subscriber.name}: {error!r}"[:2000]
                log.warning(
                    "event_failed",
                    subscriber=subscriber.name,
                    event_id=str(row.id),
                    kind=row.kind,
                    reason=repr(error),
                )
            finally:
                request_id.reset(token)
        return outcome

    async def _mark(self, delivered: list[OutboxRow], failed: list[tuple[OutboxRow, str]]) -> None:
        at = now()
        async with self._database.raw(writes=True) as connection:
            if delivered:
                await connection.execute(
                    f"UPDATE {self._schema}.outbox o SET delivered_at = $1 "  # noqa: S608
                    "FROM unnest($2::uuid[], $3::int[]) AS d(id, attempts) WHERE o.id = d.id AND o.attempts = d.attempts",
                    at,
                    [row.id for row in delivered],
                    [row.attempts for row in delivered],
                )
            for row, reason in failed:
                given_up = row.attempts >= ATTEMPTS_MAX
                dead = given_up and not is_critical(row.kind)
                await connection.execute(
                    f"UPDATE {self._schema}.outbox SET due_at = $3, last_error = $4, dead_at = $5 "  # noqa: S608
                    "WHERE id = $1 AND attempts = $2",
                    row.id,
                    row.attempts,
                    at + backoff(row.attempts),
                    reason,
                    at if dead else None,
                )
                if given_up:
                    log.error(
                        "event_dead_lettered" if dead else "event_stuck",
                        event_id=str(row.id),
                        kind=row.kind,
                        attempts=row.attempts,
                        reason=reason,
                    )


async def _receive(subscriber: Subscriber, events: Sequence[tuple[OutboxRow, Event]]) -> None:
    """Have a subscriber receive events; meanwhile it can see which request published each."""
    token = event_requests.set({row.id: row.request_id for row, _ in events})
    try:
        await subscriber.receive([(row.id, event) for row, event in events])
    finally:
        event_requests.reset(token)


def is_critical(kind: str) -> bool:
    """Whether events of this kind are never given up."""
    event = Event.registry.get(kind)
    return event is not None and event.is_critical


def backoff(attempts: int) -> timedelta:
    """The pause after so many failed attempts: 2, 4, 8 … 600 seconds."""
    return timedelta(seconds=min(2 ** min(attempts, 16), BACKOFF_SECONDS_MAX))
