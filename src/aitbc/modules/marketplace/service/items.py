"""Items of the older marketplace: put on sale, listed, taken off, and bought."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct
from sqlalchemy import ColumnElement, func, select

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.totals import total
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.errors import Conflict, NotFound, TooMany
from aitbc.modules.marketplace.models.items import ItemOrderRow, ItemRow, OrderState

OPEN_MAX = 1_000


class MarketItemNotFound(NotFound):
    """There is no such item on the market, or it is not yours."""

    code = "market_item_not_found"


class MarketItemNotOpen(Conflict):
    """This item was taken off the market, or nothing of it is left."""

    code = "market_item_not_open"


class MarketItemBooked(Conflict):
    """Somebody is buying this item right now; take it off the market in a moment."""

    code = "market_item_booked"


class MarketIdTaken(Conflict):
    """There is one of this id already; give yours another one."""

    code = "market_id_taken"


class MarketOrderOver(Conflict):
    """This order has ended; only a bid that waits can be cancelled."""

    code = "market_order_over"


class MarketBidNotFound(NotFound):
    """There is no such order or bid, or it is not yours."""

    code = "market_bid_not_found"


class TooManyMarketItems(TooMany):
    """This account has as many items or bids on the market as it may have; take some off."""

    code = "too_many_market_items"


class ItemFilter(Struct, frozen=True, kw_only=True):
    """Which items are wanted, from the newest on."""

    state: str | None = None
    """`open`, `booked` or `withdrawn`."""
    region: str | None = None
    gpu_model: str | None = None
    limit: int = 500


class ItemId(Struct, frozen=True, kw_only=True):
    """The item, or the order, of an answer that is repeated."""

    id: str


class MarketFigures(Struct, frozen=True, kw_only=True):
    """What happened on the market since a time, counted from its rows."""

    offers: int
    transactions: int
    volume_units: int


class Items:
    """Keeps what is for sale."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @retrying
    async def put(self, who: Principal, item: ItemRow, once: IdempotencyKey) -> ItemRow:
        """Put something on sale. Raises `MarketIdTaken`, `TooManyMarketItems`."""
        async with self._database.unit_of_work() as uow:
            if (earlier := await uow.replay(once, ItemId)) is not None:
                return await uow.session.get_one(ItemRow, earlier.id)
            await _require_room(uow, ItemRow, ItemRow.account == who.account, ItemRow.state == "open")
            if await uow.session.get(ItemRow, item.id) is not None:
                raise MarketIdTaken
            uow.add(item)
            await uow.session.flush()
            await uow.answer(once, ItemId(id=item.id))
            return item

    async def one(self, item: str) -> ItemRow:
        """An item, whoever sells it. Raises `MarketItemNotFound`."""
        async with self._database.reading() as session:
            row = await session.get(ItemRow, item)
        if row is None:
            raise MarketItemNotFound
        return row

    async def count(self) -> int:
        """How many items can be bought."""
        left = (ItemRow.state == "open", ItemRow.taken < ItemRow.capacity)
        async with self._database.reading() as session:
            return await session.scalar(select(func.count()).select_from(ItemRow).where(*left)) or 0

    async def page(self, wish: ItemFilter) -> Sequence[ItemRow]:
        """Everybody's items, from the newest on."""
        wanted = select(ItemRow)
        if wish.state in ("open", "booked"):
            booked = ItemRow.taken >= ItemRow.capacity
            wanted = wanted.where(ItemRow.state == "open", booked if wish.state == "booked" else ~booked)
        elif wish.state is not None:
            wanted = wanted.where(ItemRow.state == wish.state)
        if wish.region is not None:
            wanted = wanted.where(ItemRow.region == wish.region)
        if wish.gpu_model is not None:
            wanted = wanted.where(ItemRow.gpu_model == wish.gpu_model)
        async with self._database.reading() as session:
            return (
                await session.scalars(wanted.order_by(*_newest(ItemRow.created_at, ItemRow.id)).limit(wish.limit))
            ).all()

    @retrying
    async def withdraw(self, who: Principal, item: str) -> ItemRow:
        """Take an item of the caller's off the market; what was bought stays. Doing it again changes nothing.

        Raises `MarketItemNotFound`, and `MarketItemBooked` while somebody pays for it.
        """
        async with self._database.unit_of_work() as uow:
            row = await uow.find(ItemRow, item, lock=True, missing=MarketItemNotFound)
            if row.account != who.account:
                raise MarketItemNotFound
            buying = (ItemOrderRow.item == item, ItemOrderRow.state.in_((OrderState.PLACED, OrderState.HELD)))
            if await uow.session.scalar(select(ItemOrderRow.id).where(*buying).limit(1)) is not None:
                raise MarketItemBooked
            row.state = "withdrawn"
            return row


