"""Trades over HTTP: an offer, a request, a match, an agreement, its settlement, and what the sides say at the end."""

from datetime import timedelta

import pytest

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import clock
from tests.modules.trading.make import AITBC
from tests.modules.trading.trades import OFFER, REQUEST, a_market

ESCROW = {"settlement_type": "escrow"}
IMMEDIATE = {"settlement_type": "immediate"}
WEEKS = {"periods": 3, "period_hours": 168}
HALVES = {
    "settlement_type": "milestone",
    "milestones": [{"name": "first", "share": 1}, {"name": "second", "share": 2}],
}


async def test_an_immediate_trade_pays_at_once(empty: Target) -> None:
    async with a_market(empty) as market:
        match = await market.match()
        assert match["score"] >= 60 and match["confidence"] == round(match["score"] / 100, 4)
        agreement = await market.post("buyer", f"/matches/{match['id']}/accept", IMMEDIATE, status=201)
        assert (agreement["price"], agreement["state"]) == ("10", "agreed")
        path = f"/agreements/{agreement['id']}/settlement"
        settlement = await market.post("buyer", path, status=201)
        assert (settlement["state"], settlement["fee"], settlement["net"]) == ("completed", "0.1", "9.9")
        assert await market.owned("buyer") == (90 * AITBC, 0)
        assert await market.owned("seller") == (990_000_000, 0)
        assert (await market.get("seller", f"/agreements/{agreement['id']}"))["state"] == "completed"
        assert (await market.get("buyer", f"/requests/{match['request']}"))["state"] == "completed"
        assert (await market.get("buyer", f"/matches/{match['id']}"))["state"] == "completed"
        assert await market.refused("buyer", path) == (409, "trade_agreement_not_open")
        await market.trading.seal()
        (payment,) = settlement["payments"]
        moved = await market.get("buyer", "/transactions", reference=payment["hold"])
        assert [line["kind"] for line in moved["data"]] == ["rent", "hold"] and payment["state"] == "paid"


async def test_an_escrow_is_paid_when_the_buyer_confirms(empty: Target) -> None:
    async with a_market(empty) as market:
        settlement = await market.settle(ESCROW)
        path = f"/settlements/{settlement['id']}"
        assert await market.owned("buyer") == (90 * AITBC, 10 * AITBC)
        assert settlement["state"] == "settling" and settlement["payments"][0]["state"] == "held"
        assert await market.refused("seller", f"{path}/confirm", {}) == (403, "trade_not_your_side")
        assert await market.refused("buyer", f"{path}/deliver", {}) == (403, "trade_not_your_side")
        assert await market.refused("stranger", f"{path}/confirm", {}) == (404, "trade_settlement_not_found")
        delivered = await market.post("seller", f"{path}/deliver", {})
        assert delivered["payments"][0]["state"] == "delivered"
        paid = await market.post("buyer", f"{path}/confirm", {})
        assert (paid["state"], paid["fee"], paid["net"], paid["refunded"]) == ("completed", "0.2", "9.8", "0")
        assert await market.post("buyer", f"{path}/confirm", {}) == paid
        assert await market.refused("seller", f"{path}/refund", {}) == (409, "trade_payment_not_open")
        assert await market.owned("buyer") == (90 * AITBC, 0) and await market.owned("seller") == (980_000_000, 0)


@pytest.mark.parametrize("delivered", [True, False])
async def test_time_pays_what_was_delivered_and_refunds_what_was_not(empty: Target, delivered: bool) -> None:
    async with a_market(empty) as market:
        settlement = await market.settle(ESCROW)
        path = f"/settlements/{settlement['id']}"
        if delivered:
            await market.post("seller", f"{path}/deliver", {})
        clock.move(timedelta(hours=25))
        await market.trading.end_trades()
        state = (await market.get("buyer", path))["state"]
        assert state == ("completed" if delivered else "settling")
        clock.move(timedelta(days=7))
        await market.trading.expire_holds()
        await market.trading.end_trades()
        ended = await market.get("buyer", path)
        assert ended["state"] == ("completed" if delivered else "failed")
        assert ended["refunded"] == ("0" if delivered else "10")
        agreement = await market.get("buyer", f"/agreements/{settlement['agreement']}")
        assert agreement["state"] == ended["state"] and agreement["ended_at"] == ended["ended_at"]


