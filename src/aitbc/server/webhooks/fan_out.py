"""Fan-out: an event that concerns an account becomes a delivery for each of the account's endpoints that wants it.

It is a subscriber of the relays, in every process. It needs no inbox: event and endpoint together are the key of a
delivery, so that an event that comes twice is written once. An event without an endpoint costs one query and leaves no
row.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import structlog

from aitbc.kernel.database.outbox import Event
from aitbc.kernel.database.unit_of_work import Connection, Database
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError
from aitbc.kernel.primitives.ids import new_uuid
from aitbc.kernel.primitives.request_id import current_request_id, event_requests
from aitbc.kernel.primitives.trace_context import trace_id_of

BODY_BYTES_MAX = 20_000
"""A message is small: it names ids by which receivers may read more."""
BATCH_SECONDS = 0.02
QUEUED_MAX = 20_000
"""How many events may be queued for direct delivery; the relay delivers the others."""

FIND_ENDPOINTS = """
SELECT id, account, events FROM kernel.webhook_endpoints WHERE account = ANY($1::uuid[]) AND disabled_at IS NULL"""
# Through the endpoints once more: one that was removed since must not fail the others.
INSERT_DELIVERIES = """
INSERT INTO kernel.webhook_deliveries
    (id, endpoint, account, event, type, body, trace_id, state, attempts, created_at, due_at)
SELECT v.id, w.id, w.account, v.event, v.type, v.body, v.trace_id, 'pending', 0, $7, $7
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[])
    AS v(id, endpoint, event, type, body, trace_id)
JOIN kernel.webhook_endpoints w ON w.id = v.endpoint
FOR KEY SHARE OF w
ON CONFLICT (endpoint, event) DO NOTHING"""

log = structlog.get_logger("aitbc.webhooks")
Tell = Callable[[Sequence[tuple[UUID, Event]]], None]


def published_types() -> dict[str, type[Event]]:
    """The event types that are sent to webhooks: those that concern an account."""
    return {kind: event for kind, event in sorted(Event.registry.items()) if event.concerns}


def message(kind: str, at: datetime, data: Any) -> str:
    """The body of a message. Raises `ValueError` for one that is too large."""
    body = msgspec.json.encode({"type": kind, "timestamp": at, "data": data})
    if len(body) > BODY_BYTES_MAX:
        raise ValueError(f"a message of {len(body)} bytes is too large; send an id instead")
    return body.decode()


class _Queued(NamedTuple):
    """An event that waits for direct delivery."""

    id: UUID
    event: Event
    on_written: Callable[[UUID], object]
    request_id: str | None


class FanOut:
    """Writes a delivery for each event and endpoint."""

    name = "kernel.webhooks"

    def __init__(self, database: Database, wake: Callable[[], None], tell: Tell) -> None:
        """`database` is the kernel's; `wake` is called when there is something to send, `tell` with what it was."""
        self._database = database
        self._wake = wake
        self._tell = tell
        self._queued: list[_Queued] = []
        self._task: asyncio.Task[None] | None = None

    async def receive(self, events: Sequence[tuple[UUID, Event]]) -> None:
        """Write the deliveries of these events: all or none, and none twice. Then plugins are told of them."""
        await self._receive(events, event_requests.get())

    async def _receive(self, events: Sequence[tuple[UUID, Event]], requests: Mapping[UUID, str | None]) -> None:
        await self._write(events, requests)
        self._tell(events)

    async def _write(self, events: Sequence[tuple[UUID, Event]], requests: Mapping[UUID, str | None]) -> None:
        concerned = [(id_, event, account) for id_, event in events for account in _accounts_of(event)]
        if not concerned:
            return
        async with self._database.raw(writes=True) as connection:
            rows = await connection.fetch(FIND_ENDPOINTS, list({account for _, _, account in concerned}))
            deliveries = [
                (row["id"], id_, event)
                for id_, event, account in concerned
                for row in rows
                if row["account"] == account and (not row["events"] or event.kind in row["events"])
            ]
            if not deliveries:
                return
            await _insert_deliveries(connection, deliveries, requests)
        self._wake()

    def deliver(self, event_id: UUID, event: Event, on_written: Callable[[UUID], object]) -> None:
        """Queue an event for fan-out, without waiting; `on_written` gets its id once the deliveries are written.

        What cannot be written now is not reported, and the relay delivers it.
        """
        if len(self._queued) < QUEUED_MAX:
            self._queued.append(_Queued(event_id, event, on_written, current_request_id()))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while self._queued:
            await asyncio.sleep(BATCH_SECONDS)
            batch, self._queued = self._queued, []
            try:
                requests = {one.id: one.request_id for one in batch}
                await self._receive([(one.id, one.event) for one in batch], requests)
            except AppError as error:
                log.warning("webhook_events_deferred", count=len(batch), reason=error.message)
                continue
            except Exception:
                log.exception("webhook_events_failed", count=len(batch))
                continue
            for one in batch:
                one.on_written(one.id)

    async def close(self) -> None:
        """Write what is queued."""
        if self._task is not None:
            with suppress(asyncio.CancelledError):
                await self._task


def _accounts_of(event: Event) -> set[UUID]:
    named = (getattr(event, field) for field in event.concerns)
    return {ids.decode("acct", account) for account in named if ids.is_id("acct", account)}


async def _insert_deliveries(
    connection: Connection, deliveries: Sequence[tuple[UUID, UUID, Event]], requests: Mapping[UUID, str | None]
) -> None:
    bodies = {id_: message(event.kind, _published_at(id_), event.public()) for _, id_, event in deliveries}
    await connection.execute(
        INSERT_DELIVERIES,
        [new_uuid() for _ in deliveries],
        [endpoint for endpoint, _, _ in deliveries],
        [id_ for _, id_, _ in deliveries],
        [event.kind for _, _, event in deliveries],
        [bodies[id_] for _, id_, _ in deliveries],
        [trace_id_of(request) if (request := requests.get(id_)) is not None else None for _, id_, _ in deliveries],
        now(),
    )


def _published_at(event: UUID) -> datetime:
    """When an event was published: the timestamp of its UUIDv7."""
    return datetime.fromtimestamp((event.int >> 80) / 1000, UTC)