class Bids:
    """Keeps bids on nothing in particular, and shows the orders of items beside them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @retrying
    async def place(self, who: Principal, bid: ItemOrderRow, once: IdempotencyKey) -> ItemOrderRow:
        """Say what one would pay for something; nothing is set aside. Raises `MarketIdTaken`, `TooManyMarketItems`."""
        async with self._database.unit_of_work() as uow:
            if (earlier := await uow.replay(once, ItemId)) is not None:
                return await uow.session.get_one(ItemOrderRow, earlier.id)
            mine = (ItemOrderRow.account == who.account, ItemOrderRow.state == OrderState.PENDING)
            await _require_room(uow, ItemOrderRow, *mine)
            taken = select(ItemOrderRow.id).where(ItemOrderRow.name == bid.name)
            if bid.name is not None and await uow.session.scalar(taken) is not None:
                raise MarketIdTaken
            uow.add(bid)
            await uow.session.flush()
            await uow.answer(once, ItemId(id=bid.id))
            return bid

    async def page(
        self, who: Principal, *, states: Sequence[str] | None, provider: str | None, limit: int
    ) -> Sequence[ItemOrderRow]:
        """The caller's orders and bids, all of them for an admin, from the newest on."""
        wanted = select(ItemOrderRow)
        if not who.is_admin:
            wanted = wanted.where(ItemOrderRow.account == who.account)
        if states is not None:
            wanted = wanted.where(ItemOrderRow.state.in_(states))
        if provider is not None:
            wanted = wanted.where(ItemOrderRow.provider == provider)
        order = _newest(ItemOrderRow.submitted_at, ItemOrderRow.id)
        async with self._database.reading() as session:
            return (await session.scalars(wanted.order_by(*order).limit(limit))).all()

    async def one(self, who: Principal, order: str) -> ItemOrderRow:
        """An order or a bid of the caller's. Raises `MarketBidNotFound`."""
        async with self._database.reading() as session:
            row = (await session.scalars(select(ItemOrderRow).where(_named(order)))).one_or_none()
        if row is None or not who.owns(row.account):
            raise MarketBidNotFound
        return row

    @retrying
    async def cancel(self, who: Principal, order: str) -> ItemOrderRow:
        """Withdraw a bid of the caller's; doing it again changes nothing.

        Raises `MarketBidNotFound`, `MarketOrderOver`.
        """
        async with self._database.unit_of_work() as uow:
            found = select(ItemOrderRow).where(_named(order)).with_for_update(key_share=True)
            row = (await uow.session.scalars(found)).one_or_none()
            if row is None or row.account != who.account:
                raise MarketBidNotFound
            if row.state not in (OrderState.PENDING, OrderState.CANCELLED):
                raise MarketOrderOver
            row.state = OrderState.CANCELLED
            return row

    async def figures(self, since: datetime) -> MarketFigures:
        """What happened since a time, counted from the rows."""
        paid = (ItemOrderRow.state == OrderState.PAID, ItemOrderRow.submitted_at >= since)
        volume = total(ItemOrderRow.price_units)
        async with self._database.reading() as session:
            offers = await session.scalar(select(func.count()).select_from(ItemRow).where(ItemRow.created_at >= since))
            counted = (await session.execute(select(func.count(), volume).where(*paid))).one()
        return MarketFigures(offers=offers or 0, transactions=counted[0], volume_units=counted[1])


async def _require_room(uow: UnitOfWork, row: Any, *mine: Any) -> None:
    if (await uow.session.scalar(select(func.count()).select_from(row).where(*mine)) or 0) >= OPEN_MAX:
        raise TooManyMarketItems


def _named(order: str) -> ColumnElement[bool]:
    """Whether an order has this id, ours or its client's."""
    return ItemOrderRow.id == order if ids.is_id("mord", order) else ItemOrderRow.name == order


def _newest(*key: Any) -> list[Any]:
    return [part.desc() for part in key]
