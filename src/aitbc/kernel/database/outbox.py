"""The transactional outbox: events between modules, written in the transaction of the change, handled exactly once."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar, TypeVar

import asyncpg
import msgspec
from msgspec import Struct

from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.ids import new_uuid
from aitbc.kernel.primitives.request_id import current_request_id

ATTEMPTS_MAX = 10
"""After this many failed deliveries an event is a dead letter until an operator replays it; a critical one is stuck."""
BODY_BYTES_MAX = 64 * 1024

E = TypeVar("E", bound="Event")


class Event(Struct, frozen=True, kw_only=True):
    """Something that happened, published to other modules. Carries ids and plain values; delivery is not ordered."""

    kind: ClassVar[str]
    concerns: ClassVar[tuple[str, ...]] = ()
    """The fields with the accounts that get this event as a webhook; none for an internal event."""
    is_critical: ClassVar[bool] = False
    """Whether it is never given up: one that money waits for is retried until it is delivered, and raises an alarm."""
    registry: ClassVar[dict[str, type["Event"]]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        kind = cls.__dict__.get("kind")
        if not isinstance(kind, str) or kind.count(".") != 1:
            raise TypeError(f"{cls.__name__} must state its kind as 'module.thing_done'")
        for field in cls.concerns:
            if field not in cls.__annotations__:
                raise TypeError(f"{cls.__name__} has no field {field} with an account that it concerns")
        other = Event.registry.get(kind)
        if other is not None and other.__qualname__ != cls.__qualname__:
            raise TypeError(f"the kind {kind} belongs to {other.__qualname__}")
        Event.registry[kind] = cls

    def public(self) -> Mapping[str, Any]:
        """The payload of the webhook: few plain values, with public ids, that the account can read elsewhere too.

        Every event with `concerns` defines it.
        """
        raise NotImplementedError


def encode(event: Event) -> str:
    """The JSON of an event, for its outbox row."""
    body = msgspec.json.encode(event)
    if len(body) > BODY_BYTES_MAX:
        raise ValueError(f"an event of {len(body)} bytes is too large to publish; send an id instead")
    return body.decode()


def decode(kind: str, body: str) -> Event:
    """The event in an outbox row; raises `msgspec.ValidationError` or `KeyError` when it no longer decodes."""
    return msgspec.json.decode(body, type=Event.registry[kind])


def outbox_values(
    events: Sequence[Event], *, delay: timedelta = timedelta(), requests: Sequence[str | None] | None = None
) -> list[dict[str, Any]]:
    """The outbox rows of events; `delay` keeps the relay from them while direct delivery is tried first.

    What is delayed is due at the whole second before, so that the relay delivers in one round what came in one second.

    `requests` holds the request id of each event, where that is not the request that this task serves.
    """
    at = now()
    due_at = (at + delay).replace(microsecond=0) if delay else at
    request_ids = [current_request_id()] * len(events) if requests is None else requests
    return [
        {
            "id": new_uuid(),
            "kind": event.kind,
            "body": encode(event),
            "request_id": request_id,
            "created_at": at,
            "due_at": due_at,
            "attempts": 0,
        }
        for event, request_id in zip(events, request_ids, strict=True)
    ]


def outbox_insert(
    schema: str,
    events: Sequence[Event],
    *,
    delay: timedelta = timedelta(),
    requests: Sequence[str | None] | None = None,
) -> tuple[str, list[list[Any]]]:
    """The INSERT of events into a module's outbox, and its parameters column by column; the first column is the ids."""
    rows = outbox_values(events, delay=delay, requests=requests)
    columns = ("id", "kind", "body", "request_id", "created_at", "due_at")
    statement = (
        f"INSERT INTO {schema}.outbox ({', '.join(columns)}, attempts) "  # noqa: S608 - the schema is a module's name
        "SELECT *, 0 FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[])"
    )
    return statement, [[row[column] for row in rows] for column in columns]


async def publish_many(
    connection: "asyncpg.Connection[asyncpg.Record]",
    schema: str,
    events: Sequence[Event],
    *,
    delay: timedelta = timedelta(),
    requests: Sequence[str | None] | None = None,
) -> None:
    """Write events into a module's outbox on a raw connection, in its open transaction.

    In a batch that serves many requests, `requests` holds the request id of each event.
    """
    if events:
        statement, columns = outbox_insert(schema, events, delay=delay, requests=requests)
        await connection.execute(statement, *columns)
