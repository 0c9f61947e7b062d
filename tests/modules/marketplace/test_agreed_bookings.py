"""Agreements about offers of the market: heard of, booked or placed as jobs, paid, and settled as those end."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from aitbc.kernel.primitives import money
from tests.modules.gpu.make import Fleet
from tests.modules.marketplace.make import MARKET, PATIENCE, audited, made, market_of
from tests.modules.marketplace.test_bookings import BOOKINGS, Sale, fleet, for_sale

__all__ = ["fleet"]
pytestmark = pytest.mark.anyio
TRADING = "/api/v1/trading"


async def got(who: Any, path: str) -> dict[str, Any]:
    """What is at a path of trading."""
    answer = await who.get(f"{TRADING}/{path}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def post(who: Any, path: str, body: Any = None, status: int = 201) -> dict[str, Any]:
    """The answer to a command of trading, which must have this status."""
    answer = await who.post(f"{TRADING}/{path}", body)
    assert answer.status_code == status, answer.text
    return dict(answer.json())


async def matched(sale: Sale, hours: float = 0.5) -> dict[str, Any]:
    """The match of the sale's offer with a request of its buyer's, as soon as the offer was heard of."""
    offer = sale.offer["id"].replace("offer_", "toff_")
    wish = {"trade_type": "compute_resources", "title": "A GPU", "specifications": {"hours": hours, "vram_gb": 8}}
    request = await post(sale.buyer, "requests", wish)
    async with asyncio.timeout(PATIENCE):
        while True:
            found = (await post(sale.buyer, f"requests/{request['id']}/matches", status=200))["data"]
            if mine := [one for one in found if one["offer"] == offer]:
                return dict(mine[0])
            await asyncio.sleep(0.1)


async def until(sale: Sale, agreement: dict[str, Any], *states: str) -> dict[str, Any]:
    """The agreement, as soon as it is in one of these states."""
    async with asyncio.timeout(PATIENCE):
        while (seen := await got(sale.buyer, f"agreements/{agreement['id']}"))["state"] not in states:
            await sale.keep()
            await asyncio.sleep(0.1)
    return seen


async def test_what_was_agreed_on_is_booked_paid_by_the_second_and_settled_as_it_ends(fleet: Fleet) -> None:
    sale = await for_sale(fleet)
    match = await matched(sale)
    assert match["price"] == "1.8"  # half an hour of it
    told = await got(sale.owner, f"offers/{match['offer']}")
    assert (told["price"], told["market_offer"]) == ("3.6", sale.offer["id"])
    assert (await post(sale.owner, f"offers/{match['offer']}/close", status=409))["code"] == "trade_offer_of_market"
    accept = f"matches/{match['id']}/accept"
    wrong = await post(sale.buyer, accept, {"settlement_type": "immediate"}, status=422)
    assert wrong["code"] == "trade_settlement_does_not_fit"
    signed = await post(sale.buyer, accept, {})
    assert (signed["settlement_type"], signed["market_offer"]) == ("metered", sale.offer["id"])
    for path in ("settlement", "cancel"):
        answer = await sale.buyer.post(f"{TRADING}/agreements/{signed['id']}/{path}")
        assert answer.status_code == 409, answer.text
    kept = await until(sale, signed, "settling")
    booking = {"id": kept["booking"]}
    await sale.keep()
    seen = await sale.see(booking)
    assert (seen["state"], seen["price_hour"], seen["account"]) == ("active", "3.6", sale.buyer.principal.account)
    await sale.pass_time(400)
    over = (await sale.buyer.post(f"{BOOKINGS}/{booking['id']}/end")).json()
    done = await until(sale, signed, "completed")
    assert done["reason"] == "released"
    [settled] = [one for one in (await got(sale.buyer, "settlements"))["data"] if one["agreement"] == signed["id"]]
    assert settled["total"] == "1.8"
    assert Decimal(settled["fee"]) + Decimal(settled["net"]) == Decimal(over["paid"]) > 0
    assert Decimal(settled["refunded"]) == Decimal("1.8") - Decimal(over["paid"])
    available, held = await sale.purse(sale.buyer)
    assert (available + Decimal(over["paid"]), held) == (Decimal(10), Decimal(0))
    await post(sale.buyer, f"agreements/{signed['id']}/feedback", {"rating": 5})
    await audited(fleet)


async def test_an_agreement_that_cannot_be_kept_ends_with_its_reason_and_costs_nothing(fleet: Fleet) -> None:
    sale = await for_sale(fleet)
    first, second = await matched(sale), await matched(sale)
    kept = await until(sale, await post(sale.buyer, f"matches/{first['id']}/accept", {}), "settling")
    refused = await until(sale, await post(sale.buyer, f"matches/{second['id']}/accept", {}), "cancelled")
    assert (refused["reason"], refused["booking"]) == ("time_taken", None)
    assert (await got(sale.buyer, f"requests/{refused['request']}"))["state"] == "cancelled"
    await sale.buyer.post(f"{BOOKINGS}/{kept['booking']}/end")
    await until(sale, kept, "completed", "failed")

    poor = await for_sale(fleet, funds="0.0001")
    signed = await post(poor.buyer, f"matches/{(await matched(poor))['id']}/accept", {})
    failed = await until(poor, signed, "failed")
    assert failed["reason"] == "no_funds"
    withdrawn = await for_sale(fleet)
    match = await matched(withdrawn)
    assert (await withdrawn.owner.post(f"{MARKET}/offers/{withdrawn.offer['id']}/withdraw")).status_code == 200
    async with asyncio.timeout(PATIENCE):
        while (await got(withdrawn.owner, f"offers/{match['offer']}"))["state"] == "open":  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    answer = await withdrawn.buyer.post(f"{TRADING}/matches/{match['id']}/accept", {})
    assert answer.json()["code"] == "trade_offer_not_open"
    await audited(fleet)


async def work_wanted(buyer: Any, offer: dict[str, Any], **work: Any) -> dict[str, Any]:
    """The match of an offer of work with a request for two jobs, as soon as the offer was heard of."""
    jobs = {"job_kind": "embed", "units": 400, "inputs": [{"texts": ["one"]}, {"texts": ["two"]}], **work}
    wish = {"trade_type": "inference_tasks", "title": "Two texts", "work": jobs}
    request = await post(buyer, "requests", wish)
    async with asyncio.timeout(PATIENCE):
        while True:
            found = (await post(buyer, f"requests/{request['id']}/matches", status=200))["data"]
            if mine := [one for one in found if one["offer"] == offer["id"].replace("offer_", "toff_")]:
                return dict(mine[0])
            await asyncio.sleep(0.1)


async def until_over(fleet: Fleet, who: Any, agreement: dict[str, Any], *states: str) -> dict[str, Any]:
    """The agreement about work, as soon as it is in one of these states."""
    async with asyncio.timeout(PATIENCE):
        while (seen := await got(who, f"agreements/{agreement['id']}"))["state"] not in states:
            await market_of(fleet).keep_agreed_work()
            await asyncio.sleep(0.1)
    return seen


async def test_agreed_work_is_done_by_its_miner_alone_at_the_agreed_price_and_settled_by_its_receipts(
    fleet: Fleet,
) -> None:
    owner, buyer = await fleet.owner(), await fleet.owner(funds="10")
    rig, other = await fleet.rig(owner, kinds=["embed"]), await fleet.rig(owner, kinds=["embed"])
    offer = await made(owner, miner=rig.id, sells="work", kind="embed", price="0.002")
    devices = {
        "trade_type": "compute_resources",
        "title": "x",
        "work": {"job_kind": "embed", "units": 1, "inputs": [{}]},
    }
    assert "Expected for trade_type inference_tasks only" in str(await post(buyer, "requests", devices, status=422))
    match = await work_wanted(buyer, offer)
    assert match["price"] == "1.6"  # 800 units of it
    assert (await got(buyer, f"requests/{match['request']}"))["work"] == {
        "job_kind": "embed",
        "model": None,
        "units": 400,
        "jobs": 2,
    }
    lower = await post(buyer, f"matches/{match['id']}/negotiations", {"price": "0.8"})
    signed = await post(owner, f"negotiations/{lower['id']}/accept")
    assert (signed["settlement_type"], signed["market_offer"], signed["jobs"]) == ("metered", offer["id"], [])
    kept = await until_over(fleet, buyer, signed, "settling")
    assert len(kept["jobs"]) == 2 and kept["booking"] is None
    for query in (
        "SELECT work AS told FROM trading.trade_requests",
        "SELECT inputs AS told FROM marketplace.agreed_work",
    ):
        assert not any("texts" in (row["told"] or "") for row in await fleet.sql(query))
    assert (await other.poll(slots=4))["leases"] == []
    leases = (await rig.poll(slots=4))["leases"]
    assert [lease["job"] for lease in leases] == kept["jobs"]
    await market_of(fleet).keep_agreed_work()
    for lease in leases:
        assert (await rig.deliver(lease)).status_code == 200
    done = await until_over(fleet, buyer, signed, "completed")
    assert done["reason"] == "completed"
    receipts = [(await got(buyer, f"receipts/rcpt_{job[4:]}"))["receipt"] for job in done["jobs"]]
    assert {(one["unit_price"], one["offer"]) for one in receipts} == {("0.001", offer["id"])}
    [settled] = [one for one in (await got(buyer, "settlements"))["data"] if one["agreement"] == signed["id"]]
    paid = sum(Decimal(one["price"]) for one in receipts)
    assert Decimal(settled["fee"]) + Decimal(settled["net"]) == paid > 0
    assert (settled["total"], Decimal(settled["refunded"])) == ("0.8", Decimal("0.8") - paid)
    balance = await fleet.stage.service("trading").balance(buyer.principal.account)
    assert (Decimal(10) - Decimal(money.render(balance.available_units)), balance.held_units) == (paid, 0)


async def test_agreed_work_that_cannot_be_placed_or_is_canceled_costs_nothing_and_says_why(fleet: Fleet) -> None:
    owner, buyer, poor = await fleet.owner(), await fleet.owner(funds="10"), await fleet.owner(funds="0.0001")
    rig = await fleet.rig(owner, kinds=["embed"])
    offer = await made(owner, miner=rig.id, sells="work", kind="embed", price="0.002")
    for who, work, reason in (
        (buyer, {"units": 1}, "max_price_too_low"),
        (buyer, {"inputs": [{"texts": ["one"]}, {"wrong": 1}]}, "invalid_input"),
        (poor, {}, "insufficient_funds"),
    ):
        signed = await post(who, f"matches/{(await work_wanted(who, offer, **work))['id']}/accept", {})
        over = await until_over(fleet, who, signed, "cancelled", "failed")
        assert over["reason"] == reason
    signed = await post(buyer, f"matches/{(await work_wanted(buyer, offer))['id']}/accept", {})
    for job in (await until_over(fleet, buyer, signed, "settling"))["jobs"]:
        assert (await buyer.post(f"/api/v1/ai/jobs/{job}/cancel")).status_code == 200
    assert (await until_over(fleet, buyer, signed, "failed"))["reason"] == "canceled_by_owner"
    balance = await fleet.stage.service("trading").balance(buyer.principal.account)
    assert (money.render(balance.available_units), balance.held_units) == ("10", 0)
