"""The time of a miner in every place: put on sale, bid for, used, paid, paused, rated, disputed and given back."""

import asyncio
import time
import uuid
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from aitbc.kernel.primitives import clock
from tests.app import Caller, TestApp
from tests.journeys.hand_miner import HandMiner, Place
from tests.scale import FULL

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


async def pass_time(app: Place, miner: HandMiner, seconds: int) -> None:
    """Let time pass while the miner lives: by the clock of this process, or, in another one, really."""
    until = time.monotonic() + seconds
    for _ in range(seconds // 15 if isinstance(app, TestApp) else 10_000):
        if isinstance(app, TestApp):
            clock.move(timedelta(seconds=15))
        elif time.monotonic() > until:
            return
        await miner.beat()
        await asyncio.sleep(0.1 if isinstance(app, TestApp) else 5)


async def deposit(app: Place, who: Caller, amount: str) -> None:
    """Money for somebody, who had too little."""
    admin = await app.admin()
    body = {"account": who.principal.account, "amount": amount, "reason": "a top-up"}
    answer = await admin.post("/api/v1/trading/deposits", body, once=uuid.uuid4().hex)
    assert answer.is_success, answer.text


@pytest.mark.timeout(600)
async def test_a_booking_pauses_without_money_goes_on_with_it_and_is_rated_and_disputed(app: Place) -> None:
    if not (FULL or isinstance(app, TestApp)):
        pytest.skip("left to make test-all")  # five minutes that nobody can move forward
    owner, buyer = await app.who("owner"), await app.who("buyer", funds="300")
    miner = await HandMiner.enrol(app, owner, gpus=["NVIDIA H100 80GB HBM3"])
    await miner.beat()
    offer = await done(owner, "/offers", {"miner": miner.id, "sells": "device", "price": "3600"})
    found = (await buyer.get(f"{MARKET}/search", filter=f"miner = {miner.id} and price <= 3600")).json()
    assert [one["id"] for one in found["data"]] == [offer["id"]]
    wish = {"offer": offer["id"], "duration_seconds": 1200, "max_price": "1200"}
    quote = await done(buyer, "/booking-quotes", wish)
    assert (quote["held_first"], quote["is_free"]) == ("300", True)
    booking = f"/bookings/{(await done(buyer, '/bookings', wish))['id']}"
    await until(buyer, booking, "active")
    await pass_time(app, miner, 315)
    await until(buyer, booking, "suspended")
    assert await available(buyer) == 0
    await miner.beat()
    await deposit(app, buyer, "400")
    await until(buyer, booking, "active")
    await miner.beat()
    await done(buyer, f"{booking}/end")
    over = await until(owner, booking, "ended")
    assert (over["reason"], await available(buyer)) == ("released", 700 - Decimal(over["paid"]))
    statements = [(await who.get(f"{MARKET}{booking}/statement")).json() for who in (buyer, owner)]
    assert statements[0] == statements[1] and Decimal(over["paid"]) >= 300 - 45
    assert (await done(buyer, "/ratings", {"subject": over["id"], "stars": 4}))["miner"] == miner.id
    dispute = await done(buyer, "/disputes", {"subject": over["id"], "reason": "It paused.", "amount": "10"})
    await until(owner, f"/disputes/{dispute['id']}", "open")
    await done(owner, f"/disputes/{dispute['id']}/concede")
    await until(buyer, f"/disputes/{dispute['id']}", "closed")
    assert await available(buyer) == 710 - Decimal(over["paid"])


async def test_a_listed_gpu_is_booked_given_back_and_disputed(app: Place) -> None:
    owner, buyer = await app.who("owner"), await app.who("buyer", funds="400")
    miner = await HandMiner.enrol(app, owner, gpus=["NVIDIA H100 80GB HBM3"])
    await miner.beat()
    listing = {"model": "NVIDIA H100 80GB HBM3", "price_per_hour": "3600", "miner": miner.id}
    gpu = (await owner.post("/api/v1/gpu/listings", listing)).json()["id"]
    wish = {"gpu": gpu, "duration_seconds": 60, "max_price": "60"}
    path = (
        f"/api/v1/gpu/bookings/{(await buyer.post('/api/v1/gpu/bookings', wish, once=uuid.uuid4().hex)).json()['id']}"
    )
    await miner.beat()
    assert (await buyer.post(f"{path}/release")).status_code == 200
    async with asyncio.timeout(PATIENCE):
        while (over := (await owner.get(path)).json())["dispute_until"] is None:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.2)
    dispute = await done(buyer, "/disputes", {"subject": over["id"], "reason": "Slow."})
    await until(owner, f"/disputes/{dispute['id']}", "open")
    await done(owner, f"/disputes/{dispute['id']}/concede")
    await until(buyer, f"/disputes/{dispute['id']}", "closed")
    assert (await available(buyer), await available(owner)) == (Decimal(400), Decimal(0))


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


