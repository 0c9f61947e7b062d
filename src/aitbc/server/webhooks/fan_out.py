"""Hearing for webhooks: events that concern an account with an endpoint become deliveries.

One more ear of the relays, in every process. It needs no inbox: event and endpoint together name a delivery, so that an event
which is told again finds what is there, and an event for which nobody has an endpoint leaves no trace and costs one look.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import structlog

from aitbc.kernel.database.outbox import Event
from aitbc.kernel.database.unit_of_work import Connection, Database
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError
from aitbc.kernel.primitives.ids import new_uuid

BODY_BYTES_MAX = 20_000
"""A message is small: whoever wants more asks for it."""
GATHER_SECONDS = 0.02
QUEUED_MAX = 20_000
"""So many events wait to be heard directly; the relay brings the others."""

LISTENING = """
SELECT id, account, events FROM kernel.webhook_endpoints WHERE account = ANY($1::uuid[]) AND disabled_at IS NULL"""
# Through the endpoints once more: one that was removed since must not fail the others.
WRITE = """
INSERT INTO kernel.webhook_deliveries (id, endpoint, account, event, type, body, state, attempts, created_at, due_at)
SELECT v.id, w.id, w.account, v.event, v.type, v.body, 'pending', 0, $6, $6
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[]) AS v(id, endpoint, event, type, body)
JOIN kernel.webhook_endpoints w ON w.id = v.endpoint
FOR KEY SHARE OF w
ON CONFLICT (endpoint, event) DO NOTHING"""

log = structlog.get_logger("aitbc.webhooks")


def declared() -> dict[str, type[Event]]:
    """The events that may be told to an account, by type."""
    return {kind: event for kind, event in sorted(Event.registry.items()) if event.concerns is not None}


def message(kind: str, at: datetime, data: Any) -> str:
    """The body of a message. Raises `ValueError` for one that is too large to be told."""
    body = msgspec.json.encode({"type": kind, "timestamp": at, "data": data})
    if len(body) > BODY_BYTES_MAX:
        raise ValueError(f"a message of {len(body)} bytes is too large; tell an id instead")
    return body.decode()


class FanOut:
    """Writes the deliveries of events."""

    name = "kernel.webhooks"

    def __init__(self, database: Database, wake: Callable[[], None]) -> None:
        """The kernel's own database; `wake` is told that there is something to send."""
        self._database = database
        self._wake = wake
        self._queued: list[tuple[UUID, Event, Callable[[UUID], object]]] = []
        self._flight: asyncio.Task[None] | None = None

    async def receive(self, events: Sequence[tuple[UUID, Event]]) -> None:
        """Write what the endpoints of the accounts concerned are to be sent; all of it or nothing, and never twice."""
        about = [(id_, event, account) for id_, event in events if (account := _account_of(event)) is not None]
        if not about:
            return
        async with self._database.raw() as connection:
            rows = await connection.fetch(LISTENING, list({account for _, _, account in about}))
            wanted = [
                (row["id"], id_, event)
                for id_, event, account in about
                for row in rows
                if row["account"] == account and (not row["events"] or event.kind in row["events"])
            ]
            if not wanted:
                return
            await _write(connection, wanted)
        self._wake()

    def deliver(self, event_id: UUID, event: Event, on_written: Callable[[UUID], object]) -> None:
        """Queue an event for fan-out, without waiting; `on_written` is called with its id once the deliveries are written.

        What cannot be written now is not reported, and the relay delivers it.
        """
        if len(self._queued) < QUEUED_MAX:
            self._queued.append((event_id, event, on_written))
        if self._flight is None or self._flight.done():
            self._flight = asyncio.create_task(self._fly())

    async def _fly(self) -> None:
        while self._queued:
            await asyncio.sleep(GATHER_SECONDS)
            load, self._queued = self._queued, []
            try:
                await self.receive([(id_, event) for id_, event, _ in load])
            except AppError as error:
                log.warning("webhook_events_left_to_the_relay", count=len(load), reason=error.message)
                continue
            except Exception:
                log.exception("webhook_events_not_heard", count=len(load))
                continue
            for id_, _, on_written in load:
                on_written(id_)

    async def close(self) -> None:
        """Hear what was brought until now."""
        if self._flight is not None:
            with suppress(asyncio.CancelledError):
                await self._flight


def _account_of(event: Event) -> UUID | None:
    assert event.concerns is not None
    account = getattr(event, event.concerns)
    return ids.decode("acct", account) if ids.is_id("acct", account) else None


async def _write(connection: Connection, wanted: Sequence[tuple[UUID, UUID, Event]]) -> None:
    bodies = {id_: message(event.kind, _made_at(id_), event.public()) for _, id_, event in wanted}
    await connection.execute(
        WRITE,
        [new_uuid() for _ in wanted],
        [endpoint for endpoint, _, _ in wanted],
        [id_ for _, id_, _ in wanted],
        [event.kind for _, _, event in wanted],
        [bodies[id_] for _, id_, _ in wanted],
        now(),
    )


def _made_at(event: UUID) -> datetime:
    """When an event was told, by its id."""
    return datetime.fromtimestamp((event.int >> 80) / 1000, UTC)
