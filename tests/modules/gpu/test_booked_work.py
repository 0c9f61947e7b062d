"""The work of a booking: only its booker's, only while it lasts, and ended with it, whichever way that ends."""

import asyncio
import uuid
from datetime import timedelta
from typing import Any

import pytest

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.primitives import clock, ids
from aitbc.kernel.primitives.clock import now
from aitbc.modules.ai.service import AiService
from aitbc.modules.gpu.events import BookingEnded, BookingStarted
from aitbc.modules.gpu.models.bookings import Booking
from aitbc.modules.gpu.service.listings import GpuBooked
from tests.app import Caller
from tests.modules.gpu.make import JOBS, Fleet, Rig
from tests.modules.gpu.test_bookings import AITBC, Market, outcomes, with_miner
from tests.scale import scaled

pytestmark = pytest.mark.anyio
CHAT = {"messages": [{"role": "user", "content": "Hi"}], "model": "tiny"}
COMMAND = {"program": "sleep", "arguments": ["45"]}
KINDS = {"kinds": ["command", "chat", "embed"], "programs": ["sleep"], "models": {"chat": ["tiny"]}}


async def ask(buyer: Caller, booking: str, **changes: Any) -> Any:
    """Submit a job that names a booking, whatever comes of it."""
    body = {"kind": "command", "input": COMMAND, "max_price": "0.05", "requirements": {"booking": booking}, **changes}
    return await buyer.post(JOBS, body, once=uuid.uuid4().hex)


async def job_of(who: Caller, job: str) -> dict[str, Any]:
    return dict((await who.get(f"{JOBS}/{job}")).json())


async def held(market: Market) -> int:
    return (await market.purse(market.buyer))[1]


async def booked(fleet: Fleet, hours: float = 1) -> tuple[Market, Rig, Booking]:
    """A miner of four slots that is booked."""
    market, rig = await with_miner(fleet, **KINDS)
    rig.slots = 4
    await rig.heartbeat()
    return market, rig, await market.book(hours=hours)


async def test_a_release_ends_what_runs_what_was_taken_and_what_waits_and_returns_their_money(fleet: Fleet) -> None:
    market, rig, booking = await booked(fleet)
    jobs = [(await ask(market.buyer_caller, booking.id)).json() for _ in range(3)]
    running, leased = (await rig.poll(slots=2))["leases"]
    beat = {"attempt": running["attempt"], "token": running["token"]}
    assert (await rig.heartbeat(leases=[beat]))["leases"][0]["status"] == "live"
    clock.move(timedelta(seconds=2))
    over = await market.gpus.bookings.release(market.buyer, booking.id)
    for job in jobs:
        found = await job_of(market.buyer_caller, job["id"])
        assert (found["state"], found["reason"], found["price"]) == ("canceled", "booking_ended", None)
    assert over.cost_units is not None
    assert await market.purse(market.buyer) == (10 * AITBC - over.cost_units, 0)
    named = [{"attempt": one["attempt"], "token": one["token"]} for one in (running, leased)]
    told = await rig.heartbeat(leases=named)
    assert [one["status"] for one in told["leases"]] == ["canceled"] * 2
    assert (await rig.deliver(leased, {"exit_code": 0})).status_code == 409
    assert (await rig.poll(slots=4))["leases"] == []
    await market.require_sound()


async def test_a_chat_that_runs_at_the_release_is_paid_for_what_it_delivered(fleet: Fleet) -> None:
    market, rig, booking = await booked(fleet)
    job = (await ask(market.buyer_caller, booking.id, kind="chat", input=CHAT)).json()
    lease = await rig.take()
    parts = {"token": lease["token"], "parts": [{"sequence": 1, "text": "Hello"}]}
    assert (await rig.call("POST", f"/leases/{lease['attempt']}/parts", parts)).json()["status"] == "live"
    await market.gpus.bookings.release(market.buyer, booking.id)
    more = {"token": lease["token"], "parts": [{"sequence": 2, "text": " again"}]}
    assert (await rig.call("POST", f"/leases/{lease['attempt']}/parts", more)).json() == {
        "status": "stop",
        "kept": 1,
        "heard": 1,
    }
    output = {"message": {"role": "assistant", "content": "Hello"}, "model": "tiny", "finish_reason": "stopped"}
    done = (await rig.deliver(lease, output)).json()
    assert (done["state"], done["price"]) == ("succeeded", "0.00000001")
    assert (await job_of(market.buyer_caller, job["id"]))["reason"] == "stopped_early"
    assert await held(market) == 0


@pytest.mark.parametrize("end", ["expiry", "removal", "force", "next"])
async def test_every_other_end_of_a_booking_ends_its_work_too(fleet: Fleet, end: str) -> None:
    market, rig, booking = await booked(fleet, hours=0.1)
    waits, taken = [(await ask(market.buyer_caller, booking.id)).json()["id"] for _ in range(2)]
    await rig.poll()
    if end in ("expiry", "next"):
        clock.move(timedelta(minutes=6, seconds=1))
        await rig.heartbeat()
    if end == "expiry":
        await market.gpus.reconcile_bookings()
    elif end == "removal":
        await market.gpus.miners.remove(market.owner, rig.id)
    elif end == "force":
        await market.gpus.listings.remove(market.owner, market.gpu, force=True)
    else:
        with pytest.raises(GpuBooked):  # until its miner has stopped
            await market.book(market.owner)
        await rig.heartbeat()
        assert (await market.book(market.owner)).state == "active"
    for _ in range(600):
        states = {(await job_of(market.buyer_caller, job))["state"] for job in (waits, taken)}
        if states == {"canceled"} and not await held(market):
            break
        await market.gpus.reconcile_bookings()
        await asyncio.sleep(0.05)
    assert states == {"canceled"}
    assert await held(market) == 0


