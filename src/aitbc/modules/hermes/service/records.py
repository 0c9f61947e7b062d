"""Records of the older dialect: kept, listed and ended; what they mean is the legacy room's."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import NotFound, TooMany
from aitbc.modules.hermes.models.tables import RecordRow
from aitbc.modules.hermes.service.views import encoded

PER_ACCOUNT_MAX = 10_000


class RecordNotFound(NotFound):
    """There is no such record."""

    code = "agent_record_not_found"


class TooManyRecords(TooMany):
    """This account has kept as many of these as it may."""

    code = "too_many_agent_records"


class Records:
    """Keeps records."""

    def __init__(self, db: Database) -> None:
        self._db = db

    @retrying
    async def keep(self, who: Principal, kind: str, body: Any, *, parent: str = "", name: str = "") -> RecordRow:
        """Keep one; another of the same kind, parent, account and name takes its place. Raises `TooManyRecords`."""
        fresh = ids.new_id("rec")
        values = {"body": encoded(body), "created_at": now(), "ended_at": None}
        wanted = insert(RecordRow).values(
            id=fresh, account=who.account, kind=kind, parent=parent, name=name or fresh, **values
        )
        key = [RecordRow.kind, RecordRow.parent, RecordRow.account, RecordRow.name]
        async with self._db.unit_of_work() as uow:
            mine = (RecordRow.account == who.account, RecordRow.kind == kind)
            if (await uow.session.scalar(select(func.count()).select_from(RecordRow).where(*mine)) or 0) >= (
                PER_ACCOUNT_MAX
            ):
                raise TooManyRecords
            kept = wanted.on_conflict_do_update(index_elements=key, set_=values).returning(RecordRow.id)
            identity = (await uow.session.execute(kept)).scalar_one()
            return await uow.session.get_one(RecordRow, identity)

    async def one(self, kind: str, record: str) -> RecordRow:
        """A record, whoever kept it. Raises `RecordNotFound`."""
        async with self._db.unit_of_work() as uow:
            row = await uow.find(RecordRow, record, missing=RecordNotFound)
        if row.kind != kind:
            raise RecordNotFound
        return row

    async def below(self, kind: str, parent: str | None = None, limit: int = 1000) -> Sequence[RecordRow]:
        """The records of a kind that have not ended, below a parent or any, from the oldest on."""
        found = select(RecordRow).where(RecordRow.kind == kind, RecordRow.ended_at.is_(None))
        if parent is not None:
            found = found.where(RecordRow.parent == parent)
        async with self._db.reading() as session:
            return (await session.scalars(found.order_by(RecordRow.id).limit(limit))).all()

    @retrying
    async def end(self, who: Principal, kind: str, parent: str) -> int:
        """End the caller's records of a kind below a parent; answers how many there were."""
        mine = (RecordRow.kind == kind, RecordRow.parent == parent, RecordRow.account == who.account)
        async with self._db.unit_of_work() as uow:
            rows = (await uow.session.scalars(select(RecordRow).where(*mine).with_for_update())).all()
            for row in rows:
                row.ended_at = row.ended_at or now()
            return len(rows)


def body_of(row: RecordRow) -> dict[str, Any]:
    """What a record says."""
    return msgspec.json.decode(row.body, type=dict[str, Any])
