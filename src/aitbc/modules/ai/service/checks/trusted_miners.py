"""Trusted miners: whom operators trust to check the work of others; and how the checked work of each miner went."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import NotFound
from aitbc.modules.ai.models.asks import NO_ASKS
from aitbc.modules.ai.models.checks.sampling import check_probability
from aitbc.modules.ai.models.tables import AskRow, MinerRow, TrackRecordRow

TRUSTED_MAX = 1000
"""How many trusted miners are listed."""


class MinerNotKnown(NotFound):
    """No miner with this id has announced itself here."""

    code = "miner_not_known"


class TrustedMiner(Struct, frozen=True, kw_only=True):
    """Whether a miner is trusted to check the work of others."""

    miner: str
    """The miner. For example `mnr_01k0000000000000000000000a`."""
    trusted: bool
    """Whether its word decides what is checked. For example `true`."""


class TrackRecord(Struct, frozen=True, kw_only=True):
    """How the checked answers of a miner's model went."""

    kind: str
    """The kind of work. For example `embed`."""
    model: str | None
    """The model that was asked for; null where none was named. For example `minilm`."""
    valid_in_row: int
    """How many checked answers were valid since the last one that was not. For example `14`."""
    checked: int
    """How many answers were compared with others in all. For example `15`."""
    wrong: int
    """How many of them were found wrong, and not paid. For example `1`."""
    check_probability: float
    """How likely the next sampled job is checked, 0 to 1. For example `0.0714`."""
    changed_at: datetime
    """When the last was compared."""


class TrustedMiners:
    """Keeps whom operators trust, and shows what checks found."""

    def __init__(self, db: Database) -> None:
        self._db = db

    @retrying
    async def set(self, who: Principal, miner: str, *, is_trusted: bool) -> TrustedMiner:
        """Trust a miner from its next claim on, or no longer; repeating it is harmless. Raises `MinerNotKnown`."""
        if not ids.is_id("mnr", miner):
            raise MinerNotKnown
        async with self._db.unit_of_work() as uow:
            if await uow.session.get(MinerRow, miner) is None:
                raise MinerNotKnown
            making = insert(AskRow).values(miner=miner, asks=NO_ASKS).on_conflict_do_nothing()
            await uow.session.execute(making)
            row = await uow.session.get_one(AskRow, miner, with_for_update=True)
            if row.trusted != is_trusted:
                row.trusted = is_trusted
                action = "miner.trusted" if is_trusted else "miner.distrusted"
                await uow.audit(who.account, who.key, action, miner)
        return TrustedMiner(miner=miner, trusted=is_trusted)

    async def all(self) -> Sequence[TrustedMiner]:
        """The trusted miners, in the order of ids."""
        wanted = select(AskRow.miner).where(AskRow.trusted).order_by(AskRow.miner).limit(TRUSTED_MAX)
        async with self._db.reading() as session:
            return [TrustedMiner(miner=miner, trusted=True) for miner in await session.scalars(wanted)]

    async def records(self, miner: str) -> Sequence[TrackRecord]:
        """How the checked work of a miner went, by kind and model. Raises `MinerNotKnown`."""
        if not ids.is_id("mnr", miner):
            raise MinerNotKnown
        wanted = select(TrackRecordRow).where(TrackRecordRow.miner == miner)
        async with self._db.reading() as session:
            if await session.get(MinerRow, miner) is None:
                raise MinerNotKnown
            rows = await session.scalars(wanted.order_by(TrackRecordRow.kind, TrackRecordRow.model))
            return [_view(row, now()) for row in rows]


def _view(row: TrackRecordRow, at: datetime) -> TrackRecord:
    return TrackRecord(
        kind=row.kind,
        model=row.model or None,
        valid_in_row=row.valid_in_row,
        checked=row.checked,
        wrong=row.wrong,
        check_probability=round(check_probability(row.valid_in_row), 4),
        changed_at=min(row.changed_at, at),
    )