async def test_jobs_for_a_booking_that_is_over_foreign_or_unknown_are_refused_without_money(fleet: Fleet) -> None:
    market, rig, booking = await booked(fleet)
    stranger = await fleet.owner(funds="1")
    for caller, name in ((stranger, booking.id), (market.owner_caller, booking.id), (stranger, ids.new_id("book"))):
        refused = await ask(caller, name)
        assert (refused.status_code, refused.json()["code"]) == (404, "booking_not_found")
        assert (await market.purse(caller.principal))[1] == 0
    await market.gpus.bookings.release(market.buyer, booking.id)
    refused = await ask(market.buyer_caller, booking.id)
    assert (refused.status_code, refused.json()["code"]) == (409, "booking_not_active")
    assert await held(market) == 0
    await rig.heartbeat()
    short = await market.book(hours=1 / 60)
    assert (await ask(market.buyer_caller, short.id)).status_code == 201
    clock.move(timedelta(minutes=1))
    assert (await ask(market.buyer_caller, short.id)).status_code == 409
    assert (await rig.poll())["leases"] == []


async def test_a_job_right_after_the_booking_is_taken_by_both_routes(fleet: Fleet) -> None:
    market, _, booking = await booked(fleet)
    assert (await ask(market.buyer_caller, booking.id)).status_code == 201
    second, _ = await with_miner(fleet, **KINDS)
    await second.book()
    submit = second.gpus.bookings.submit_job
    job = await submit(second.buyer, second.gpu, "command", COMMAND, IdempotencyKey.NONE)
    assert job.state == "queued"


async def test_the_next_booker_gets_the_gpu_only_after_its_miner_has_stopped(fleet: Fleet) -> None:
    market, rig, booking = await booked(fleet)
    await ask(market.buyer_caller, booking.id)
    lease = await rig.take()
    clock.move(timedelta(seconds=1))
    await market.gpus.bookings.release(market.buyer, booking.id)
    with pytest.raises(GpuBooked):
        await market.book(market.owner)
    clock.move(timedelta(seconds=1))
    told = await rig.heartbeat(leases=[{"attempt": lease["attempt"], "token": lease["token"]}])
    assert told["leases"][0]["status"] == "canceled"
    with pytest.raises(GpuBooked):  # it knows, and may still be at it
        await market.book(market.owner)
    await rig.heartbeat()
    assert (await market.book(market.owner)).state == "active"


async def test_a_gpu_that_nobody_worked_on_is_free_at_once(fleet: Fleet) -> None:
    market, _, booking = await booked(fleet)
    await market.gpus.bookings.release(market.buyer, booking.id)
    assert (await market.book(market.owner)).state == "active"


async def test_submissions_claims_and_the_end_exclude_each_other(fleet: Fleet) -> None:
    for _ in range(scaled(2, 5)):
        market, rig, booking = await booked(fleet)
        await ask(market.buyer_caller, booking.id)
        deeds: list[Any] = [ask(market.buyer_caller, booking.id) for _ in range(4)]
        deeds += [rig.poll(slots=2), market.gpus.bookings.release(market.buyer, booking.id)]
        deeds += [rig.poll(slots=2), ask(market.buyer_caller, booking.id)]
        await outcomes(deeds)
        await market.gpus.reconcile_bookings()
        open_now = "SELECT id FROM ai.jobs WHERE account = $1 AND state IN ('queued', 'leased', 'running')"
        assert await fleet.sql(open_now, ids.decode("acct", market.buyer.account)) == []
        assert await held(market) == 0


async def test_events_of_bookings_are_borne_in_any_order_and_any_number_of_times(fleet: Fleet) -> None:
    ai = fleet.stage.service("ai")
    assert isinstance(ai, AiService)
    account = (await fleet.owner()).principal.account
    booking, until = ids.new_id("book"), now() + timedelta(hours=1)
    started = BookingStarted(booking=booking, account=account, ends_at=until)
    ended = BookingEnded(booking=booking, account=account, state="released", ended_at=now())
    for events in ([ended], [started], [ended, ended], [started, started]):
        async with ai.db.unit_of_work() as uow:
            for event in events:
                if isinstance(event, BookingStarted):
                    await ai.on_bookings_started(uow, [event])
                else:
                    await ai.on_bookings_ended(uow, [event])
    (row,) = await fleet.sql("SELECT * FROM ai.bookings WHERE id = $1", booking)
    assert (row["ends_at"], row["ended_at"], row["account"]) == (until, ended.ended_at, account)


async def test_where_ai_was_not_reached_the_event_ends_the_work(fleet: Fleet) -> None:
    market, rig, booking = await booked(fleet)
    job = (await ask(market.buyer_caller, booking.id)).json()["id"]
    await rig.take()
    ai = fleet.stage.service("ai")
    event = BookingEnded(booking=booking.id, account=market.buyer.account, state="released", ended_at=now())
    async with ai.db.unit_of_work() as uow:
        await ai.on_bookings_ended(uow, [event])
    found = await job_of(market.buyer_caller, job)
    assert (found["state"], found["reason"]) == ("canceled", "booking_ended")
