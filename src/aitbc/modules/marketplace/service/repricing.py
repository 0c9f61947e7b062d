"""Prices that follow the use of their owners' miners."""

import logging
from collections.abc import Mapping, Sequence

from sqlalchemy import select

from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError
from aitbc.modules.gpu.api import GpuApi, SlotUse
from aitbc.modules.marketplace.models.pricing import price_in_use
from aitbc.modules.marketplace.models.tables import OfferRow
from aitbc.modules.marketplace.models.views import offer_changed

OWNERS_AT_ONCE = 100
_log = logging.getLogger(__name__)


class Repricing:
    """Brings prices up to the use of their owners' miners."""

    def __init__(self, database: Database, gpu: GpuApi) -> None:
        self._database = database
        self._gpu = gpu

    async def run(self) -> int:
        """Reprice the open offers that follow use; returns how many prices changed.

        Where gpu cannot say what is in use, prices stay as they are.
        """
        changed, after = 0, ""
        while owners := await self._owners(after):
            after = owners[-1]
            try:
                use = await self._gpu.use_of(owners)
            except AppError as error:
                _log.warning("prices stay as they are: the use of miners is unknown (%s)", error.code)
                return changed
            changed += await self._reprice(owners, use)
        return changed

    async def _owners(self, after: str) -> Sequence[str]:
        wanted = select(OfferRow.account).where(OfferRow.state == "open", OfferRow.floor_units.is_not(None))
        if after:
            wanted = wanted.where(OfferRow.account > after)
        async with self._database.reading() as session:
            return (await session.scalars(wanted.distinct().order_by(OfferRow.account).limit(OWNERS_AT_ONCE))).all()

    @retrying
    async def _reprice(self, owners: Sequence[str], use: Mapping[str, SlotUse]) -> int:
        following = (
            select(OfferRow)
            .where(OfferRow.account.in_(owners), OfferRow.state == "open", OfferRow.floor_units.is_not(None))
            .order_by(OfferRow.id)
            .with_for_update(key_share=True)
        )
        changed = 0
        async with self._database.unit_of_work() as uow:
            at = now()
            for row in (await uow.session.scalars(following)).all():
                seen = use.get(row.account, SlotUse(slots=0, busy=0))
                assert row.floor_units is not None and row.ceiling_units is not None
                price = price_in_use(row.floor_units, row.ceiling_units, seen.busy, seen.slots)
                if price == row.price_units:
                    continue
                row.price_units, row.version, row.changed_at = price, row.version + 1, max(at, row.changed_at)
                uow.publish(offer_changed(row))
                changed += 1
        return changed
