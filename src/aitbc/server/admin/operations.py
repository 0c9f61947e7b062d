"""The operator's view of outbox events and the audit trail, over all schemas of this process."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Struct
from prometheus_client import Metric
from sqlalchemy import column, select, table, text, update

from aitbc.kernel.database.outbox import ATTEMPTS_MAX, Event
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Conflict, Invalid, NotFound
from aitbc.kernel.primitives.json_schema import one_of
from aitbc.kernel.telemetry.metrics import gauge
from aitbc.server.admin.retention import Retention

_WHERE = {
    "pending": "delivered_at IS NULL AND dead_at IS NULL",
    "stuck": f"delivered_at IS NULL AND dead_at IS NULL AND attempts >= {ATTEMPTS_MAX} AND last_error IS NOT NULL",
    "delivered": "delivered_at IS NOT NULL",
    "dead": "dead_at IS NOT NULL",
}
"""By the state that is asked for; only critical events are ever stuck, the others are dead by then."""


class EventNotFound(NotFound):
    """There is no such event."""

    code = "event_not_found"


class EventNotDead(Conflict):
    """This event has not died: it was delivered, or it is still being tried."""

    code = "event_not_dead"


class EventNotStuck(Conflict):
    """This event is not stuck: it was delivered or is dead, or it is still being tried as often as any other."""

    code = "event_not_stuck"


class UnknownModule(Invalid):
    """There is no such module in this process."""

    code = "unknown_module"


class ToldEvent(Struct, frozen=True, kw_only=True):
    """An event in an outbox, with the state of its delivery."""

    id: str
    """The event. For example `evt_01k0000000000000000000000a`."""
    module: str
    """The module that published it. For example `ai`."""
    kind: str
    """What happened. For example `ai.job_succeeded`."""
    state: Annotated[str, one_of(("pending", "stuck", "delivered", "dead"))]
    """How far its delivery is; `stuck` is pending after as many failures as others die of."""
    attempts: int
    """How often delivery was tried. For example `1`."""
    created_at: datetime
    """When it was published."""
    due_at: datetime
    """When delivery is tried next."""
    delivered_at: datetime | None
    """When every subscriber had it; null before."""
    last_error: str | None
    """What was wrong with the last try; null where nothing was. For example `Unavailable`."""
    request_id: str | None
    """The request that caused it. For example `req_01k0000000000000000000000a`."""
    body: str
    """The event as JSON, as it is stored. For example `{"job": "job_01k0000000000000000000000a"}`."""


class AuditEntry(Struct, frozen=True, kw_only=True):
    """An entry of the audit trail: who did what to what."""

    module: str
    """The module that wrote it. For example `ai`."""
    number: int
    """Its number within the module. For example `17`."""
    at: datetime
    """When it was written."""
    account: str
    """Who did it. For example `acct_01k0000000000000000000000a`."""
    key: str
    """With which key. For example `key_01k0000000000000000000000a`."""
    action: str
    """What was done. For example `job.cancel`."""
    object: str
    """What it was done to. For example `job_01k0000000000000000000000a`."""
    details: dict[str, Any]
    """More about it, by name."""
    request_id: str | None
    """The request; null where there was none. For example `req_01k0000000000000000000000a`."""


class Operations:
    """Reads and replays outbox events, and reads the audit trail, in every schema."""

    def __init__(self, databases: Mapping[str, Database]) -> None:
        self._databases = databases

    def _selected(self, module: str | None) -> Sequence[Database]:
        if module is None:
            return list(self._databases.values())
        if module not in self._databases:
            raise UnknownModule
        return [self._databases[module]]

    async def events(
        self, *, state: str | None, module: str | None, limit: int, before: str | None
    ) -> Sequence[ToldEvent]:
        """Events from the newest on. Raises `UnknownModule`, `EventNotFound` for a malformed `before`."""
        found: list[ToldEvent] = []
        where = _WHERE[state] if state is not None else "true"
        edge = _uuid(before) if before is not None else UUID(int=2**128 - 1)
        for database in self._selected(module):
            async with database.raw() as connection:
                rows = await connection.fetch(
                    f"SELECT * FROM {database.module}.outbox WHERE {where} AND id < $1 ORDER BY id DESC LIMIT $2",  # noqa: S608
                    edge,
                    limit,
                )
            found += [_event(database.module, row) for row in rows]
        return sorted(found, key=lambda event: event.id, reverse=True)[:limit]

    async def replay(self, who: Principal, event: str) -> ToldEvent:
        """Try a dead event again from its first attempt. Raises `EventNotFound`, `EventNotDead`."""
        id_ = _uuid(event)
        for database in self._databases.values():
            outbox = table("outbox", *map(column, ("id", "dead_at", "attempts", "due_at")), schema=database.module)
            async with database.unit_of_work() as uow:
                dead = (outbox.c.id == id_, outbox.c.dead_at.is_not(None))
                change = update(outbox).where(*dead).values(dead_at=None, attempts=0, due_at=now()).returning(text("*"))
                row = (await uow.session.execute(change)).mappings().one_or_none()
                known = row or await uow.session.scalar(select(outbox.c.id).where(outbox.c.id == id_))
                if row is not None:
                    await uow.audit(who.account, who.key, "event.replay", event)
            if row is not None:
                database.notify_published()
                return _event(database.module, row)
            if known is not None:
                raise EventNotDead
        raise EventNotFound

    async def end(self, who: Principal, event: str, reason: str) -> ToldEvent:
        """Give up a stuck event: it is dead, and is tried no more unless it is replayed.

        What it should have done is not done, and is the operator's from here on. Raises `EventNotFound`,
        `EventNotStuck`.
        """
        id_ = _uuid(event)
        for database in self._databases.values():
            names = ("id", "dead_at", "delivered_at", "attempts", "last_error")
            outbox = table("outbox", *map(column, names), schema=database.module)
            async with database.unit_of_work() as uow:
                # The attempt that may be under way has the number before, so that it marks nothing any more.
                change = (
                    update(outbox)
                    .where(outbox.c.id == id_, text(_WHERE["stuck"]))
                    .values(dead_at=now(), attempts=outbox.c.attempts + 1)
                    .returning(text("*"))
                )
                row = (await uow.session.execute(change)).mappings().one_or_none()
                known = row or await uow.session.scalar(select(outbox.c.id).where(outbox.c.id == id_))
                if row is not None:
                    await uow.audit(who.account, who.key, "event.end", event, kind=row["kind"], reason=reason)
            if row is not None:
                return _event(database.module, row)
            if known is not None:
                raise EventNotStuck
        raise EventNotFound

    async def audit(
        self, *, module: str | None, limit: int, after: tuple[datetime, str, int] | None, action: str | None = None
    ) -> Sequence[AuditEntry]:
        """Audit entries from the newest on, those of one moment by module and number; `after` is the last one seen."""
        found: list[AuditEntry] = []
        at, place, number = after or (None, "", 0)
        for database in self._selected(module):
            async with database.raw() as connection:
                rows = await connection.fetch(
                    "SELECT id, at, account, key, action, object, details::text AS details, request_id "  # noqa: S608
                    f"FROM {database.module}.audit WHERE ($1::timestamptz IS NULL OR at <= $1) "
                    "AND ($1::timestamptz IS NULL OR (at, $5::text, id) < ($1, $2::text, $3::bigint)) "
                    "AND ($4::text IS NULL OR action = $4) ORDER BY at DESC, id DESC LIMIT $6",
                    at,
                    place,
                    number,
                    action,
                    database.module,
                    limit,
                )
            found += [_entry(database.module, row) for row in rows]
        return sorted(found, key=lambda entry: (entry.at, entry.module, entry.number), reverse=True)[:limit]

    async def measure(self) -> Sequence[Metric]:
        """Metrics: pending, stuck and dead events, and the delay of the oldest, by module."""
        events = gauge("aitbc_events", "Events that are pending or dead.", ("module", "state"))
        stuck = gauge(
            "aitbc_events_stuck",
            "Pending events that are never given up, after as many failures as others die of.",
            ("module",),
        )
        late = gauge("aitbc_event_delay_seconds", "By how much the event that is due longest is late.", ("module",))
        for database in self._databases.values():
            async with database.raw() as connection:
                row = await connection.fetchrow(
                    f"SELECT (SELECT count(*) FROM {database.module}.outbox WHERE {_WHERE['pending']}) AS pending, "  # noqa: S608
                    f"(SELECT count(*) FROM {database.module}.outbox WHERE {_WHERE['dead']}) AS dead, "
                    f"(SELECT count(*) FROM {database.module}.outbox WHERE {_WHERE['pending']} "
                    f"AND attempts >= {ATTEMPTS_MAX} AND kind = ANY($1::text[]) AND last_error IS NOT NULL) AS stuck, "
                    f"(SELECT min(due_at) FROM {database.module}.outbox WHERE {_WHERE['pending']}) AS due",
                    [kind for kind, event in Event.registry.items() if event.is_critical],
                )
            assert row is not None
            for state in ("pending", "dead"):
                events.add_metric([database.module, state], float(row[state]))
            stuck.add_metric([database.module], float(row["stuck"]))
            delay = (now() - row["due"]).total_seconds() if row["due"] is not None else 0.0
            late.add_metric([database.module], max(0.0, delay))
        return [events, stuck, late]

    async def purge(self, retention: Retention) -> int:
        """Delete delivered events, inbox rows and stored answers that are kept no longer, in bounded steps.

        Returns how many.
        """
        removed, at = 0, now()
        events, answers = at - retention.of_events(), at - retention.of_answers()
        for database in self._databases.values():
            schema = database.module
            async with database.raw(writes=True) as connection:
                for table, column, before in (
                    ("outbox", "delivered_at", events),
                    ("inbox", "heard_at", events),
                    ("answers", "created_at", answers),
                ):
                    done = await connection.execute(
                        f"DELETE FROM {schema}.{table} WHERE ctid = ANY(ARRAY("  # noqa: S608
                        f"SELECT ctid FROM {schema}.{table} WHERE {column} < $1 LIMIT 10000))",
                        before,
                    )
                    removed += int(done.rpartition(" ")[2])
        return removed


def _uuid(event: str) -> UUID:
    try:
        return ids.decode("evt", event)
    except ids.MalformedId:
        raise EventNotFound from None


def _event(module: str, row: Any) -> ToldEvent:
    failed = row["attempts"] >= ATTEMPTS_MAX and row["last_error"] is not None
    waits = "stuck" if failed else "pending"
    state = "dead" if row["dead_at"] else "delivered" if row["delivered_at"] else waits
    return ToldEvent(
        id=ids.encode("evt", row["id"]),
        module=module,
        kind=row["kind"],
        state=state,
        attempts=row["attempts"],
        created_at=row["created_at"],
        due_at=row["due_at"],
        delivered_at=row["delivered_at"],
        last_error=row["last_error"],
        request_id=row["request_id"],
        body=row["body"],
    )


def _entry(module: str, row: Any) -> AuditEntry:
    return AuditEntry(
        module=module,
        number=row["id"],
        at=row["at"],
        account=row["account"],
        key=row["key"],
        action=row["action"],
        object=row["object"],
        details=msgspec.json.decode(row["details"]),
        request_id=row["request_id"],
    )
