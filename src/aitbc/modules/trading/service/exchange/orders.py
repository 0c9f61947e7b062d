"""Orders: placed, matched and canceled, each in one transaction with all the money that it moves."""

from collections.abc import Sequence

from msgspec import Struct
from sqlalchemy import func, select

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.parameters import Parameters
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import FieldError, Invalid, NotFound, TooMany
from aitbc.modules.trading.models.exchange.engine import OrderEnded, OrderPlaced
from aitbc.modules.trading.models.exchange.money import cost_of
from aitbc.modules.trading.models.exchange.row_views import order_view
from aitbc.modules.trading.models.exchange.tables import ExchangeTradeRow, OrderRow, PairRow
from aitbc.modules.trading.models.exchange.views import ExchangeFill, ExchangeOrder
from aitbc.modules.trading.service.exchange.book import cancel_order, meet
from aitbc.modules.trading.service.exchange.fills import fill_views
from aitbc.modules.trading.service.exchange.pairs import PairHalted, locked_pair
from aitbc.modules.trading.service.settings import EXCHANGE_FEE, TradingSettings

OPEN_MAX = 200
"""How many open orders an account may have in one pair."""


class OrderNotFound(NotFound):
    """There is no such order, or it is not yours."""

    code = "order_not_found"


class TooManyOrders(TooMany):
    """This account has as many open orders in this pair as it may have; cancel some."""

    code = "too_many_orders"


class PlaceOrder(Struct, frozen=True, kw_only=True):
    """Buy or sell a quantity, at a limit or at any price."""

    pair: str
    side: str
    quantity_units: int
    price_units: int | None = None
    """None for a market order."""
    lasts: str = "gtc"
    post_only: bool = False
    label: str | None = None
    market_maker: str | None = None
    """The market maker that places it for its owner."""

    def check(self, pair: PairRow) -> None:
        """Raises `Invalid` for what the pair does not take, and `PairHalted`."""
        if pair.state != "open":
            raise PairHalted
        quantity, step = self.quantity_units, pair.quantity_step_units
        if quantity % step or not pair.min_quantity_units <= quantity <= pair.max_quantity_units:
            said = "Expected a multiple of the pair's step, between its least and its most"
            raise Invalid(fields=(FieldError("/quantity", said),))
        if self.price_units is not None and self.price_units % pair.price_step_units:
            raise Invalid(fields=(FieldError("/price", "Expected a multiple of the pair's step"),))
        if self.price_units is None and self.lasts == "gtc":
            raise Invalid(fields=(FieldError("/lasts", "Expected `ioc` or `fok`: a market order never rests"),))
        if self.post_only and self.lasts != "gtc":
            raise Invalid(fields=(FieldError("/post_only", "Expected for `gtc` only: it is there to rest"),))
        if self.price_units is not None:
            cost_of(quantity, self.price_units)


class OrdersFilter(Struct, frozen=True, kw_only=True):
    """Which orders of an account are wanted, from the newest on."""

    account: str
    pair: str | None = None
    state: str | None = None
    after: str | None = None
    limit: int = 50