async def test_milestones_add_up_and_each_is_paid_once(empty: Target) -> None:
    async with a_market(empty) as market:
        settlement = await market.settle(HALVES)
        path = f"/settlements/{settlement['id']}"
        assert [one["amount"] for one in settlement["payments"]] == ["3.33333333", "6.66666667"]
        first = await market.post("buyer", f"{path}/confirm", {"payment": 1})
        assert first["state"] == "settling" and await market.post("buyer", f"{path}/confirm", {"payment": 1}) == first
        await market.post("seller", f"{path}/deliver", {"payment": 2})
        assert await market.refused("buyer", f"{path}/confirm", {"payment": 3}) == (404, "trade_payment_not_found")
        clock.move(timedelta(hours=2))
        await market.trading.end_trades()
        ended = await market.get("seller", path)
        assert ended["state"] == "completed" and [one["state"] for one in ended["payments"]] == ["paid", "paid"]
        assert (ended["fee"], ended["net"]) == ("0.25", "9.75")
        for wrong in ({"settlement_type": "milestone"}, HALVES | {"settlement_type": "escrow"}):
            match = await market.match()
            assert await market.refused("buyer", f"/matches/{match['id']}/accept", wrong) == (
                422,
                "trade_milestones_do_not_fit",
            )


async def test_a_subscription_is_paid_as_time_goes_by_and_stops_for_the_rest(empty: Target) -> None:
    async with a_market(empty) as market:
        settlement = await market.settle(WEEKS)
        path = f"/settlements/{settlement['id']}"
        assert [one["amount"] for one in settlement["payments"]] == ["3.33333334", "3.33333333", "3.33333333"]
        assert settlement["fee_basis_points"] == 150
        assert await market.refused("seller", f"{path}/deliver", {}) == (409, "trade_payment_not_open")
        clock.move(timedelta(days=7, seconds=1))
        await market.trading.expire_holds()
        await market.trading.end_trades()
        going_on = await market.get("seller", path)
        assert [one["state"] for one in going_on["payments"]] == ["paid", "held", "held"]
        assert await market.refused("stranger", f"{path}/stop") == (404, "trade_settlement_not_found")
        stopped = await market.post("buyer", f"{path}/stop")
        assert stopped["state"] == "settling" and stopped["refunded"] == "3.33333333"
        assert [one["state"] for one in stopped["payments"]] == ["paid", "held", "refunded"]
        assert await market.post("buyer", f"{path}/stop") == stopped
        clock.move(timedelta(days=7))
        await market.trading.end_trades()
        ended = await market.get("buyer", path)
        assert ended["state"] == "completed" and [one["state"] for one in ended["payments"]] == [
            *("paid", "paid", "refunded")
        ]
        escrow = await market.settle(ESCROW)
        assert await market.refused("buyer", f"/settlements/{escrow['id']}/stop") == (409, "trade_no_subscription")


async def test_periods_that_had_not_begun_when_a_dispute_did_go_back(empty: Target) -> None:
    async with a_market(empty) as market:
        settlement = await market.settle(WEEKS)
        path = f"/settlements/{settlement['id']}"
        await market.post("buyer", f"{path}/dispute", {"reason": "It never answers"})
        clock.move(timedelta(days=7, seconds=1))
        await market.trading.end_trades()
        ended = await market.get("seller", path)
        assert [one["state"] for one in ended["payments"]] == ["divided", "refunded", "refunded"]


