"""The exchange: price and time decide, what is open is held, and every trade is in the chain."""

import asyncio
from datetime import timedelta
from io import BytesIO
from typing import Any

import pytest

from aitbc.kernel.crypto.chain_verifier import verify_export
from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import clock
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Invalid
from aitbc.modules.trading.api import InsufficientFunds
from aitbc.modules.trading.models.exchange.engine import FILLS_MAX, OrderBook, OrderPlaced, replayed
from aitbc.modules.trading.service.assets import AssetNotFound
from aitbc.modules.trading.service.exchange.orders import OrderNotFound, OrdersFilter, PlaceOrder
from aitbc.modules.trading.service.exchange.pairs import MakePair, PairDiffers, PairHalted, PairNotFound
from tests.chaos.audit import NOTHING
from tests.modules.trading.exchange import a_pair, had, place, trader
from tests.modules.trading.make import ADMIN, AITBC, once, require_sound, sql, trading_on

OF_THE_LEDGER = {name: query for name, query in NOTHING.items() if "ai." not in query and "marketplace." not in query}
OF_THE_LEDGER = {name: query for name, query in OF_THE_LEDGER.items() if "gpu." not in query}


async def require_replayed(owner: Target, pair: str) -> None:
    """The log of a pair leads to the orders that are open, and the audit of the torture tests finds nothing."""
    async with sql(owner) as connection:
        log = await connection.fetch("SELECT body FROM trading.exchange_events WHERE pair = $1 ORDER BY sequence", pair)
        rows = await connection.fetch(
            """SELECT 'ordr_' || id::text AS id, sequence, price_units, quantity_units - filled_units AS remaining
            FROM trading.exchange_orders WHERE pair = $1 AND state = 'open'""",
            pair,
        )
        book = replayed(row["body"] for row in log)
        resting = {(one.place, one.price_units, one.quantity) for one in book.resting.values()}
        assert resting == {(row["sequence"], row["price_units"], row["remaining"]) for row in rows}
        for name, query in OF_THE_LEDGER.items():
            assert not await connection.fetch(query), name


async def test_orders_meet_by_price_and_time_and_what_is_open_is_held(owner: Target) -> None:
    async with trading_on(owner) as trading:
        pair = await a_pair(trading)
        ann, bob, cid = await trader(trading, GOLD=10), await trader(trading, GOLD=10), await trader(trading, AITBC=100)
        dear = await place(trading, ann, "sell", 2, 3)
        first = await place(trading, bob, "sell", 2, 2.5)
        second = await place(trading, ann, "sell", 2, 2.5)
        assert (dear.state, dear.held, dear.held_asset) == ("open", "2", "GOLD")
        assert await had(trading, ann) == {"AITBC": ("0", "0"), "GOLD": ("6", "4")}

        bought = await place(trading, cid, "buy", 5, 2.75)
        assert (bought.state, bought.filled, bought.cost, bought.held) == ("open", "4", "10", "2.75")
        assert (bought.fee, bought.fee_asset) == ("0.02", "GOLD"), "half a percent of what it got"
        assert await had(trading, cid) == {"AITBC": ("87.25", "2.75"), "GOLD": ("3.98", "0")}
        fills = await trading.exchange_orders.fills(cid, bought.id, limit=10, after=None)
        assert [(one.price, one.quantity, one.fee, one.is_maker) for one in fills] == [("2.5", "2", "0.01", False)] * 2
        theirs = await trading.exchange_orders.fills(bob, first.id, limit=10, after=None)
        assert [(one.cost, one.fee, one.is_maker) for one in theirs] == [("5", "0.025", True)]
        assert (await trading.exchange_orders.get(ann, second.id)).state == "filled"
        assert await had(trading, bob) == {"AITBC": ("4.975", "0"), "GOLD": ("8", "0")}

        book = await trading.market_data.book(pair, depth=10)
        assert [(one.price, one.quantity, one.orders) for one in book.bids] == [("2.75", "1", 1)]
        assert [(one.price, one.quantity, one.orders) for one in book.asks] == [("3", "2", 1)]
        canceled = await trading.exchange_orders.cancel(cid, bought.id)
        assert (canceled.state, canceled.reason, canceled.held, canceled.filled) == ("canceled", "canceled", "0", "4")
        assert await trading.exchange_orders.cancel(cid, bought.id) == canceled, "again changes nothing"
        assert (await had(trading, cid))["AITBC"] == ("90", "0")
        for who, wanted in ((ann, bought.id), (cid, "ordr_01k0000000000000000000000a"), (cid, "x")):
            with pytest.raises(OrderNotFound):
                await trading.exchange_orders.get(who, wanted)
        with pytest.raises(OrderNotFound):
            await trading.exchange_orders.cancel(ann, bought.id)
        mine = await trading.exchange_orders.page(OrdersFilter(account=ann.account, pair=pair, state="filled"))
        assert [one.id for one in mine] == [second.id]
        with pytest.raises(OrderNotFound):
            await trading.exchange_orders.fills(ann, bought.id, limit=10, after=None)

        moved = await trading.explorer.transactions(limit=20, before=None, reference=bought.id)
        assert {one.kind for one in moved} == {"order", "trade", "cancel"}, "the explorer finds all that it moved"
        await require_replayed(owner, pair)
        await require_sound(trading)
        await trading.blocks.seal()
        lines = b"".join([part async for part in trading.explorer.export()])
    assert verify_export(BytesIO(lines)).transactions >= 10, "the chain with orders verifies offline"