class ExchangeOrders:
    """Places, cancels and shows orders."""

    def __init__(self, database: Database, settings: TradingSettings, parameters: Parameters) -> None:
        self._database = database
        self._settings = settings
        self._parameters = parameters

    @retrying
    async def place(self, who: Principal, command: PlaceOrder, once: IdempotencyKey) -> ExchangeOrder:
        """Match an order with what rests, pay what it takes, and hold what stays of it: all of it or nothing.

        Raises `PairNotFound`, `PairHalted`, `Invalid`, `TooManyOrders`, `InsufficientFunds`, `AmountOverflow`.
        """
        async with self._database.unit_of_work() as uow:
            if (earlier := await uow.replay(once, ExchangeOrder)) is not None:
                return earlier
            return await uow.answer(once, await self.place_in(uow, who.account, command))

    async def place_in(self, uow: UnitOfWork, account: str, command: PlaceOrder) -> ExchangeOrder:
        """The same in a unit of work that is open: of who places more than one at a time."""
        pair = await locked_pair(uow, command.pair)
        command.check(pair)
        await _require_room(uow, account, pair)
        order = _new(
            account, command, pair, self._parameters.value(EXCHANGE_FEE, self._settings.exchange_fee_basis_points)
        )
        event = OrderPlaced(
            order=order.id,
            owner=account,
            side="buy" if order.side == "buy" else "sell",
            price_units=order.price_units,
            quantity_units=order.quantity_units,
            lasts=order.lasts,
            post_only=order.post_only,
        )
        await meet(uow, pair, order, event)
        return order_view(order, pair)

    @retrying
    async def cancel(self, who: Principal, order: str) -> ExchangeOrder:
        """Take back what is left of an order; one that is over stays as it is. Raises `OrderNotFound`."""
        async with self._database.unit_of_work() as uow:
            row = await uow.find(OrderRow, order, missing=OrderNotFound)
            if row.account != who.account:
                raise OrderNotFound
            return await self.cancel_in(uow, row)

    async def cancel_in(self, uow: UnitOfWork, row: OrderRow) -> ExchangeOrder:
        """The same in a unit of work that is open."""
        pair = await locked_pair(uow, row.pair)
        await uow.session.refresh(row)
        if row.state == "open":
            await cancel_order(uow, pair, row, OrderEnded(order=row.id))
        return order_view(row, pair)

    async def get(self, who: Principal, order: str) -> ExchangeOrder:
        """An order of the caller's. Raises `OrderNotFound`."""
        if not ids.is_id("ordr", order):
            raise OrderNotFound
        async with self._database.reading() as session:
            row = await session.get(OrderRow, order)
            if row is None or not who.owns(row.account):
                raise OrderNotFound
            return order_view(row, await session.get_one(PairRow, row.pair))

    async def page(self, wanted: OrdersFilter) -> Sequence[ExchangeOrder]:
        """Orders of an account, from the newest on."""
        query = select(OrderRow, PairRow).join(PairRow, PairRow.id == OrderRow.pair)
        query = query.where(OrderRow.account == wanted.account)
        for column, value in ((OrderRow.pair, wanted.pair), (OrderRow.state, wanted.state)):
            query = query if value is None else query.where(column == value)
        if wanted.after is not None:
            query = query.where(OrderRow.id < wanted.after)
        async with self._database.reading() as session:
            rows = (await session.execute(query.order_by(OrderRow.id.desc()).limit(wanted.limit))).all()
        return [order_view(order, pair) for order, pair in rows]

    async def fills(self, who: Principal, order: str, *, limit: int, after: int | None) -> Sequence[ExchangeFill]:
        """The trades of an order of the caller's, oldest first. Raises `OrderNotFound`."""
        await self.get(who, order)
        mine = (ExchangeTradeRow.maker == order) | (ExchangeTradeRow.taker == order)
        query = select(ExchangeTradeRow).where(mine, ExchangeTradeRow.number > (after or 0))
        async with self._database.reading() as session:
            rows = (await session.scalars(query.order_by(ExchangeTradeRow.number).limit(limit))).all()
        return fill_views(order, rows)


async def _require_room(uow: UnitOfWork, account: str, pair: PairRow) -> None:
    mine = (OrderRow.account == account, OrderRow.pair == pair.id, OrderRow.state == "open")
    if (await uow.session.scalar(select(func.count()).select_from(OrderRow).where(*mine)) or 0) >= OPEN_MAX:
        raise TooManyOrders


def _new(account: str, command: PlaceOrder, pair: PairRow, fee_basis_points: int) -> OrderRow:
    return OrderRow(
        id=ids.new_id("ordr"),
        account=account,
        pair=pair.id,
        side=command.side,
        kind="market" if command.price_units is None else "limit",
        lasts=command.lasts,
        post_only=command.post_only,
        price_units=command.price_units,
        quantity_units=command.quantity_units,
        filled_units=0,
        cost_units=0,
        fee_basis_points=fee_basis_points,
        fee_units=0,
        held_units=0,
        state="open",
        reason=None,
        sequence=0,
        placed_by=None,
        ended_by=None,
        market_maker=command.market_maker,
        label=command.label,
        created_at=now(),
        ended_at=None,
    )