async def test_terms_of_a_subscription_that_do_not_fit_are_refused(empty: Target) -> None:
    async with a_market(empty) as market:
        match = await market.match(offer={"price": "0.00000002"})
        accept = f"/matches/{match['id']}/accept"
        for wrong in (
            {"settlement_type": "subscription"},
            {"periods": 3},
            {"period_hours": 3},
            WEEKS | {"settlement_type": "escrow"},
            WEEKS | {"milestones": [{"name": "all", "share": 1}]},
            WEEKS,
        ):
            assert await market.refused("buyer", accept, wrong) == (422, "trade_periods_do_not_fit"), wrong
        assert (await market.refused("buyer", accept, WEEKS | {"periods": 21}))[0] == 422
        await market.post("buyer", accept, WEEKS | {"periods": 2}, status=201)


async def test_a_dispute_stops_payments_until_it_is_decided(empty: Target) -> None:
    async with a_market(empty) as market:
        settlement = await market.settle(ESCROW)
        path = f"/settlements/{settlement['id']}"
        await market.post("seller", f"{path}/deliver", {})
        assert await market.refused("buyer", f"{path}/evidence", {"text": "Look"}) == (409, "trade_not_disputed")
        disputed = await market.post("buyer", f"{path}/dispute", {"reason": "Only half"})
        assert disputed["disputed"] and disputed["decide_by"] is not None
        clock.move(timedelta(hours=25))
        await market.trading.end_trades()
        for who, what in (("buyer", "confirm"), ("seller", "refund"), ("seller", "deliver")):
            assert await market.refused(who, f"{path}/{what}", {}) == (409, "trade_disputed")
        said = await market.post("seller", f"{path}/evidence", {"text": "All of it"})
        assert [one["text"] for one in said["evidence"]] == ["All of it"]
        decision = {"seller_basis_points": 2_500, "reason": "A quarter was delivered."}
        assert await market.refused("buyer", f"{path}/decision", decision) == (403, "forbidden")
        ended = await market.post("admin", f"{path}/decision", decision)
        assert (ended["fee"], ended["net"], ended["refunded"]) == ("0.05", "2.45", "7.5")
        assert not ended["disputed"] and ended["payments"][0]["state"] == "divided"
        assert await market.refused("seller", f"{path}/dispute", {"reason": "No"}) == (409, "trade_payment_not_open")


async def test_a_dispute_that_nobody_decides_is_divided_evenly(empty: Target) -> None:
    async with a_market(empty) as market:
        settlement = await market.settle(HALVES)
        path = f"/settlements/{settlement['id']}"
        await market.post("buyer", f"{path}/confirm", {"payment": 1})
        await market.post("seller", f"{path}/dispute", {"reason": "Not paid"})
        clock.move(timedelta(days=7, seconds=1))
        await market.trading.end_trades()
        ended = await market.get("buyer", path)
        assert ended["state"] == "completed" and ended["refunded"] == "3.33333333"
        assert [one["state"] for one in ended["payments"]] == ["paid", "divided"]


async def test_a_preview_says_what_a_request_would_be_matched_with_and_keeps_nothing(empty: Target) -> None:
    async with a_market(empty) as market:
        offer = await market.post("seller", "/offers", OFFER, status=201)
        await market.post(
            "seller", "/offers", OFFER | {"specifications": {"vram_gb": 8}, "regions": ["far"]}, status=201
        )
        wanted = REQUEST | {"excluded_regions": ["far"], "budget_min": "5"}
        seen = await market.post("buyer", "/requests/preview", wanted)
        assert (seen["offers"], seen["fitting"]) == (2, 1)
        (only,) = seen["data"]
        assert (only["offer"], only["price"]) == (offer["id"], "10")
        assert (await market.get("buyer", "/requests"))["data"] == []
        request = await market.post("buyer", "/requests", wanted, status=201)
        (match,) = (await market.post("buyer", f"/requests/{request['id']}/matches"))["data"]
        assert (match["score"], match["parts"]) == (only["score"], only["parts"])
        wrong = wanted | {"budget_min": "30"}
        assert await market.refused("buyer", "/requests/preview", wrong) == (422, "invalid")


