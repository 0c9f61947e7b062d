"""The time of a booking: what its miner was there for is paid, what it was away for is not, to the millisecond."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aitbc.kernel.primitives import clock
from aitbc.modules.gpu.models.bookings import Booking, count_time
from aitbc.modules.gpu.models.pricing import total
from aitbc.modules.gpu.models.values import BookedTimeValue
from tests.modules.gpu.make import Fleet
from tests.modules.gpu.test_bookings import AITBC, PRICE, Market, with_miner

pytestmark = pytest.mark.anyio
GRACE = 30
"""The seconds that a heartbeat stands for, as gpu is set by default."""
START = datetime(2026, 1, 1, tzinfo=UTC)
END = START + timedelta(hours=1)


def counted(*periods: tuple[float, bool, float]) -> float:
    """The unpaid seconds of an hour, from (until, whether it took work, last heartbeat), all in seconds from its start."""
    time = BookedTimeValue(id=None, ends_at=END, grace_ms=GRACE * 1000, unreachable_us=0, counted_at=START)  # type: ignore[arg-type]
    for until, working, seen in periods:
        at, seen_at = START + timedelta(seconds=until), START + timedelta(seconds=seen)
        count_time(time, working=working, seen_at=seen_at, at=at)
    return time.unreachable_us / 1_000_000


@pytest.mark.parametrize(
    ("periods", "unpaid"),
    [
        ([(30, True, 0)], 0),
        ([(31, True, 0)], 1),
        ([(30.001, True, 0)], 0.001),
        ([(45, True, 0)], 15),
        ([(45, False, 0)], 45),
        ([(35, True, 0), (60, True, 0)], 30),
        ([(35, True, 0), (60, True, 0), (90, True, 60)], 30),
        ([(40, True, -60)], 40),
        ([(10, True, 10), (10, True, 10)], 0),
        ([(20, False, 0), (10, False, 0), (25, True, 25)], 20),
        ([(7200, True, 0)], 3570),
        ([(7200, True, 0), (7300, False, 0)], 3570),
        ([(3600, False, 0)], 3600),
    ],
)
def test_a_heartbeat_stands_for_its_grace_and_the_rest_is_not_paid(periods: Any, unpaid: float) -> None:
    assert counted(*periods) == unpaid


async def _beat_for(market: Market, rig: Any, seconds: int) -> None:
    """Heartbeats every ten seconds."""
    for _ in range(seconds // 10):
        clock.move(timedelta(seconds=10))
        await rig.heartbeat()


def _lasted(over: Booking) -> float:
    assert over.ended_at is not None
    return (min(over.ended_at, over.ends_at) - over.starts_at).total_seconds()


async def require_paid(market: Market, over: Booking, *, unpaid: float) -> None:
    """So many seconds were not paid, all others were, and the money came out so."""
    assert over.paid_ms is not None and over.unpaid_ms is not None
    assert abs(over.unpaid_ms / 1000 - unpaid) < 1, over
    assert over.paid_ms + over.unpaid_ms == int(_lasted(over) * 1000)
    assert over.cost_units == total(PRICE, 1, over.paid_ms)
    await market.gpus.reconcile_bookings()
    assert await market.purse(market.buyer) == (10 * AITBC - over.cost_units, 0)
    earned = (await market.purse(market.owner))[0] - 10 * AITBC
    assert earned == over.cost_units - (over.cost_units * 250 + 5000) // 10_000
    await market.require_sound()


async def test_a_gpu_whose_miner_died_is_paid_until_its_last_heartbeat_has_run_out(fleet: Fleet) -> None:
    market, rig = await with_miner(fleet)
    booking = await market.book()
    await _beat_for(market, rig, 20)
    await fleet.later(45)
    over = await market.gpus.bookings.release(market.buyer, booking.id)
    assert (booking.paid_ms, booking.unpaid_ms) == (None, None)
    await require_paid(market, over, unpaid=45 - GRACE)


async def test_a_booked_gpu_with_a_fault_is_not_paid_until_it_works_again(fleet: Fleet) -> None:
    market, rig = await with_miner(fleet)
    booking = await market.book()
    await _beat_for(market, rig, 20)
    (works,) = rig.devices
    lost = {"vendor": "NVIDIA", "type": "cuda", "index": 0, "fault": "GPU is lost"}  # as the miner reads it
    for shown, status in (([lost], "draining"), ([works], "online")):
        rig.devices = shown
        assert (await rig.heartbeat(telemetry=rig.inventory()))["status"] == status
        await _beat_for(market, rig, 60)
    over = await market.gpus.bookings.release(market.buyer, booking.id)
    await require_paid(market, over, unpaid=60)


async def test_silence_that_no_watch_noticed_is_not_paid_either(fleet: Fleet) -> None:
    market, rig = await with_miner(fleet)
    booking = await market.book()
    clock.move(timedelta(seconds=GRACE + 4))
    await rig.heartbeat()
    await _beat_for(market, rig, 20)
    await require_paid(market, await market.gpus.bookings.release(market.buyer, booking.id), unpaid=4)


async def test_every_time_away_counts_and_what_comes_back_is_paid_again(fleet: Fleet) -> None:
    market, rig = await with_miner(fleet)
    booking = await market.book()
    await fleet.later(GRACE + 10)
    clock.move(timedelta(seconds=20))
    await rig.heartbeat()
    await _beat_for(market, rig, 60)
    await rig.heartbeat(leaving=True)
    clock.move(timedelta(seconds=17))
    await rig.heartbeat()
    await _beat_for(market, rig, 30)
    await require_paid(market, await market.gpus.bookings.release(market.buyer, booking.id), unpaid=30 + 17)


async def test_a_miner_that_its_owner_drains_or_that_pauses_itself_is_not_paid_meanwhile(fleet: Fleet) -> None:
    market, rig = await with_miner(fleet)
    booking = await market.book()
    clock.move(timedelta(seconds=5))
    await market.gpus.miners.drain(market.owner, rig.id, "a new fan")
    await _beat_for(market, rig, 20)
    await market.gpus.miners.drain(market.owner, rig.id, None)
    await rig.heartbeat(pause="the disk is full")
    clock.move(timedelta(seconds=9))
    await rig.heartbeat(pause="the disk is full")
    await rig.heartbeat()
    clock.move(timedelta(seconds=9))
    await require_paid(market, await market.gpus.bookings.release(market.buyer, booking.id), unpaid=29)


async def test_a_booking_that_ran_out_while_its_miner_was_away_costs_what_it_was_there_for(fleet: Fleet) -> None:
    market, rig = await with_miner(fleet)
    booking = await market.book(hours=0.25)
    await _beat_for(market, rig, 60)
    await fleet.later(3600)
    await rig.heartbeat()
    await market.gpus.reconcile_bookings()
    over = await market.gpus.bookings.get(market.buyer, booking.id)
    assert over.state == "ended"
    await require_paid(market, over, unpaid=900 - 60 - GRACE)


async def test_a_gpu_that_was_taken_away_is_not_paid_at_all_and_the_statement_says_so(fleet: Fleet) -> None:
    market, _ = await with_miner(fleet)
    booking = await market.book()
    clock.move(timedelta(seconds=20))
    await market.gpus.listings.remove(market.owner, market.gpu, force=True)
    shown = (await market.buyer_caller.get(f"/api/v1/gpu/bookings/{booking.id}")).json()
    assert (shown["cost"], shown["paid_seconds"], round(shown["unpaid_seconds"])) == ("0", 0, 20)


async def test_the_statement_and_the_legacy_dialect_say_the_same(fleet: Fleet) -> None:
    market, rig = await with_miner(fleet)
    booking = await market.book()
    path = f"/api/v1/gpu/bookings/{booking.id}"
    shown = (await market.buyer_caller.get(path)).json()
    assert (shown["paid_seconds"], shown["unpaid_seconds"]) == (None, None)
    await _beat_for(market, rig, 10)
    await fleet.later(100)
    assert (await market.buyer_caller.get(path)).json()["reachable"] is False
    over = (await market.buyer_caller.post(f"{path}/release", {})).json()
    assert (round(over["paid_seconds"]), round(over["unpaid_seconds"])) == (10 + GRACE, 100 - GRACE)
    over = await market.gpus.bookings.get(market.buyer, booking.id)
    await require_paid(market, over, unpaid=100 - GRACE)