async def test_each_way_an_order_ends_leaves_nothing_held(owner: Target) -> None:
    async with trading_on(owner) as trading:
        pair = await a_pair(trading, "IRON")
        ann, bob = await trader(trading, IRON=10), await trader(trading, IRON=5, AITBC=100)
        iron = {"pair": pair}
        await place(trading, ann, "sell", 2, 2, **iron)
        ends = [
            (await place(trading, bob, "buy", 3, 2, lasts="fok", **iron), "canceled", "not_filled", "0"),
            (await place(trading, bob, "buy", 3, 2, post_only=True, **iron), "canceled", "would_take", "0"),
            (await place(trading, ann, "buy", 1, 2, **iron), "canceled", "self_trade", "0"),
            (await place(trading, bob, "buy", 1, 2, lasts="fok", **iron), "filled", None, "1"),
            (await place(trading, bob, "buy", 3, None, **iron), "canceled", "momentary", "1"),
            (await place(trading, bob, "sell", 1, None, **iron), "canceled", "momentary", "0"),
            (await place(trading, bob, "buy", 1, 1, lasts="ioc", **iron), "canceled", "momentary", "0"),
        ]
        for order, state, reason, filled in ends:
            assert (order.state, order.reason, order.filled, order.held) == (state, reason, filled, "0")
        assert (await had(trading, bob))["AITBC"] == ("96", "0")

        before = await had(trading, bob)
        with pytest.raises(InsufficientFunds):
            await place(trading, bob, "buy", 100, 1, **iron)
        with pytest.raises(InsufficientFunds):
            await place(trading, bob, "sell", 8, 1, **iron)
        wrong = [
            {"quantity": 0.00001, "price": 1},
            {"quantity": 2_000_000, "price": 1},
            {"quantity": 1, "price": 0.00001},
            {"quantity": 1, "price": None, "lasts": "gtc"},
            {"quantity": 1, "price": 1, "lasts": "ioc", "post_only": True},
        ]
        for one in wrong:
            with pytest.raises(Invalid):
                await place(trading, bob, "buy", **one, **iron)  # type: ignore[arg-type]
        with pytest.raises(PairNotFound):
            await place(trading, bob, "buy", 1, 1, pair="IRON-GOLD")
        rests = await place(trading, bob, "buy", 1, 1, **iron)
        await trading.exchange_pairs.change(ADMIN, pair, "halted")
        with pytest.raises(PairHalted):
            await place(trading, bob, "buy", 1, 1, **iron)
        assert (await trading.exchange_orders.cancel(bob, rests.id)).state == "canceled", "halted or not"
        await trading.exchange_pairs.change(ADMIN, pair, "open")
        assert await had(trading, bob) == before
        await require_replayed(owner, pair)
        await require_sound(trading)