async def test_a_request_leads_to_one_agreement(empty: Target) -> None:
    async with a_market(empty) as market:
        await market.post("seller", "/offers", OFFER | {"title": "Another"}, status=201)
        match = await market.match()
        found = (await market.get("buyer", f"/requests/{match['request']}/matches"))["data"]
        assert len(found) == 2 and found[0]["score"] >= found[1]["score"]
        again = (await market.post("buyer", f"/requests/{match['request']}/matches"))["data"]
        assert {one["id"] for one in again} == {one["id"] for one in found}
        accept = f"/matches/{found[0]['id']}/accept"
        assert await market.refused("seller", accept, ESCROW) == (404, "trade_match_not_found")
        assert await market.refused("stranger", accept, ESCROW) == (404, "trade_match_not_found")
        await market.post("buyer", accept, ESCROW, status=201)
        for one in found:
            assert await market.refused("buyer", f"/matches/{one['id']}/accept", ESCROW) == (
                409,
                "trade_match_not_open",
            )
        assert (await market.get("seller", f"/matches/{found[1]['id']}"))["state"] == "cancelled"
        path = f"/requests/{match['request']}"
        assert await market.refused("buyer", f"{path}/matches") == (409, "trade_request_not_open")
        assert await market.refused("buyer", f"{path}/cancel") == (409, "trade_request_not_open")


async def test_what_is_taken_of_an_offer_is_free_again_when_nobody_pays(empty: Target) -> None:
    async with a_market(empty) as market:
        agreement = await market.agree(ESCROW)
        offer = (await market.get("buyer", f"/matches/{agreement['match']}"))["offer"]
        assert (await market.get("stranger", f"/offers/{offer}"))["available"] == 0
        clock.move(timedelta(hours=24))
        assert await market.refused("buyer", f"/agreements/{agreement['id']}/settlement") == (
            409,
            "trade_agreement_not_open",
        )
        await market.trading.end_trades()
        assert (await market.get("buyer", f"/agreements/{agreement['id']}"))["state"] == "cancelled"
        assert (await market.get("buyer", f"/requests/{agreement['request']}"))["state"] == "cancelled"
        assert (await market.get("stranger", f"/offers/{offer}"))["available"] == 1


async def test_money_that_is_not_there_settles_nothing(empty: Target) -> None:
    async with a_market(empty, funds=5 * AITBC) as market:
        agreement = await market.agree(ESCROW)
        path = f"/agreements/{agreement['id']}/settlement"
        assert await market.refused("seller", path) == (403, "trade_not_your_side")
        assert await market.refused("buyer", path) == (402, "insufficient_funds")
        assert (await market.get("buyer", f"/agreements/{agreement['id']}"))["state"] == "agreed"
        assert (await market.get("buyer", "/settlements"))["data"] == []
        cancelled = await market.post("seller", f"/agreements/{agreement['id']}/cancel")
        assert cancelled["state"] == "cancelled"
        assert await market.refused("buyer", path) == (409, "trade_agreement_not_open")


async def test_nothing_fits_that_is_too_dear_or_runs_out_or_is_closed(empty: Target) -> None:
    async with a_market(empty) as market:
        match = await market.match(budget_max="9")
        assert match["parts"]["price"] == 0 and match["score"] >= 60
        assert await market.refused("buyer", f"/matches/{match['id']}/accept", ESCROW) == (409, "trade_outside_budget")
        match = await market.match()
        await market.post("seller", f"/offers/{match['offer']}/close")
        assert await market.refused("buyer", f"/matches/{match['id']}/accept", ESCROW) == (409, "trade_offer_not_open")
        match = await market.match()
        clock.move(timedelta(hours=24))
        assert await market.refused("buyer", f"/matches/{match['id']}/accept", ESCROW) == (409, "trade_match_not_open")
        await market.trading.end_trades()
        assert (await market.get("seller", f"/matches/{match['id']}"))["state"] == "cancelled"
        clock.move(timedelta(days=7))
        await market.trading.end_trades()
        assert (await market.get("buyer", f"/requests/{match['request']}"))["state"] == "failed"


