"""What is known of miners, kept by the events of gpu, and carried by their offers."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from aitbc.kernel.database.unit_of_work import UnitOfWork
from aitbc.kernel.primitives.clock import now
from aitbc.modules.gpu.events import MinerChanged
from aitbc.modules.marketplace.models.facts import carried, differs, told
from aitbc.modules.marketplace.models.tables import MinerRow, OfferRow
from aitbc.modules.marketplace.models.views import offer_changed
from aitbc.modules.marketplace.service.offer_rows import close_offer
from aitbc.modules.marketplace.service.rules import Rules


class MinerFacts:
    """Keeps the newest of each miner."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    async def apply(self, uow: UnitOfWork, events: Sequence[MinerChanged]) -> None:
        """Keep the newest version of each miner, in the order of ids, and bring its offers up to it."""
        newest: dict[str, MinerChanged] = {}
        for event in sorted(events, key=lambda event: event.version):
            newest[event.miner] = event
        for miner in sorted(newest):
            await self._hear(uow, newest[miner])

    async def _hear(self, uow: UnitOfWork, event: MinerChanged) -> None:
        columns = told(event)
        is_new = False
        row = await uow.session.get(MinerRow, event.miner, with_for_update={"key_share": True})
        if row is None:  # whoever offers it at this moment may write it first
            writing = insert(MinerRow).values(id=event.miner, **columns).on_conflict_do_nothing().returning(MinerRow.id)
            is_new = (await uow.session.execute(writing)).one_or_none() is not None
            row = await uow.find(MinerRow, event.miner, lock=True)
        if not is_new and row.version >= event.version:
            return
        if row.as_of > event.changed_at:  # gpu was asked since
            row.version = event.version
            return
        for name, value in columns.items():
            setattr(row, name, value)
        await _carry(uow, row)
        if row.status == "online":
            await self._rules.apply_to(uow, row)


async def _carry(uow: UnitOfWork, miner: MinerRow) -> None:
    """Bring a miner's open offers up to what is known of it; those of one that was removed end."""
    mine = select(OfferRow).where(OfferRow.miner == miner.id, OfferRow.state == "open").order_by(OfferRow.id)
    facts = carried(miner)
    for offer in (await uow.session.scalars(mine.with_for_update(key_share=True))).all():
        if differs(offer, facts):
            for name, value in facts.items():
                setattr(offer, name, value)
            if offer.sells == "work":
                offer.capacity = miner.slots
        if miner.status == "removed" and not offer.taken:
            close_offer(offer, "withdrawn", now())
            uow.publish(offer_changed(offer))
