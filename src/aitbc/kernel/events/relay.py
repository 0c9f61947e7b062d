"""Takes due events out of an outbox and brings each to its hearers, at least once; the inbox makes that exactly once.

Lease due rows and commit; bring them to the hearers with no transaction open; then mark them delivered, or due again after
2**attempts seconds, guarded by the attempt number. A crash is healed by the lease's end.
"""

import asyncio
import contextlib
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
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError
from aitbc.kernel.primitives.request_id import request_id

LEASE = timedelta(seconds=30)
BATCH_MAX = 500
GATHER_SECONDS = 0.05
"""Between two rounds of a busy relay: a round costs much the same for one event and for fifty."""
IDLE_SECONDS = 2.0
"""How long the relay sleeps when nobody wakes it: the fall-back, not the way."""

log = structlog.get_logger("aitbc.relay")
Handler = Callable[[Any, Sequence[Any]], Awaitable[None]]
"""Hears events in a unit of work or, if it is `set_based`, on a raw connection in a transaction."""
Method = TypeVar("Method", bound=Callable[..., Awaitable[None]])


class Told(Struct, frozen=True):
    """An event with the id of its outbox row."""

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
    """A handler of events that are told all day: it gets a raw connection instead of a unit of work, and tells nothing itself."""
    vars(method)["is_set_based"] = True
    return method


class EventHandler:
    """One handler of one module: hears each event once, in the transaction of its own work."""

    def __init__(self, database: Database, name: str, handler: Handler) -> None:
        self.database = database
        self.name = name
        self._handler = handler
        self._is_set_based = getattr(handler, "is_set_based", False)

    async def receive(self, events: Sequence[tuple[UUID, Event]]) -> None:
        """Handle those of these events that were not handled before: all of them, or none."""
        if self._is_set_based:
            await self._receive_at_once(events)
        else:
            await self._receive(events)

    async def _receive_at_once(self, told: Sequence[tuple[UUID, Event]]) -> None:
        async with self.database.raw_transaction() as connection:
            fresh = await connection.fetch(
                f"INSERT INTO {self.database.module}.inbox (event_id, handler, heard_at) "  # noqa: S608 - a module's name
                "SELECT id, $2, $3 FROM unnest($1::uuid[]) AS id ON CONFLICT DO NOTHING RETURNING event_id",
                [id_ for id_, _ in told],
                self.name,
                now(),
            )
            new = {row["event_id"] for row in fresh}
            events = [event for id_, event in told if id_ in new]
            if events:
                await self._handler(connection, events)

    async def _receive(self, told: Sequence[tuple[UUID, Event]]) -> None:
        schema = self.database.module
        async with self.database.unit_of_work() as uow:
            # Through the session, not the driver: only there is the insert part of the transaction it belongs to.
            fresh = await uow.session.execute(
                text(
                    f"INSERT INTO {schema}.inbox (event_id, handler, heard_at) "  # noqa: S608 - a module's name
                    "SELECT id, :handler, :at FROM unnest(CAST(:ids AS uuid[])) AS id "
                    "ON CONFLICT DO NOTHING RETURNING event_id"
                ).bindparams(bindparam("ids", type_=ARRAY(Uuid)), handler=self.name, at=now()),
                {"ids": [id_ for id_, _ in told]},
            )
            new = set(fresh.scalars())
            events = [event for id_, event in told if id_ in new]
            if events:
                await self._handler(uow, events)


class Relay:
    """Delivers the outbox of one module."""

    def __init__(self, database: Database, event_handlers: Mapping[str, Sequence[Subscriber]]) -> None:
        self._database = database
        self._hearers = event_handlers
        self._wake = asyncio.Event()
        self._schema = database.module
        database.on_publish(self._wake.set)

    async def run(self) -> None:
        """Deliver for ever; ends by cancellation, between or inside deliveries, harmlessly."""
        pause = 0.0
        while True:
            try:
                delivered = await self.deliver_due()
                pause = 0.0
            except AppError as error:
                delivered, pause = 0, min(pause * 2 or 0.5, 10.0)
                log.warning("relay_paused", module=self._schema, reason=error.message, seconds=pause)
                await asyncio.sleep(pause)
            if 0 < delivered < BATCH_MAX:  # whoever waits for the first event has it; let those behind it gather
                await asyncio.sleep(GATHER_SECONDS)
            elif not delivered:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), IDLE_SECONDS)
                self._wake.clear()

    async def deliver_due(self) -> int:
        """One round: lease, bring, mark. Answers how many events were taken."""
        due = await self._lease()
        by_kind: dict[str, list[Told]] = defaultdict(list)
        for told in due:
            by_kind[told.kind].append(told)
        delivered: list[Told] = []
        failed: list[tuple[Told, str]] = []
        for kind, group in by_kind.items():
            for told, error in await self._bring(kind, group):
                if error is None:
                    delivered.append(told)
                else:
                    failed.append((told, error))
        await self._mark(delivered, failed)
        return len(due)

    async def _lease(self) -> list[Told]:
        at = now()
        async with self._database.raw() as connection:
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
        told = [Told(*row) for row in rows]
        return sorted(told, key=lambda event: event.id)

    async def _bring(self, kind: str, group: list[Told]) -> list[tuple[Told, str | None]]:
        events: list[tuple[Told, Event]] = []
        outcome: dict[UUID, str | None] = {}
        for told in group:
            try:
                events.append((told, decode(told.kind, told.body)))
            except Exception as error:  # noqa: BLE001
                outcome[told.id] = f"it no longer decodes: {error}"
        for hearer in self._hearers.get(kind, ()):
            try:
                await hearer.receive([(told.id, event) for told, event in events])
            except Exception as error:  # noqa: BLE001
                log.warning("events_refused", hearer=hearer.name, kind=kind, count=len(events), reason=repr(error))
                outcome |= await self._bring_singly(hearer, events)
        return [(told, outcome.get(told.id)) for told in group]

    async def _bring_singly(self, hearer: Subscriber, events: list[tuple[Told, Event]]) -> dict[UUID, str | None]:
        outcome: dict[UUID, str | None] = {}
        for told, event in events:
            token = request_id.set(told.request_id)
            try:
                await hearer.receive([(told.id, event)])
            except Exception as error:  # noqa: BLE001
                outcome[told.id] = f"{hearer.name}: {error!r}"[:2000]
                log.warning(
                    "event_refused", hearer=hearer.name, event_id=str(told.id), kind=told.kind, reason=repr(error)
                )
            finally:
                request_id.reset(token)
        return outcome

    async def _mark(self, delivered: list[Told], failed: list[tuple[Told, str]]) -> None:
        at = now()
        async with self._database.raw() as connection:
            if delivered:
                await connection.execute(
                    f"UPDATE {self._schema}.outbox o SET delivered_at = $1 "  # noqa: S608
                    "FROM unnest($2::uuid[], $3::int[]) AS d(id, attempts) WHERE o.id = d.id AND o.attempts = d.attempts",
                    at,
                    [told.id for told in delivered],
                    [told.attempts for told in delivered],
                )
            for told, reason in failed:
                dead = told.attempts >= ATTEMPTS_MAX
                await connection.execute(
                    f"UPDATE {self._schema}.outbox SET due_at = $3, last_error = $4, dead_at = $5 "  # noqa: S608
                    "WHERE id = $1 AND attempts = $2",
                    told.id,
                    told.attempts,
                    at + timedelta(seconds=2**told.attempts),
                    reason,
                    at if dead else None,
                )
                if dead:
                    log.error("event_died", event_id=str(told.id), kind=told.kind, reason=reason)