async def test_both_sides_rate_a_completed_trade_once(empty: Target) -> None:
    async with a_market(empty) as market:
        settlement = await market.settle(ESCROW)
        path = f"/agreements/{settlement['agreement']}/feedback"
        five = {"rating": 5, "text": "As agreed."}
        assert await market.refused("buyer", path, five) == (409, "trade_agreement_not_open")
        await market.post("buyer", f"/settlements/{settlement['id']}/confirm", {})
        said = await market.post("buyer", path, five, status=201)
        assert (said["role"], said["reviewed"]) == ("buyer", market.people["seller"].account)
        assert await market.post("buyer", path, five, status=201) == said
        assert await market.refused("buyer", path, five | {"rating": 1}) == (409, "trade_feedback_given")
        assert await market.refused("stranger", path, five) == (404, "trade_agreement_not_found")
        await market.post("seller", path, {"rating": 4}, status=201)
        assert [one["rating"] for one in (await market.get("seller", path))["data"]] == [5, 4]
        better = await market.match()
        assert better["parts"]["reputation"] > 50


async def test_the_sides_see_their_trades_and_nobody_else_does(empty: Target) -> None:
    async with a_market(empty) as market:
        settlement = await market.settle(ESCROW)
        agreement = await market.get("seller", f"/agreements/{settlement['agreement']}")
        for path in (
            f"/requests/{agreement['request']}",
            f"/matches/{agreement['match']}",
            f"/agreements/{agreement['id']}",
            f"/agreements/{agreement['id']}/feedback",
            f"/settlements/{settlement['id']}",
        ):
            assert await market.get("buyer", path) == await market.get("admin", path)
            await market.get("stranger", path, status=404)
        for name in ("matches", "agreements", "settlements"):
            for who, seen in (("buyer", 1), ("seller", 1), ("stranger", 0)):
                assert len((await market.get(who, f"/{name}"))["data"]) == seen
        await market.get("seller", f"/requests/{agreement['request']}", status=404)
        assert (await market.get("buyer", "/agreements", state="agreed"))["data"] == []
        for number in range(4):
            await market.post("buyer", "/requests", REQUEST | {"title": f"number {number}"}, status=201)
        page = await market.get("buyer", "/requests", limit=3)
        rest = await market.get("buyer", "/requests", limit=3, cursor=page["next_cursor"])
        assert len(page["data"]) == 3 and len(rest["data"]) == 2 and not rest["has_more"]
        assert page["data"][0]["title"] == "number 3"


async def test_figures_are_those_of_the_rows(empty: Target) -> None:
    async with a_market(empty) as market:
        nothing = await market.get("buyer", "/analytics")
        assert (nothing["total_trades"], nothing["volume"], nothing["average_value"]) == (0, "0", None)
        settled = await market.settle(IMMEDIATE)
        await market.settle(IMMEDIATE, offer={"price": "5"})
        disputed = await market.settle(ESCROW)
        path = f"/settlements/{disputed['id']}"
        await market.post("buyer", f"{path}/dispute", {"reason": "Nothing came"})
        await market.post("admin", f"{path}/decision", {"seller_basis_points": 0, "reason": "So it is."})
        cancelled = await market.agree(ESCROW)
        await market.post("buyer", f"/agreements/{cancelled['id']}/cancel")
        await market.post("buyer", f"/agreements/{settled['agreement']}/feedback", {"rating": 4}, status=201)
        for period in ("daily", "weekly", "monthly"):
            found = await market.get("stranger", "/analytics", period=period)
            assert (found["total_trades"], found["completed_trades"]) == (4, 2)
            assert (found["failed_trades"], found["cancelled_trades"], found["disputed_trades"]) == (1, 1, 1)
            assert (found["volume"], found["average_value"], found["fees"]) == ("15", "7.5", "0.15")
            assert (found["active_buyers"], found["active_sellers"], found["average_rating"]) == (1, 1, 4.0)
            assert found["by_type"] == {"compute_resources": 4}
