"""The time of a miner in every place: put on sale, bid for, used, paid, rated, disputed and given back."""

import asyncio
import uuid
from decimal import Decimal
from typing import Any

import pytest

from tests.app import Caller
from tests.journeys.hand_miner import HandMiner, Place

MARKET = "/api/v1/marketplace"
PATIENCE = 60.0


async def done(who: Caller, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """A command on the market that succeeds."""
    answer = await who.post(f"{MARKET}{path}", body or {}, once=uuid.uuid4().hex)
    assert answer.is_success, answer.text
    return dict(answer.json())


async def until(who: Caller, path: str, state: str) -> dict[str, Any]:
    """What is there once it is in this state."""
    async with asyncio.timeout(PATIENCE):
        while (seen := (await who.get(f"{MARKET}{path}")).json())["state"] != state:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.2)
    return dict(seen)


async def available(who: Caller) -> Decimal:
    """What somebody can spend."""
    return Decimal((await who.get(f"/api/v1/trading/accounts/{who.principal.account}")).json()["available"])


@pytest.mark.timeout(180)
async def test_a_miner_is_sold_bid_for_used_rated_and_disputed(app: Place) -> None:
    owner, buyer = await app.who("owner"), await app.who("buyer", funds="400")
    miner = await HandMiner.enrol(app, owner, gpus=["NVIDIA H100 80GB HBM3"])
    await miner.beat()
    await done(owner, "/offers", {"miner": miner.id, "sells": "device", "price": "3600"})
    wish = {"filter": f"miner = {miner.id}", "duration_seconds": 600, "price_hour": "4000"}
    bid = await done(buyer, "/bids", wish)
    async with asyncio.timeout(PATIENCE):  # the market may hear later than we do that the miner is online
        while not bid["trades"]:
            await miner.beat()
            await asyncio.sleep(0.2)
            bid = (await buyer.get(f"{MARKET}/bids/{bid['id']}")).json()
    booking = f"/bookings/{bid['trades'][0]['booking']}"
    await until(buyer, booking, "active")
    for _ in range(4):
        await miner.beat()
        await asyncio.sleep(0.5)
    await done(buyer, f"{booking}/end")
    over = await until(owner, booking, "ended")
    assert Decimal(over["paid"]) > 0
    assert await available(buyer) == 400 - Decimal(over["paid"])
    statements = [(await who.get(f"{MARKET}{booking}/statement")).json() for who in (buyer, owner)]
    assert statements[0] == statements[1]
    assert (await done(buyer, "/ratings", {"subject": over["id"], "stars": 2}))["miner"] == miner.id
    earned = await available(owner)
    dispute = await done(buyer, "/disputes", {"subject": over["id"], "reason": "Slow."})
    path = f"/disputes/{dispute['id']}"
    dispute = await until(owner, path, "open")
    assert (Decimal(dispute["held"]), await available(owner)) == (earned, Decimal(0))
    await done(owner, f"{path}/concede")
    await until(buyer, path, "closed")
    assert (await available(buyer), await available(owner)) == (Decimal(400), Decimal(0))
