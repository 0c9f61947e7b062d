"""Items of the older marketplace: sold, bought and paid once, whatever is repeated, raced for or interrupted."""

import asyncio
import uuid
from datetime import timedelta
from typing import Any

import httpx
import pytest

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.primitives import clock
from aitbc.modules.marketplace.models.items import OrderState, hold_of
from aitbc.modules.marketplace.service.purchases import Wish
from tests.app import Caller
from tests.modules.gpu.make import Fleet
from tests.modules.marketplace.make import market_of

pytestmark = pytest.mark.anyio
PATH = "/marketplace/v1/marketplace"
WISH = Wish(provider="w", milliseconds=3_600_000, price_units=None)


async def sold(who: Caller, **changes: Any) -> dict[str, Any]:
    """Something that is for sale."""
    answer = await who.post(f"{PATH}/offers", {"provider": "shop", "item": "a card", "price": 0.5} | changes)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def balance(who: Caller) -> str:
    """What somebody can spend."""
    return str((await who.get(f"/api/v1/trading/accounts/{who.principal.account}")).json()["available"])


async def buy(who: Caller, item: dict[str, Any], once: str | None = None, **body: Any) -> httpx.Response:
    """The answer to a purchase."""
    return await who.post(f"{PATH}/offers/{item['id']}/book", {"wallet": "w", "duration_hours": 1} | body, once=once)


@pytest.fixture
async def buyer(fleet: Fleet) -> Caller:
    """Somebody with money."""
    return await fleet.owner(funds="2")


async def test_an_item_is_sold_bought_and_paid_once(fleet: Fleet, buyer: Caller) -> None:
    seller = await fleet.owner()
    item = await sold(seller, attributes={"colour": "red"}, region="eu")
    expected = {"status": "open", "capacity": 1, "price": 0.5, "item": "a card", "model": "a card", "region": "eu"}
    assert {name: item[name] for name in expected} == expected
    key = uuid.uuid4().hex
    answer = await buy(buyer, item, key, price=0.5)
    assert (answer.status_code, answer.json()["status"]) == (200, "accepted"), answer.text
    assert (await buy(buyer, item, key, price=0.5)).json() == answer.json()
    assert (await balance(buyer), await balance(seller)) == ("1.5", "0.4875")
    assert (await buyer.get(f"/api/v1/trading/transactions/{answer.json()['transaction']}")).json()["kind"] == "rent"
    (order,) = (await buyer.get(f"{PATH}/orders", wallet="w")).json()["orders"]
    assert (order["order_type"], order["item"], order["price"], order["status"]) == ("buy", "a card", 0.5, "accepted")
    again = await buy(buyer, item)
    assert (again.status_code, again.json()["code"]) == (409, "market_item_not_open")
    assert (await seller.get(f"{PATH}/offers/{item['id']}")).json()["status"] == "booked"


async def test_what_cannot_be_bought_leaves_nothing_behind(fleet: Fleet, buyer: Caller) -> None:
    seller, poor = await fleet.owner(), await fleet.owner()
    item = await sold(seller)
    refused = [
        (await buy(buyer, {"id": "nothing"}), 404, "market_item_not_found"),
        (await buy(buyer, item, price=0.4), 409, "price_below_ask"),
        (await buy(poor, item), 402, "insufficient_funds"),
        (await buy(buyer, item, duration_hours=0), 422, "invalid"),
    ]
    assert [(answer.status_code, answer.json()["code"]) for answer, *_ in refused] == [
        tuple(rest) for _, *rest in refused
    ]
    assert (await buyer.get(f"{PATH}/offers/{item['id']}")).json()["capacity"] == 1
    assert (await buyer.client.delete(f"{PATH}/offers/{item['id']}")).status_code == 404
    for _ in range(2):
        assert (await seller.client.delete(f"{PATH}/offers/{item['id']}")).json()["status"] == "closed"
    assert (await buy(buyer, item)).status_code == 409
    assert await balance(buyer) == "2"
    for body in ({"provider": "p", "price": -1}, {"item": "x", "price": 1}, {"provider": "p", "status": "booked"}):
        assert (await seller.post(f"{PATH}/offers", body)).status_code == 422
    taken = await seller.post(f"{PATH}/offers", {"id": item["id"], "provider": "p", "price": 1})
    assert (taken.status_code, taken.json()["code"]) == (409, "market_id_taken")


