"""Market makers: they quote around others' prices, within their limits, and stop without a trace in the book."""

from datetime import timedelta

import pytest

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Invalid
from aitbc.modules.trading.models.exchange.quoting import Quoting, middle, quotes
from aitbc.modules.trading.service.exchange.makers import (
    ChangeMarketMaker,
    MakeMarketMaker,
    MarketMakerNotFound,
)
from tests.modules.trading.exchange import STEP, a_pair, had, place, trader
from tests.modules.trading.make import ADMIN, AITBC, once, person, require_sound, trading_on
from tests.modules.trading.test_exchange import require_replayed


def how(**other: int) -> Quoting:
    """A way of quoting with 1 % between bid and ask, two levels of 2 whole units."""
    plain = {"spread_basis_points": 100, "depth": 2, "size_units": 2 * AITBC, "base_units": 10 * AITBC}
    plain |= {"quote_units": 100 * AITBC, "price_step_units": STEP, "quantity_step_units": STEP}
    return Quoting(**(plain | {"min_quantity_units": STEP} | other))


def test_quotes_lie_around_the_middle_and_within_the_limits() -> None:
    found = [(one.side, one.price_units, one.quantity_units) for one in quotes(10 * AITBC, how())]
    assert found == [
        ("buy", 995 * AITBC // 100, 2 * AITBC),
        ("buy", 985 * AITBC // 100, 2 * AITBC),
        ("sell", 1005 * AITBC // 100, 2 * AITBC),
        ("sell", 1015 * AITBC // 100, 2 * AITBC),
    ]
    small = quotes(10 * AITBC, how(base_units=3 * AITBC, quote_units=10 * AITBC))
    assert sum(one.quantity_units for one in small if one.side == "sell") == 3 * AITBC
    assert sum(one.quantity_units * one.price_units // AITBC for one in small if one.side == "buy") <= 10 * AITBC
    assert quotes(10 * AITBC, how(base_units=0, quote_units=0)) == []
    assert (middle(None, None, None), middle(2, 4, 9), middle(None, 4, 9), middle(None, None, 9)) == (None, 3, 4, 9)


async def test_a_market_maker_quotes_trades_and_stops(owner: Target) -> None:
    async with trading_on(owner) as trading:
        pair = await a_pair(trading, "COAL")
        mia, ann = await trader(trading, COAL=10, AITBC=20), await trader(trading, COAL=10, AITBC=100)
        makers = trading.market_makers
        wish = {"pair": pair, "spread_basis_points": 200, "depth": 2, "size_units": 2 * AITBC}
        command = MakeMarketMaker(base_limit_units=3 * AITBC, quote_limit_units=5 * AITBC, **wish)  # type: ignore[arg-type]
        key = once()
        made = await makers.make(mia, command, key)
        assert await makers.make(mia, command, key) == made
        with pytest.raises(Invalid):
            await makers.change(mia, made.id, ChangeMarketMaker(size_units=STEP + 1))
        for who, wanted in ((ann, made.id), (mia, "mmkr_no")):
            with pytest.raises(MarketMakerNotFound):
                await makers.start(who, wanted)
        await makers.quote()
        assert (await makers.get(mia, made.id)).open_orders == 0, "it stands still until it is started"
        await makers.start(mia, made.id)
        await makers.quote()
        assert (await makers.get(mia, made.id)).reason == "no_price", "it invents none"

        await place(trading, ann, "buy", 1, 0.9, pair=pair)
        await place(trading, ann, "sell", 1, 1.1, pair=pair)
        assert len(await makers.would_quote(mia, made.id)) == 4
        await makers.quote()
        book = await trading.market_data.book(pair, depth=10)
        assert [(one.price, one.quantity) for one in book.asks] == [("1.01", "2"), ("1.03", "1"), ("1.1", "1")]
        assert [(one.price, one.quantity) for one in book.bids] == [("0.99", "2"), ("0.97", "2"), ("0.9", "1")]
        assert (await had(trading, mia))["COAL"] == ("7", "3"), "never more than its limit"
        before = (await trading.market_data.book(pair, depth=10)).events
        await makers.quote()
        assert (await trading.market_data.book(pair, depth=10)).events == before, "what is right stays"

        await place(trading, ann, "buy", 1, None, pair=pair)
        await makers.quote()
        seen = await makers.get(mia, made.id)
        assert (seen.sold, seen.bought, seen.base_change, seen.quote_change) == ("1", "0", "-1", "1.00495")
        traded = await makers.traded_since(mia, made.id, now() - timedelta(hours=1))
        assert [(side, quantity) for side, _, quantity, _ in traded] == [("sell", AITBC)]
        await trading.exchange_pairs.change(ADMIN, pair, "halted")
        await makers.quote()
        halted = await makers.get(mia, made.id)
        assert (halted.open_orders, halted.reason) == (0, "halted")
        await trading.exchange_pairs.change(ADMIN, pair, "open")
        await makers.quote()
        stopped = await makers.stop(mia, made.id)
        assert (stopped.state, stopped.open_orders) == ("stopped", 0)
        assert (await had(trading, mia))["COAL"] == ("9", "0")
        assert await makers.all(person()) == []
        await require_replayed(owner, pair)
        await require_sound(trading)
