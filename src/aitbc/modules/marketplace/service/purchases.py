"""Purchases of items: kept for the buyer, the money set aside, then paid; what crashes is brought to its end."""

from contextlib import suppress
from datetime import timedelta

import structlog
from msgspec import Struct
from sqlalchemy import select, update

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError, Conflict
from aitbc.modules.marketplace.models.items import MOVES, ItemOrderRow, ItemRow, OrderState, cost_of, hold_of
from aitbc.modules.marketplace.service.items import ItemId, MarketItemNotFound, MarketItemNotOpen
from aitbc.modules.trading.api import HoldNotFound, HoldNotOpen, InsufficientFunds, PayRent, PlaceHold, TradingApi

HELD_FOR = timedelta(days=7)
"""How long the money of a purchase is set aside at most: a payment that was missed is made within this time."""
PLACING = timedelta(seconds=60)
"""An order whose money is not set aside after so long lost its maker on the way."""
PAGE = 200

log = structlog.get_logger("aitbc.marketplace")


class PriceBelowAsk(Conflict):
    """Your price lies below what the seller asks."""

    code = "price_below_ask"


class PurchaseRefused(Conflict):
    """The money of this purchase could not be set aside, so nothing was bought; buy it anew."""

    code = "purchase_refused"


class Wish(Struct, frozen=True, kw_only=True):
    """What a buyer of an item says."""

    provider: str
    """What the buyer calls itself."""
    milliseconds: int
    """For how long, of an item that is priced by the hour."""
    price_units: int | None
    """The price that the buyer expects; none for whatever the seller asks."""


class Purchases:
    """Buys items."""

    def __init__(self, database: Database, trading: TradingApi) -> None:
        self._database = database
        self._trading = trading

    async def buy(self, who: Principal, item: str, wish: Wish, once: IdempotencyKey) -> ItemOrderRow:
        """Buy an item at what its seller asks: keep it, set the money aside, and pay.

        A repetition goes on where the first was interrupted. Raises `MarketItemNotFound`, `MarketItemNotOpen`,
        `PriceBelowAsk`, `InsufficientFunds`, and `PurchaseRefused` for one that was refused before.
        """
        order = await self._place(who, item, wish, once)
        if order.state == OrderState.PLACED:
            await self._hold(order)
        if order.state in (OrderState.PLACED, OrderState.HELD):
            await self._pay(order)
        found = await self._read(order.id)
        if found.state == OrderState.REFUSED:
            raise PurchaseRefused
        return found

    @retrying
    async def _place(self, who: Principal, item: str, wish: Wish, once: IdempotencyKey) -> ItemOrderRow:
        async with self._database.unit_of_work() as uow:
            if (earlier := await uow.replay(once, ItemId)) is not None:
                return await uow.session.get_one(ItemOrderRow, earlier.id)
            row = await uow.find(ItemRow, item, lock=True, missing=MarketItemNotFound)
            if row.state != "open" or row.taken >= row.capacity:
                raise MarketItemNotOpen
            if wish.price_units is not None and wish.price_units < row.price_units:
                raise PriceBelowAsk
            row.taken += 1
            order = ItemOrderRow(
                id=ids.new_id("mord"),
                name=None,
                account=who.account,
                item=row.id,
                seller=row.account,
                provider=wish.provider,
                title=row.item,
                capacity=1,
                price_units=cost_of(row, wish.milliseconds),
                notes=None,
                state=OrderState.PLACED,
                transaction=None,
                submitted_at=now(),
            )
            uow.add(order)
            await uow.answer(once, ItemId(id=order.id))
            return order

    async def _read(self, order: str) -> ItemOrderRow:
        async with self._database.reading() as session:
            return await session.get_one(ItemOrderRow, order)

    async def _hold(self, order: ItemOrderRow) -> None:
        """Set the money aside; where that fails, the order is refused. Raises what the ledger raises."""
        command = PlaceHold(
            hold=hold_of(order.id),
            payer=order.account,
            amount_units=order.price_units,
            expires_at=order.submitted_at + HELD_FOR,
            reference=order.id,
        )
        try:
            await self._trading.hold(command)
        except InsufficientFunds:
            await self._move(order.id, OrderState.PLACED, OrderState.REFUSED)
            raise
        is_held = await self._move(order.id, OrderState.PLACED, OrderState.HELD)
        if not is_held and (await self._read(order.id)).state == OrderState.REFUSED:
            await self._return(order.id)  # the reconciler was quicker

    async def _return(self, order: str) -> None:
        with suppress(HoldNotFound, HoldNotOpen):
            await self._trading.void(hold_of(order), OrderState.REFUSED)

    async def _pay(self, order: ItemOrderRow) -> None:
        """Pay the seller; what cannot be paid now is paid by the reconciler."""
        if (await self._read(order.id)).state != OrderState.HELD:
            return
        assert order.seller is not None
        command = PayRent(
            hold=hold_of(order.id),
            payer=order.account,
            owner=order.seller,
            reference=order.id,
            price_units=order.price_units,
            reason="bought",
        )
        try:
            rent = await self._trading.pay_rent(command)
        except (HoldNotOpen, HoldNotFound) as refusal:  # it went back at its deadline
            log.warning("purchase_unpaid", order=order.id, reason=refusal.message)
            await self._move(order.id, OrderState.HELD, OrderState.REFUSED)
        except AppError as refusal:
            log.warning("purchase_postponed", order=order.id, reason=refusal.message)
        else:
            await self._move(order.id, OrderState.HELD, OrderState.PAID, transaction=rent.transaction)

    @retrying
    async def _move(self, order: str, before: OrderState, after: OrderState, **values: str) -> bool:
        """Move an order by compare-and-set; one that is refused gives its item back."""
        assert after in MOVES[before]
        async with self._database.unit_of_work() as uow:
            moving = update(ItemOrderRow).where(ItemOrderRow.id == order, ItemOrderRow.state == before)
            moved = (
                await uow.session.execute(moving.values(state=after, **values).returning(ItemOrderRow.item))
            ).first()
            if moved is not None and after is OrderState.REFUSED:
                await _give_back(uow, moved.item)
            return moved is not None

    async def reconcile(self) -> None:
        """Pay what is held, and refuse what never came so far."""
        after = f"mord_{'0' * 26}"
        unfinished = (OrderState.PLACED, OrderState.HELD)
        while True:
            wanted = select(ItemOrderRow).where(ItemOrderRow.state.in_(unfinished), ItemOrderRow.id > after)
            async with self._database.reading() as session:
                rows = (await session.scalars(wanted.order_by(ItemOrderRow.id).limit(PAGE))).all()
            if not rows:
                return
            after = rows[-1].id
            for row in rows:
                with suppress(AppError):  # the next round tries again
                    await self._bring_to_its_end(row)

    async def _bring_to_its_end(self, order: ItemOrderRow) -> None:
        if order.submitted_at > now() - PLACING:
            return
        if order.state == OrderState.HELD:
            await self._pay(order)
        elif await self._move(order.id, OrderState.PLACED, OrderState.REFUSED):
            await self._return(order.id)


async def _give_back(uow: UnitOfWork, item: str) -> None:
    freeing = update(ItemRow).where(ItemRow.id == item, ItemRow.taken > 0).values(taken=ItemRow.taken - 1)
    await uow.session.execute(freeing)
