"""Agreements about offers of the market: heard of, booked, paid by the second, and settled as their bookings end."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from tests.modules.gpu.make import Fleet
from tests.modules.marketplace.make import MARKET, PATIENCE, audited
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
