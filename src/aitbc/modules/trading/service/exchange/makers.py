"""Market makers: programs that quote both sides of a pair from their owners' accounts, within limits."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct
from sqlalchemy import Select, func, select

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import FieldError, Invalid, NotFound, TooMany
from aitbc.modules.trading.api import InsufficientFunds
from aitbc.modules.trading.models.exchange.quoting import Quote
from aitbc.modules.trading.models.exchange.tables import MarketMakerRow, OrderRow, PairRow
from aitbc.modules.trading.models.exchange.views import MarketMaker
from aitbc.modules.trading.service.exchange.orders import ExchangeOrders, PlaceOrder
from aitbc.modules.trading.service.exchange.pairs import PairNotFound, locked_pair
from aitbc.modules.trading.service.exchange.quoted import figures, maker_view, open_orders, wanted_quotes

MAKERS_MAX = 10
"""How many market makers an account may have."""
ROUND_MAX = 100
"""How many market makers quote in one round."""


class MarketMakerNotFound(NotFound):
    """There is no such market maker, or it is not yours."""

    code = "market_maker_not_found"


class TooManyMarketMakers(TooMany):
    """This account has as many market makers as it may have."""

    code = "too_many_market_makers"


class MakeMarketMaker(Struct, frozen=True, kw_only=True):
    """How a market maker is to quote."""

    pair: str
    spread_basis_points: int
    depth: int
    size_units: int
    base_limit_units: int
    quote_limit_units: int


def require_size(pair: PairRow, size_units: int) -> None:
    """Raises `Invalid` for a size that the pair does not take."""
    if size_units % pair.quantity_step_units or not pair.min_quantity_units <= size_units <= pair.max_quantity_units:
        said = "Expected a multiple of the pair's step, between its least and its most"
        raise Invalid(fields=(FieldError("/size", said),))


class ChangeMarketMaker(Struct, frozen=True, kw_only=True):
    """What is to be different; None leaves it."""

    spread_basis_points: int | None = None
    depth: int | None = None
    size_units: int | None = None
    base_limit_units: int | None = None
    quote_limit_units: int | None = None


class MarketMakers:
    """Keeps market makers, and lets those that run quote."""

    def __init__(self, database: Database, orders: ExchangeOrders) -> None:
        self._database = database
        self._orders = orders

    @retrying
    async def make(self, who: Principal, command: MakeMarketMaker, once: IdempotencyKey) -> MarketMaker:
        """Have a market maker, which stands still until it is started.

        Raises `PairNotFound`, `Invalid`, `TooManyMarketMakers`.
        """
        async with self._database.unit_of_work() as uow:
            if (earlier := await uow.replay(once, MarketMaker)) is not None:
                return earlier
            pair = await uow.session.get(PairRow, command.pair)
            if pair is None:
                raise PairNotFound
            require_size(pair, command.size_units)
            mine = select(func.count()).select_from(MarketMakerRow).where(MarketMakerRow.account == who.account)
            if (await uow.session.scalar(mine) or 0) >= MAKERS_MAX:
                raise TooManyMarketMakers
            columns = {name: getattr(command, name) for name in MakeMarketMaker.__struct_fields__}
            times = {"created_at": now(), "changed_at": now()}
            fixed = {"id": ids.new_id("mmkr"), "account": who.account, "state": "stopped", "reason": None}
            row = MarketMakerRow(**columns, **times, **fixed)
            uow.add(row)
            await uow.session.flush()
            return await uow.answer(once, await maker_view(uow.session, row))

    @retrying
    async def change(self, who: Principal, maker: str, command: ChangeMarketMaker) -> MarketMaker:
        """Quote otherwise from the next round on. Raises `MarketMakerNotFound`, `Invalid`."""
        async with self._database.unit_of_work() as uow:
            row = await _locked(uow, who, maker)
            pair = await uow.session.get_one(PairRow, row.pair)
            require_size(pair, row.size_units if command.size_units is None else command.size_units)
            for name in ChangeMarketMaker.__struct_fields__:
                if (value := getattr(command, name)) is not None:
                    setattr(row, name, value)
            row.changed_at = now()
            return await maker_view(uow.session, row)

    @retrying
    async def start(self, who: Principal, maker: str) -> MarketMaker:
        """Quote from the next round on. Raises `MarketMakerNotFound`."""
        async with self._database.unit_of_work() as uow:
            row = await _locked(uow, who, maker)
            if row.state != "running":
                row.state, row.reason, row.changed_at = "running", None, now()
            return await maker_view(uow.session, row)

    @retrying
    async def stop(self, who: Principal, maker: str) -> MarketMaker:
        """Quote no more: its orders are canceled, and what they hold returns. Raises `MarketMakerNotFound`."""
        async with self._database.unit_of_work() as uow:
            row = await _locked(uow, who, maker)
            for order in await open_orders(uow.session, row.id):
                await self._orders.cancel_in(uow, order)
            if row.state != "stopped":
                row.state, row.reason, row.changed_at = "stopped", None, now()
            return await maker_view(uow.session, row)

    async def get(self, who: Principal, maker: str) -> MarketMaker:
        """A market maker of the caller's, with what it did. Raises `MarketMakerNotFound`."""
        async with self._database.reading() as session:
            row = await session.get(MarketMakerRow, maker) if ids.is_id("mmkr", maker) else None
            if row is None or row.account != who.account:
                raise MarketMakerNotFound
            return await maker_view(session, row)

    async def all(self, who: Principal) -> Sequence[MarketMaker]:
        """The caller's market makers, the oldest first: at most ten."""
        mine = select(MarketMakerRow).where(MarketMakerRow.account == who.account).order_by(MarketMakerRow.id)
        async with self._database.reading() as session:
            return [await maker_view(session, row) for row in (await session.scalars(mine)).all()]

    async def would_quote(self, who: Principal, maker: str) -> Sequence[Quote]:
        """What it would quote now, and changes nothing. Raises `MarketMakerNotFound`."""
        await self.get(who, maker)
        async with self._database.reading() as session:
            row = await session.get_one(MarketMakerRow, maker)
            found, _ = await wanted_quotes(session, row, await session.get_one(PairRow, row.pair))
            return found

    async def quote(self) -> None:
        """Let every market maker that runs bring its quotes up to date, one after the other."""
        running = select(MarketMakerRow.id).where(MarketMakerRow.state == "running").order_by(MarketMakerRow.id)
        async with self._database.reading() as session:
            found = (await session.scalars(running.limit(ROUND_MAX))).all()
        for maker in found:
            try:
                await self._requote(maker)
            except InsufficientFunds:  # spent beside it: the next round looks again
                await self._rest(maker, "no_funds")

    @retrying
    async def _requote(self, maker: str) -> None:
        async with self._database.unit_of_work() as uow:
            row = await uow.session.scalar(_for_update(maker))
            if row is None or row.state != "running":
                return
            pair = await locked_pair(uow, row.pair)
            wanted, reason = await wanted_quotes(uow.session, row, pair)
            opened = await open_orders(uow.session, row.id)
            if reason != row.reason:
                row.reason = reason
            if sorted(map(_as_quote, opened)) == sorted(
                (one.side, one.price_units, one.quantity_units) for one in wanted
            ):
                return
            for order in opened:
                await self._orders.cancel_in(uow, order)
            for one in wanted:
                await self._orders.place_in(uow, row.account, _order(row, one))

    @retrying
    async def _rest(self, maker: str, reason: str) -> None:
        async with self._database.unit_of_work() as uow:
            row = await uow.session.scalar(_for_update(maker))
            if row is not None and row.state == "running":
                row.reason = reason

    async def traded_since(
        self, who: Principal, maker: str, since: datetime
    ) -> Sequence[tuple[str, int, int, datetime]]:
        """Side, price, quantity and time of what its orders traded since a time. Raises `MarketMakerNotFound`."""
        await self.get(who, maker)
        async with self._database.reading() as session:
            return await figures(session, maker, since)


def _for_update(maker: str) -> Select[MarketMakerRow]:
    return select(MarketMakerRow).where(MarketMakerRow.id == maker).with_for_update(key_share=True)


async def _locked(uow: UnitOfWork, who: Principal, maker: str) -> MarketMakerRow:
    row = await uow.session.scalar(_for_update(maker)) if ids.is_id("mmkr", maker) else None
    if row is None or row.account != who.account:
        raise MarketMakerNotFound
    return row


def _as_quote(order: OrderRow) -> tuple[str, int, int]:
    return order.side, order.price_units or 0, order.quantity_units - order.filled_units


def _order(row: MarketMakerRow, one: Quote) -> PlaceOrder:
    return PlaceOrder(
        pair=row.pair,
        side=one.side,
        quantity_units=one.quantity_units,
        price_units=one.price_units,
        post_only=True,
        label="market maker",
        market_maker=row.id,
    )
