"""How fast the miners of offers of work are, as ai measures it: so an hour of them is compared with a device's."""

from collections.abc import Sequence

from sqlalchemy import select

from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database
from aitbc.modules.ai.api import AiApi, MeasuredSpeeds
from aitbc.modules.marketplace.models.tables import OfferRow

SORTS_AT_ONCE = 50
HOUR_SECONDS = 3_600
FASTEST = 2**53
"""No more units are told for an hour."""


class OfferSpeeds:
    """Brings offers of work up to what is measured."""

    def __init__(self, database: Database, ai: AiApi) -> None:
        self._database = database
        self._ai = ai

    async def refresh(self) -> int:
        """Bring every open offer of work up to what ai says; returns how many changed."""
        sort = (OfferRow.kind, OfferRow.model)
        wanted = select(*sort).where(OfferRow.state == "open", OfferRow.sells == "work").distinct()
        async with self._database.reading() as session:
            sorts = [(kind, model) for kind, model in await session.execute(wanted) if kind is not None]
        changed = 0
        for first in range(0, len(sorts), SORTS_AT_ONCE):
            for measured in await self._ai.measured_speeds(sorts[first : first + SORTS_AT_ONCE]):
                changed += await self._carry(measured)
        return changed

    @retrying
    async def _carry(self, measured: MeasuredSpeeds) -> int:
        """Write what was measured into the offers that it is about, in the order of their ids."""
        speeds = {one.miner: min(round(one.per_second * HOUR_SECONDS), FASTEST) for one in measured.miners}
        same = (OfferRow.kind == measured.kind, OfferRow.model.is_not_distinct_from(measured.model))
        about = select(OfferRow).where(OfferRow.state == "open", OfferRow.sells == "work", *same)
        async with self._database.unit_of_work() as uow:
            rows: Sequence[OfferRow] = (await uow.session.scalars(about.order_by(OfferRow.id))).all()
            stale = [row.id for row in rows if (row.unit, row.units_hour) != (measured.unit, speeds.get(row.miner))]
            locking = select(OfferRow).where(OfferRow.id.in_(stale)).order_by(OfferRow.id)
            for row in await uow.session.scalars(locking.with_for_update(key_share=True)) if stale else ():
                row.unit, row.units_hour = measured.unit, speeds.get(row.miner)
        return len(stale)