async def test_of_many_who_want_the_last_one_gets_it_and_the_others_keep_their_money(
    fleet: Fleet, buyer: Caller
) -> None:
    item = await sold(await fleet.owner(), capacity=2, price=0.25)
    answers = await asyncio.gather(*(buy(buyer, item) for _ in range(6)))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 409, 409, 409, 409]
    assert await balance(buyer) == "1.5"


async def test_a_purchase_that_was_interrupted_is_brought_to_its_end(fleet: Fleet, buyer: Caller) -> None:
    market, who = market_of(fleet), buyer.principal
    item = await sold(await fleet.owner(), capacity=2, price=0.5)
    lost = await market.purchases._place(who, item["id"], WISH, IdempotencyKey.NONE)
    held = await market.purchases._place(who, item["id"], WISH, IdempotencyKey.NONE)
    await market.purchases._hold(held)
    assert await balance(buyer) == "1.5"
    await market.reconcile_purchases()  # too early: their makers may be at it
    assert (await market.purchases._read(lost.id)).state == OrderState.PLACED
    clock.move(timedelta(seconds=61))
    await market.reconcile_purchases()
    await market.reconcile_purchases()
    assert (await market.purchases._read(lost.id)).state == OrderState.REFUSED
    assert (await market.purchases._read(held.id)).state == OrderState.PAID
    assert await balance(buyer) == "1.5"
    await market.purchases._hold(lost)  # its maker was only slow: the money goes back at once
    assert await balance(buyer) == "1.5"
    assert [one.id for one in await fleet.stage.service("trading").still_held([hold_of(lost.id)])] == []
    assert (await buyer.get(f"{PATH}/offers/{item['id']}")).json()["capacity"] == 1


async def test_bids_transactions_and_figures(fleet: Fleet, buyer: Caller) -> None:
    seller = await fleet.owner()
    path = "/marketplace/v1/transactions"
    offer = {"type": "marketplace", "action": "offer", "provider": "island", "price": 0.5, "gpu_model": "H100"}
    assert (await seller.post(path, offer)).json()["status"] == "success"
    bid = {"type": "marketplace", "action": "bid", "provider": "island", "price": 0.3}
    made = (await buyer.post(path, bid)).json()["id"]
    listed = (await buyer.get(path, island_id="island")).json()
    assert [(one["action"], one["price"]) for one in listed] == [("offer", 0.5), ("bid", 0.3)]
    assert [one["action"] for one in (await seller.get(path, island_id="island")).json()] == ["offer"]
    for wrong in (offer | {"action": "list"}, offer | {"type": "other"}, bid | {"price": 0}):
        assert (await buyer.post(path, wrong)).status_code == 422
    assert (await seller.client.delete(f"{PATH}/orders/{made}")).status_code == 404
    for _ in range(2):
        assert (await buyer.client.delete(f"{PATH}/orders/{made}")).json()["status"] == "cancelled"
    assert [one["id"] for one in (await buyer.get(f"{PATH}/bids", status="cancelled")).json()] == [made]
    before = (await buyer.get(f"{PATH}/analytics", period_type="weekly")).json()
    await buy(buyer, await sold(seller, price=0.5))
    after = (await buyer.get(f"{PATH}/analytics", period_type="weekly")).json()
    assert after["total_transactions"] - before["total_transactions"] == 1
    assert round(after["total_volume"] - before["total_volume"], 8) == 0.5
    assert (await buyer.get(f"{PATH}/analytics", period_type="yearly")).status_code == 422


async def test_health_is_open_to_everybody(fleet: Fleet) -> None:
    async with fleet.stage.client() as client:
        states = [
            (await client.get(f"/marketplace{path}")).json()["status"]
            for path in ("/health", "/ready", "/live", "/marketplace/status")
        ]
    assert states == ["healthy", "ready", "alive", "operational"]
