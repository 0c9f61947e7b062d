"""What miners ask: kept by the events of marketplace, read by claims, and listed for quotes."""

from collections.abc import Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.primitives.clock import elapsed
from aitbc.modules.ai.models.asks import NO_ASKS, Ask, asks_of, asks_text
from aitbc.modules.ai.models.tables import AskRow, OfferRow
from aitbc.modules.ai.service.waiters import WaitingMiners
from aitbc.modules.marketplace.events import OfferChanged

FRESH_SECONDS = 1.0
ANY_ASKS = "SELECT FROM ai.asks WHERE asks <> $1 LIMIT 1"


class MarketAsks:
    """Keeps the newest version of each offer of work, and of each miner all that it asks."""

    def __init__(self, db: Database, waiting: WaitingMiners) -> None:
        self._db = db
        self._waiting = waiting
        self._none_until = 0.0
        """Until then nobody asks anything, as it was read."""

    async def apply(self, uow: UnitOfWork, events: Sequence[OfferChanged]) -> None:
        """Keep the newest of each offer; a miner whose asks changed asks anew for what it may take.

        Miners are locked in the order of their ids, each before its offers.
        """
        self._none_until = 0.0
        newest: dict[str, OfferChanged] = {}
        for event in sorted(events, key=lambda event: event.version):
            if event.job_kind is not None:
                newest[event.offer] = event
        owners = {event.miner: event.account for event in newest.values()}
        for miner in sorted(owners):
            making = insert(AskRow).values(miner=miner, asks=NO_ASKS).on_conflict_do_nothing()
            await uow.session.execute(making)
            row = await uow.session.get_one(AskRow, miner, with_for_update=True)
            for offer in sorted(one.offer for one in newest.values() if one.miner == miner):
                await _keep(uow, newest[offer])
            row.account = owners[miner]
            asks = asks_text(await _open_asks(uow, miner))
            if asks != row.asks:
                row.asks = asks
                self._waiting.recall(miner)

    async def are_there(self) -> bool:
        """Whether any miner asks anything; that none does is read once a second."""
        if elapsed() < self._none_until:
            return False
        async with self._db.raw() as connection:
            found = await connection.fetch(ANY_ASKS, NO_ASKS)
        if not found:
            self._none_until = elapsed() + FRESH_SECONDS
        return bool(found)

    async def of(self, miners: Sequence[str]) -> Mapping[str, tuple[Ask, ...]]:
        """What each of these miners asks; one that is absent asks nothing of its own."""
        async with self._db.reading() as session:
            rows = await session.scalars(select(AskRow).where(AskRow.miner.in_(miners), AskRow.asks != NO_ASKS))
            return {row.miner: asks_of(row.asks) for row in rows}

    async def owners(self, miners: Sequence[str]) -> Mapping[str, str]:
        """Whose those of these miners are that ask something of their own."""
        wanted = select(AskRow.miner, AskRow.account).where(AskRow.miner.in_(miners), AskRow.account.is_not(None))
        async with self._db.reading() as session:
            return {miner: account for miner, account in await session.execute(wanted) if account is not None}


async def _keep(uow: UnitOfWork, event: OfferChanged) -> None:
    values = {
        "version": event.version,
        "miner": event.miner,
        "kind": event.job_kind,
        "model": event.model,
        "price_units": event.price_units,
        "state": event.state,
        "valid_until": event.valid_until,
    }
    writing = insert(OfferRow).values(id=event.offer, **values)
    newer = writing.on_conflict_do_update(
        index_elements=[OfferRow.id], set_=values, where=OfferRow.version < writing.excluded.version
    )
    await uow.session.execute(newer)


async def _open_asks(uow: UnitOfWork, miner: str) -> list[Ask]:
    """The asks of a locked miner's open offers."""
    theirs = select(OfferRow).where(OfferRow.miner == miner, OfferRow.state == "open").order_by(OfferRow.id)
    rows = await uow.session.scalars(theirs, execution_options={"populate_existing": True})
    return [Ask(row.kind, row.model, row.price_units, row.valid_until, row.id) for row in rows]
