"""Negotiations: prices named in turn, within what the strategy allows, until both agree or time runs out."""

from datetime import timedelta

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import clock
from tests.modules.trading.trades import Market, a_market


async def begun(market: Market, **body: object) -> str:
    """A negotiation that the buyer began at half the price."""
    match = await market.match()
    path = f"/matches/{match['id']}/negotiations"
    return str((await market.post("buyer", path, {"price": "5"} | body, status=201))["id"])


async def test_the_sides_come_towards_each_other_and_agree(empty: Target) -> None:
    async with a_market(empty) as market:
        path = f"/negotiations/{await begun(market, settlement_type='immediate')}"
        assert await market.refused("buyer", f"{path}/accept") == (409, "trade_not_your_turn")
        assert await market.refused("buyer", f"{path}/counter", {"price": "6"}) == (409, "trade_not_your_turn")
        assert await market.refused("stranger", f"{path}/accept") == (404, "trade_negotiation_not_found")
        first = await market.post("seller", f"{path}/counter", {"price": "9"})
        assert (first["round"], first["price"], first["rounds_max"]) == (2, "9", 5)
        too_little = await market.refused("buyer", f"{path}/counter", {"price": "5.1"})
        assert too_little == (422, "trade_concession_too_small")
        await market.post("buyer", f"{path}/counter", {"price": "8"})
        agreed = await market.post("seller", f"{path}/accept", status=201)
        assert (agreed["price"], agreed["negotiation"]) == ("8", path.rpartition("/")[2])
        settled = await market.post("buyer", f"/agreements/{agreed['id']}/settlement", status=201)
        assert (settled["fee"], settled["net"], settled["state"]) == ("0.08", "7.92", "completed")
        assert (await market.get("seller", path))["state"] == "accepted"


async def test_near_prices_agree_only_where_a_side_says_so(empty: Target) -> None:
    async with a_market(empty) as market:
        path = f"/negotiations/{await begun(market, price='9.9')}"
        near = {"price": "10"}
        countered = await market.post("seller", f"{path}/counter", near)
        assert countered["state"] == "active" and countered["score"] >= 85
        ended = await market.post("buyer", f"{path}/counter", {"price": "10.395", "auto_accept": True})
        assert (ended["state"], ended["price"]) == ("active", "10.395")
        done = await market.post("seller", f"{path}/counter", {"price": "9.5", "auto_accept": True})
        assert done["state"] == "active" and done["score"] < 85
        assert (await market.get("buyer", "/agreements"))["data"] == []


async def test_a_price_near_enough_is_accepted_at_the_one_that_stands(empty: Target) -> None:
    async with a_market(empty) as market:
        path = f"/negotiations/{await begun(market, price='9.9')}"
        done = await market.post("seller", f"{path}/counter", {"price": "10", "auto_accept": True})
        assert (done["state"], done["price"]) == ("accepted", "9.9")
        (agreed,) = (await market.get("buyer", "/agreements"))["data"]
        assert agreed["price"] == "9.9" and agreed["state"] == "agreed"


async def test_the_first_price_is_the_mean_of_budget_and_offer(empty: Target) -> None:
    async with a_market(empty) as market:
        match = await market.match(budget_min="4", budget_max="19")
        path = f"/matches/{match['id']}/negotiations"
        opened = await market.post("seller", path, {"strategy": "aggressive"}, status=201)
        assert (opened["price"], opened["rounds_max"]) == ("11", 3)
        assert await market.refused("buyer", path, {}) == (409, "trade_negotiation_not_open")
        accepted = await market.post("buyer", f"/matches/{match['id']}/accept", {}, status=201)
        assert accepted["price"] == "10"
        assert (await market.get("seller", f"/negotiations/{opened['id']}"))["state"] == "rejected"


async def test_rounds_and_hours_run_out(empty: Target) -> None:
    async with a_market(empty) as market:
        path = f"/negotiations/{await begun(market, strategy='aggressive')}"
        await market.post("seller", f"{path}/counter", {"price": "9"})
        await market.post("buyer", f"{path}/counter", {"price": "6"})
        assert await market.refused("seller", f"{path}/counter", {"price": "8"}) == (409, "trade_negotiation_not_open")
        clock.move(timedelta(minutes=60))
        assert await market.refused("seller", f"{path}/accept") == (409, "trade_negotiation_not_open")
        await market.trading.end_trades()
        ended = await market.get("seller", path)
        assert ended["state"] == "expired"
        assert (await market.get("buyer", f"/matches/{ended['match']}"))["state"] == "matching"
        assert (await market.get("buyer", f"/requests/{ended['request']}"))["state"] == "matching"
        rejected = f"/negotiations/{await begun(market)}"
        assert (await market.post("buyer", f"{rejected}/reject"))["state"] == "rejected"
        assert await market.refused("seller", f"{rejected}/accept") == (409, "trade_negotiation_not_open")


async def test_what_fits_too_little_or_is_fixed_is_not_negotiated(empty: Target) -> None:
    async with a_market(empty) as market:
        for wishes in ({"negotiable": False}, {"specifications": {"vram_gb": 160}}):
            match = await market.match(**wishes)
            path = f"/matches/{match['id']}/negotiations"
            assert await market.refused("buyer", path, {}) == (409, "trade_negotiation_not_open")