async def test_a_pair_makes_every_cost_whole(owner: Target) -> None:
    made: dict[str, Any] = {"base": "TIN", "quote": "AITBC", "min_quantity_units": 10**4, "max_quantity_units": 10**8}
    async with trading_on(owner) as trading:
        await trading.assets.define(ADMIN, "TIN", "Tin")
        fine = MakePair(price_step_units=10**4, quantity_step_units=10**4, **made)
        assert await trading.exchange_pairs.make(ADMIN, fine) == await trading.exchange_pairs.make(ADMIN, fine)
        for price, quantity in ((10**3, 10**4), (1, 1)):
            with pytest.raises(Invalid):
                MakePair(price_step_units=price, quantity_step_units=quantity, **made).check()
        with pytest.raises(PairDiffers):
            await trading.exchange_pairs.make(
                ADMIN, MakePair(price_step_units=10**5, quantity_step_units=10**4, **made)
            )
        with pytest.raises(Invalid):
            MakePair(price_step_units=10**4, quantity_step_units=10**4, **(made | {"quote": "TIN"})).check()
        with pytest.raises(AssetNotFound):
            await trading.exchange_pairs.make(
                ADMIN, MakePair(price_step_units=10**4, quantity_step_units=10**4, **(made | {"base": "NOWHERE"}))
            )


async def test_a_repeated_order_is_the_same_and_races_take_everything_once(owner: Target) -> None:
    async with trading_on(owner) as trading, trading_on(owner) as other:
        pair = await a_pair(trading, "LEAD")
        maker = await trader(trading, LEAD=5)
        takers = [await trader(trading, AITBC=10) for _ in range(6)]
        key = once()
        command: dict[str, Any] = {"pair": pair, "side": "sell", "quantity_units": 5 * AITBC, "price_units": AITBC}
        orders = trading.exchange_orders
        placed = await orders.place(maker, PlaceOrder(**command), key)
        assert await other.exchange_orders.place(maker, PlaceOrder(**command), key) == placed
        found = await asyncio.gather(
            *(
                place(service, who, "buy", 1, 1, pair=pair)
                for who, service in zip(takers, [trading, other] * 3, strict=True)
            ),
            return_exceptions=True,
        )
        assert sorted(one.state for one in found if not isinstance(one, BaseException)) == ["filled"] * 5 + ["open"]
        await require_replayed(owner, pair)
        await require_sound(trading)


async def test_candles_and_figures_come_from_trades_only(owner: Target) -> None:
    async with trading_on(owner) as trading:
        pair = await a_pair(trading, "ZINC")
        empty = await trading.market_data.stats(pair)
        assert (empty.last, empty.bid, empty.open, empty.trades, empty.volume) == (None, None, None, 0, "0")
        ann, bob = await trader(trading, ZINC=10), await trader(trading, AITBC=100)
        start = now()
        for minute, price in ((0, 2), (0, 4), (0, 3), (3, 1)):
            clock.move(timedelta(minutes=minute))
            await place(trading, ann, "sell", 1, price, pair=pair)
            await place(trading, bob, "buy", 1, price, pair=pair)
        found = await trading.market_data.candles(pair, "1m", since=start, limit=10)
        assert sum(one.trades for one in found) == 4
        assert (found[0].open, found[-1].close, found[-1].trades) == ("2", "1", 1)
        day = await trading.market_data.candles(pair, "1d", since=start, limit=2)
        if len(day) == 1:  # not at midnight
            assert (day[0].open, day[0].high, day[0].low, day[0].close) == ("2", "4", "1", "1")
        stats = await trading.market_data.stats(pair)
        assert (stats.last, stats.high, stats.low, stats.volume, stats.turnover) == ("1", "4", "1", "4", "10")
        clock.move(timedelta(hours=25))
        assert (await trading.market_data.stats(pair)).trades == 0
        trades = await trading.market_data.trades(pair, limit=2, before=4)
        assert [(one.number, one.price) for one in trades] == [(3, "3"), (2, "4")]
        for look in (trading.market_data.book("A-B", depth=1), trading.market_data.stats("A-B")):
            with pytest.raises(PairNotFound):
                await look


def test_an_order_takes_no_more_than_so_many() -> None:
    book, many = (
        OrderBook(),
        {"owner": "ann", "side": "sell", "price_units": AITBC, "quantity_units": 1, "lasts": "gtc"},
    )
    for number in range(FILLS_MAX + 1):
        book.apply(OrderPlaced(order=f"s{number}", **many))  # type: ignore[arg-type]
    taken = book.apply(
        OrderPlaced(order="b", owner="bob", side="buy", price_units=AITBC, quantity_units=FILLS_MAX + 1, lasts="gtc")
    )
    assert (len(taken.fills), taken.left, taken.rests, taken.reason) == (FILLS_MAX, 1, False, "too_many")