async def traded(who: Caller, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """A command of trading that succeeds."""
    answer = await who.post(f"/api/v1/trading{path}", body or {}, once=uuid.uuid4().hex)
    assert answer.is_success, answer.text
    return dict(answer.json())


async def agreed(buyer: Caller, offer: str, terms: dict[str, Any]) -> dict[str, Any]:
    """An agreement on an offer of trades, as soon as a request is matched with it."""
    wish = {"trade_type": "compute_resources", "title": "A GPU", "specifications": {"hours": 0.25}}
    request = (await traded(buyer, "/requests", wish))["id"]
    async with asyncio.timeout(PATIENCE):
        while True:
            answer = await buyer.post(f"/api/v1/trading/requests/{request}/matches")
            if mine := [one["id"] for one in answer.json()["data"] if one["offer"] == offer]:
                return await traded(buyer, f"/matches/{mine[0]}/accept", terms)
            await asyncio.sleep(0.2)


@pytest.mark.timeout(180)
async def test_a_request_is_agreed_on_and_kept_by_a_booking_and_another_one_by_milestones(app: Place) -> None:
    owner, buyer = await app.who("owner"), await app.who("buyer", funds="1300")
    miner = await HandMiner.enrol(app, owner, gpus=["NVIDIA H100 80GB HBM3"])
    await miner.beat()
    offer = await done(owner, "/offers", {"miner": miner.id, "sells": "device", "price": "3600"})
    kept = await agreed(buyer, offer["id"].replace("offer_", "toff_"), {})
    assert (kept["price"], kept["settlement_type"]) == ("900", "metered")
    path = f"/api/v1/trading/agreements/{kept['id']}"
    async with asyncio.timeout(PATIENCE):
        while (kept := (await buyer.get(path)).json())["booking"] is None:
            await miner.beat()
            await asyncio.sleep(0.2)
    booking = f"/bookings/{kept['booking']}"
    await until(buyer, booking, "active")
    await miner.beat()
    await done(buyer, f"{booking}/end")
    over = await until(owner, booking, "ended")
    async with asyncio.timeout(PATIENCE):
        while (await owner.get(path)).json()["state"] == "settling":  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.2)
    assert await available(buyer) == 1300 - Decimal(over["paid"])

    described = {"trade_type": "compute_resources", "title": "Two halves", "price": "10"}
    sold = await traded(owner, "/offers", described)
    halves = {"milestones": [{"name": "first", "share": 1}, {"name": "second", "share": 1}]}
    signed = await agreed(buyer, sold["id"], halves)
    settlement = await traded(buyer, f"/agreements/{signed['id']}/settlement")
    for number in (1, 2):
        await traded(owner, f"/settlements/{settlement['id']}/deliver", {"payment": number})
        settlement = await traded(buyer, f"/settlements/{settlement['id']}/confirm", {"payment": number})
    assert (settlement["state"], settlement["net"]) == ("completed", "9.75")
    assert await available(buyer) == 1290 - Decimal(over["paid"])


async def receipt_of(who: Caller, job: str) -> dict[str, Any]:
    """What the receipt of a job says, once it is paid."""
    async with asyncio.timeout(PATIENCE):
        while not (answer := await who.get(f"/api/v1/trading/receipts/rcpt_{job[4:]}")).is_success:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    return dict(answer.json()["receipt"])


async def work_for(miner: HandMiner, count: int) -> None:
    """Take so many jobs, and do them."""
    done = 0
    async with asyncio.timeout(PATIENCE):
        while done < count:
            await miner.beat()
            for lease in await miner.poll(slots=count - done, wait=1):
                assert (await miner.deliver(lease)).is_success
                done += 1


@pytest.mark.timeout(180)
async def test_work_is_offered_found_done_at_its_price_and_at_the_price_of_an_agreement(app: Place) -> None:
    owner, buyer = await app.who("owner"), await app.who("buyer", funds="10")
    miner = await HandMiner.enrol(app, owner)
    await miner.beat()
    offer = await done(owner, "/offers", {"miner": miner.id, "sells": "work", "kind": "embed", "price": "0.002"})
    found = (await buyer.get(f"{MARKET}/search", filter=f"miner = {miner.id} and price <= 0.002")).json()
    assert [one["id"] for one in found["data"]] == [offer["id"]]
    wish: dict[str, Any] = {"kind": "embed", "input": {"texts": ["one"]}, "max_price": "1"}
    async with asyncio.timeout(PATIENCE):
        while offer["id"] not in [
            one["offer"] for one in (await buyer.post("/api/v1/ai/quotes", wish)).json()["offers"]
        ]:
            await miner.beat()
            await asyncio.sleep(0.2)
    job = (await buyer.post("/api/v1/ai/jobs", wish, once=uuid.uuid4().hex)).json()
    await work_for(miner, 1)
    receipt = await receipt_of(buyer, job["id"])
    assert (receipt["unit_price"], receipt["offer"]) == ("0.002", offer["id"])

    work = {"job_kind": "embed", "units": 200, "inputs": [{"texts": ["one"]}, {"texts": ["two"]}]}
    asked = {"trade_type": "inference_tasks", "title": "Two texts", "work": work}
    request = (await traded(buyer, "/requests", asked))["id"]
    trade_offer: str = offer["id"].replace("offer_", "toff_")
    mine: list[str] = []
    async with asyncio.timeout(PATIENCE):
        while not mine:
            answer = await buyer.post(f"/api/v1/trading/requests/{request}/matches")
            mine = [one["id"] for one in answer.json()["data"] if one["offer"] == trade_offer]
            await asyncio.sleep(0.2)
    lower = await traded(buyer, f"/matches/{mine[0]}/negotiations", {"price": "0.4"})
    signed = await traded(owner, f"/negotiations/{lower['id']}/accept")
    await work_for(miner, 2)
    path = f"/api/v1/trading/agreements/{signed['id']}"
    async with asyncio.timeout(PATIENCE):
        while (over := (await buyer.get(path)).json())["state"] != "completed":  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.2)
    receipts = [await receipt_of(buyer, one) for one in over["jobs"]]
    assert {one["unit_price"] for one in receipts} == {"0.001"} and len(receipts) == 2
    assert await available(buyer) == 10 - sum(Decimal(one["price"]) for one in (receipt, *receipts))
