"""Bookings by the service: one booker at a time, exact money, every way to end, and whatever races or fails in the middle."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import clock, ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError, Unavailable
from aitbc.kernel.primitives.money import HOUR
from aitbc.modules.ai.api import BookingNotFound, BookingNotOpen
from aitbc.modules.gpu.models.bookings import ALLOWED, OPEN, Booking, BookingState, hold_of
from aitbc.modules.gpu.service import liveness
from aitbc.modules.gpu.service.booking_reconciler import PLACING
from aitbc.modules.gpu.service.bookings import (
    BookGpu,
    BookingCostsMore,
    BookingFilter,
    GpuNotBooked,
    GpuOffline,
    GpuWithoutMiner,
)
from aitbc.modules.gpu.service.listings import GpuBooked, ListedGpuNotFound, ListGpu
from aitbc.modules.trading.api import InsufficientFunds
from tests.app import Caller
from tests.modules.gpu.make import Fleet, Rig, gpu_device
from tests.scale import scaled

pytestmark = pytest.mark.anyio
AITBC = 10**8
PRICE = 25_000_001
"""Of an hour; odd, so that shares of it need rounding."""
BOOKINGS_AND_HOLDS = """
SELECT b.*, h.state AS hold, h.price_units AS hold_price_units
FROM gpu.bookings b LEFT JOIN trading.holds h ON h.id = b.id"""


def listing(**changes: Any) -> ListGpu:
    """A GPU; unless a miner is named, in one that nobody knows."""
    fields: dict[str, Any] = {
        "miner_name": "a-cellar",
        "model": "RTX 4090",
        "memory_gb": 24,
        "cuda_cores": None,
        "compute_capability": None,
        "region": None,
        "price_units": PRICE,
        "description": "",
    }
    return ListGpu(**(fields | changes))


class Market:
    """An owner with a listed GPU, and a buyer with ten AITBC."""

    def __init__(self, fleet: Fleet, owner: Caller, buyer: Caller, gpu: str) -> None:
        self.fleet, self.gpus, self.gpu = fleet, fleet.gpu, gpu
        self.owner, self.buyer = owner.principal, buyer.principal
        self.owner_caller, self.buyer_caller = owner, buyer

    async def book(self, who: Principal | None = None, hours: float = 2, **wishes: Any) -> Booking:
        """Book the GPU."""
        command = BookGpu(gpu=self.gpu, duration_ms=int(hours * HOUR), **wishes)
        return await self.gpus.bookings.book(who or self.buyer, command)

    async def purse(self, who: Principal) -> tuple[int, int]:
        """What is available and what is held."""
        found = await self.fleet.stage.service("trading").balance(who.account)
        return found.available_units, found.held_units

    async def status(self) -> str:
        """The GPU's."""
        return (await self.gpus.listings.get(self.gpu)).status

    async def require_sound(self) -> None:
        """Money and bookings say the same, and nothing was made or lost."""
        report = await self.fleet.stage.service("trading").verify()
        assert report.divergence is None, report.divergence
        await self.require_paid()

    async def require_paid(self) -> None:
        """Money and bookings say the same, once what a periodic task ends just now is paid."""
        for _ in range(200):
            wrong = [dict(row) for row in await self.fleet.sql(BOOKINGS_AND_HOLDS) if not is_paid(row)]
            if not wrong:
                return
            await asyncio.sleep(0.1)
        raise AssertionError(wrong)


def is_paid(row: Any) -> bool:
    """Whether a booking and its hold say the same."""
    state, hold, is_open = BookingState(row["state"]), row["hold"], BookingState(row["state"]) in OPEN
    expected = {BookingState.ACTIVE: "open", BookingState.RELEASED: "settled", BookingState.ENDED: "settled"}
    if (row["settled_at"] is None) != is_open:
        return False
    if row["total_units"] == 0:
        return hold is None
    if state in expected:
        return bool(hold == expected[state] and row["hold_price_units"] == (None if is_open else row["cost_units"]))
    return hold in (None, "voided")


@pytest.fixture(autouse=True)
def heartbeats_from_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The watch takes no heartbeat back that is dated years from now."""
    monkeypatch.setattr(liveness, "CLOCK_CHECK_SECONDS", math.inf)


async def market_on(fleet: Fleet, funds: str = "10", **changes: Any) -> Market:
    """A market of one GPU, in a miner whose heartbeats never stop."""
    owner, buyer = await fleet.owner(), await fleet.owner(funds=funds)
    rig = await steady_rig(fleet, owner)
    gpu = await fleet.gpu.listings.add(owner.principal, listing(miner_name=rig.id, **changes))
    return Market(fleet, owner, buyer, gpu.id)


async def steady_rig(fleet: Fleet, owner: Caller) -> Rig:
    """A miner with a GPU whose last heartbeat comes years from now, so that none of its time is unpaid."""
    rig = await fleet.rig(owner, devices=[gpu_device()])
    await fleet.sql(
        "UPDATE gpu.miners SET seen_at = seen_at + interval '9 years' WHERE id = $1", ids.decode("mnr", rig.id)
    )
    return rig


async def with_miner(fleet: Fleet, **offer: Any) -> tuple[Market, Rig]:
    """The same, where the GPU is in a miner that is online."""
    owner, buyer = await fleet.owner(funds="10"), await fleet.owner(funds="10")
    rig = await fleet.rig(owner, devices=[gpu_device()], **offer)
    gpu = await fleet.gpu.listings.add(owner.principal, listing(miner_name=rig.id))
    return Market(fleet, owner, buyer, gpu.id), rig


async def outcomes(deeds: list[Awaitable[Any]]) -> list[Any]:
    """All of them at once: what each answered, or the class of the error."""
    found = await asyncio.gather(*deeds, return_exceptions=True)
    for one in found:
        assert not isinstance(one, BaseException) or isinstance(one, AppError), one
    return [type(one) if isinstance(one, BaseException) else one for one in found]


def test_each_state_has_its_ends_and_no_end_goes_on() -> None:
    assert set(ALLOWED) == set(BookingState)
    for state, ends in ALLOWED.items():
        assert bool(ends) == (state in OPEN)
        assert BookingState.PLACED not in ends


async def test_a_booking_holds_what_all_of_its_time_costs_and_keeps_others_away(fleet: Fleet) -> None:
    market = await market_on(fleet)
    booking = await market.book(job="training", cost_max_units=2 * PRICE)
    assert (booking.state, booking.total_units, booking.job) == ("active", 2 * PRICE, "training")
    assert booking.ends_at - booking.starts_at == timedelta(hours=2)
    assert await market.purse(market.buyer) == (10 * AITBC - 2 * PRICE, 2 * PRICE)
    assert await market.status() == "booked"
    assert await market.gpus.bookings.current(market.gpu) == booking
    with pytest.raises(GpuBooked):
        await market.book(market.owner)
    await market.require_sound()


async def test_releasing_pays_what_was_used_and_returns_the_rest(fleet: Fleet) -> None:
    market = await market_on(fleet)
    booking = await market.book()
    clock.move(timedelta(minutes=40))
    over = await market.gpus.bookings.release(market.buyer, booking.id)
    used = (over.ended_at - over.starts_at) / timedelta(hours=1)  # type: ignore[operator]
    assert over.state == "released"
    assert over.cost_units is not None and abs(over.cost_units - PRICE * used) <= PRICE / HOUR + 1
    assert over.returned_units == over.total_units - over.cost_units
    assert await market.purse(market.buyer) == (10 * AITBC - over.cost_units, 0)
    earned, held = await market.purse(market.owner)
    assert (held, earned) == (0, over.cost_units - (over.cost_units * 250 + 5000) // 10_000)
    assert await market.status() == "available"
    again = await market.gpus.bookings.release(market.buyer, booking.id)
    assert (again.cost_units, again.ended_at) == (over.cost_units, over.ended_at)
    paid = await market.gpus.bookings.get(market.owner, booking.id)
    assert paid.settled_at is not None and paid.transaction is not None
    transaction = await fleet.stage.service("trading").explorer.transaction(paid.transaction)
    assert (transaction.kind, transaction.reference, transaction.reason) == ("rent", booking.id, "released")
    await market.require_sound()


async def test_a_booking_whose_time_is_over_is_paid_in_full(fleet: Fleet) -> None:
    market = await market_on(fleet)
    booking = await market.book(hours=0.5)
    clock.move(timedelta(minutes=31))
    assert await market.status() == "available"
    await market.gpus.reconcile_bookings()
    over = await market.gpus.bookings.get(market.buyer, booking.id)
    assert (over.state, over.cost_units) == ("ended", booking.total_units)
    assert over.settled_at is not None
    assert await market.purse(market.buyer) == (10 * AITBC - booking.total_units, 0)
    late = await market.gpus.bookings.release(market.buyer, booking.id)
    assert (late.state, late.cost_units) == ("ended", booking.total_units)
    await market.require_sound()


async def test_a_booking_whose_end_was_slept_through_for_longer_than_its_money_is_held_is_paid(fleet: Fleet) -> None:
    market = await market_on(fleet)
    booking = await market.book(hours=0.5)
    clock.move(timedelta(days=20))
    await fleet.stage.service("trading").expire_holds()  # in its grace, since the clock jumped
    await market.gpus.reconcile_bookings()
    over = await market.gpus.bookings.get(market.buyer, booking.id)
    assert (over.state, over.cost_units, over.transaction is None) == ("ended", booking.total_units, False)
    assert await market.purse(market.buyer) == (10 * AITBC - booking.total_units, 0)
    await market.require_sound()


async def test_who_releases_after_the_end_pays_for_all_of_the_time_and_no_more(fleet: Fleet) -> None:
    market = await market_on(fleet)
    booking = await market.book(hours=1)
    clock.move(timedelta(hours=5))
    over = await market.gpus.bookings.release(market.buyer, booking.id)
    assert (over.state, over.cost_units) == ("ended", PRICE)
    await market.require_sound()


async def test_the_next_booker_need_not_wait_until_the_end_was_noted(fleet: Fleet) -> None:
    market = await market_on(fleet)
    first = await market.book(hours=1)
    clock.move(timedelta(hours=1, seconds=1))
    second = await market.book(market.buyer, hours=1)
    assert (await market.gpus.bookings.get(market.buyer, first.id)).state == "ended"
    assert second.state == "active"
    await market.gpus.reconcile_bookings()
    await market.require_sound()


async def test_of_twenty_that_book_one_gpu_at_once_exactly_one_does(fleet: Fleet) -> None:
    market = await market_on(fleet)
    buyers = [(await fleet.owner(funds="1")).principal for _ in range(20)]
    found = await outcomes([market.book(buyer) for buyer in buyers])
    (won,) = [one for one in found if isinstance(one, Booking)]
    assert [one for one in found if one is not won] == [GpuBooked] * 19
    held = "SELECT h.id FROM trading.holds h JOIN gpu.bookings b ON b.id = h.id WHERE b.gpu = $1"
    assert len(await fleet.sql(held, ids.decode("gpu", market.gpu))) == 1
    await market.require_sound()


async def test_who_cannot_pay_books_nothing_and_leaves_the_gpu_free(fleet: Fleet) -> None:
    market = await market_on(fleet, funds="0.2")
    with pytest.raises(InsufficientFunds):
        await market.book()
    assert await market.status() == "available"
    assert await market.purse(market.buyer) == (20_000_000, 0)
    assert (await market.book(hours=0.5)).state == "active"
    await market.require_sound()


async def test_a_price_above_what_the_booker_reckons_is_refused(fleet: Fleet) -> None:
    market = await market_on(fleet)
    with pytest.raises(BookingCostsMore):
        await market.book(cost_max_units=2 * PRICE - 1)
    booking = await market.book()
    await market.gpus.listings.reprice(market.owner, market.gpu, 10 * PRICE, None)
    assert (await market.gpus.bookings.get(market.buyer, booking.id)).price_units == PRICE
    clock.move(timedelta(hours=3))
    await market.gpus.reconcile_bookings()
    assert (await market.gpus.bookings.get(market.buyer, booking.id)).cost_units == 2 * PRICE


async def test_a_gpu_for_nothing_is_booked_without_the_ledger(fleet: Fleet) -> None:
    market = await market_on(fleet, price_units=0)
    booking = await market.book()
    assert (booking.state, booking.total_units) == ("active", 0)
    over = await market.gpus.bookings.release(market.buyer, booking.id)
    assert (over.state, over.cost_units, over.returned_units) == ("released", 0, 0)
    await market.require_sound()


async def test_an_owner_may_book_a_gpu_of_its_own_and_pays_the_fee(fleet: Fleet) -> None:
    market = await market_on(fleet)
    rig = await steady_rig(fleet, market.buyer_caller)
    listed = await market.gpus.listings.add(market.buyer, listing(miner_name=rig.id))
    await market.gpus.bookings.book(market.buyer, BookGpu(gpu=listed.id, duration_ms=HOUR))
    clock.move(timedelta(hours=2))
    await market.gpus.reconcile_bookings()
    assert await market.purse(market.buyer) == (10 * AITBC - (PRICE * 250 + 5000) // 10_000, 0)
    await market.require_sound()


async def test_only_the_booker_confirms_and_releases_and_the_parties_see(fleet: Fleet) -> None:
    market = await market_on(fleet)
    stranger, booking = (await fleet.owner()).principal, await market.book()
    for who in (stranger, market.owner):
        with pytest.raises(BookingNotFound):
            await market.gpus.bookings.release(who, booking.id)
        with pytest.raises(BookingNotFound):
            await market.gpus.bookings.confirm(who, booking.id, "me")
    with pytest.raises(BookingNotFound):
        await market.gpus.bookings.get(stranger, booking.id)
    assert await market.gpus.bookings.get(market.owner, booking.id) == booking
    confirmed = await market.gpus.bookings.confirm(market.buyer, booking.id, "client-1")
    assert (confirmed.client, confirmed.confirmed_at is not None) == ("client-1", True)
    again = await market.gpus.bookings.confirm(market.buyer, booking.id, None)
    assert (again.client, again.confirmed_at) == ("client-1", confirmed.confirmed_at)
    mine, owned = BookingFilter(limit=9), BookingFilter(limit=9, booked=False, owned=True)
    assert [one.id for one in await market.gpus.bookings.page(market.buyer, mine)] == [booking.id]
    assert [one.id for one in await market.gpus.bookings.page(market.owner, owned)] == [booking.id]
    assert await market.gpus.bookings.page(market.owner, mine) == await market.gpus.bookings.page(stranger, mine) == []
    assert await market.gpus.bookings.page(market.buyer, BookingFilter(limit=9, states=frozenset({"ended"}))) == []
    await market.gpus.bookings.release(market.buyer, booking.id)
    with pytest.raises(BookingNotOpen):
        await market.gpus.bookings.confirm(market.buyer, booking.id, "client-1")
    for name in ("book_1", "nothing", ids.new_id("book")):
        with pytest.raises(BookingNotFound):
            await market.gpus.bookings.get(market.buyer, name)
        with pytest.raises(BookingNotFound):
            await market.gpus.bookings.release(market.buyer, name)


async def test_a_booked_gpu_leaves_the_market_by_force_only_and_its_booker_pays_nothing(fleet: Fleet) -> None:
    market = await market_on(fleet)
    booking = await market.book()
    clock.move(timedelta(minutes=30))
    with pytest.raises(GpuBooked):
        await market.gpus.listings.remove(market.owner, market.gpu)
    assert await market.gpus.listings.remove(market.owner, market.gpu, force=True) == [booking.id]
    over = await market.gpus.bookings.get(market.buyer, booking.id)
    assert (over.state, over.cost_units) == ("canceled", 0)
    await market.gpus.reconcile_bookings()
    assert await market.purse(market.buyer) == (10 * AITBC, 0)
    with pytest.raises(ListedGpuNotFound):
        await market.book()
    await market.require_sound()


async def test_the_same_request_again_is_one_booking(fleet: Fleet) -> None:
    market = await market_on(fleet)
    command = BookGpu(gpu=market.gpu, duration_ms=HOUR)
    keys = [IdempotencyKey(account=market.buyer.account, key="k-1", fingerprint=b"x" * 32) for _ in range(2)]
    first, second = [await market.gpus.bookings.book(market.buyer, command, key) for key in keys]
    assert first == second
    assert [key.replayed for key in keys] == [False, True]
    assert len(await market.gpus.bookings.page(market.buyer, BookingFilter(limit=9))) == 1


@pytest.mark.parametrize("held", [False, True], ids=["before the money is held", "after it"])
async def test_a_booking_repeated_after_a_crash_goes_on_with_what_it_placed(fleet: Fleet, held: bool) -> None:
    market = await market_on(fleet)
    command = BookGpu(gpu=market.gpu, duration_ms=HOUR)
    keys = [IdempotencyKey(account=market.buyer.account, key="k-crash", fingerprint=b"x" * 32) for _ in range(3)]
    payments = market.gpus.booking_payments
    trading = payments._trading

    class Crash:
        """The process ends while the ledger is asked."""

        async def hold(self, command: Any) -> Any:
            if held:
                await trading.hold(command)
            raise asyncio.CancelledError

    payments._trading = Crash()  # type: ignore[assignment]
    with pytest.raises(asyncio.CancelledError):
        await market.gpus.bookings.book(market.buyer, command, keys[0])
    payments._trading = trading
    (placed,) = await market.gpus.bookings.page(market.buyer, BookingFilter(limit=9))
    assert placed.state == "placed"
    with pytest.raises(GpuBooked):  # another request is another one, also of the same account
        await market.gpus.bookings.book(market.buyer, command, IdempotencyKey(market.buyer.account, "k-other", b"y"))
    first = await market.gpus.bookings.book(market.buyer, command, keys[1])
    assert (first.id, first.state) == (placed.id, "active")
    assert await market.gpus.bookings.book(market.buyer, command, keys[2]) == first
    assert [key.replayed for key in keys] == [False, False, True]
    await market.require_sound()


async def test_the_same_request_at_once_is_answered_alike(fleet: Fleet) -> None:
    market = await market_on(fleet)
    command = BookGpu(gpu=market.gpu, duration_ms=HOUR)
    keys = [IdempotencyKey(account=market.buyer.account, key="k-many", fingerprint=b"x" * 32) for _ in range(8)]
    answers = await asyncio.gather(*(market.gpus.bookings.book(market.buyer, command, key) for key in keys))
    assert len({answer.id for answer in answers}) == 1
    assert sorted(key.replayed for key in keys) == [False] + [True] * 7
    await market.require_sound()


# The miner that a booked GPU is in


async def test_a_booked_miner_takes_the_jobs_of_its_booking_and_no_others(fleet: Fleet) -> None:
    market, rig = await with_miner(fleet)
    booking = await market.book(hours=1)
    await fleet.submit(market.owner_caller)
    await fleet.submit(market.buyer_caller)
    assert (await rig.poll())["leases"] == []
    wanted = await fleet.submit(market.buyer_caller, requirements={"booking": booking.id})
    assert wanted["unit_price"] == "0"
    lease = await rig.take()
    assert lease["job"] == wanted["id"]
    done = (await rig.deliver(lease)).json()
    assert (done["state"], done["price"]) == ("succeeded", "0.00000001")
    await market.gpus.bookings.release(market.buyer, booking.id)
    taken = [lease["job"] for lease in (await rig.poll(slots=2))["leases"]]
    assert len(taken) == 2 and wanted["id"] not in taken
    await market.require_sound()


async def test_a_miner_that_waits_for_work_hears_at_once_that_it_was_booked(fleet: Fleet) -> None:
    market, rig = await with_miner(fleet, kinds=["chat"], models={"chat": ["tiny"]})
    waiting = asyncio.ensure_future(rig.poll(wait_seconds=30))
    await asyncio.sleep(0.3)
    booking = await market.book(hours=1)
    assert (await asyncio.wait_for(waiting, 20))["leases"] == []
    asked = {"messages": [{"role": "user", "content": "Hi"}], "model": "tiny"}
    wanted = await fleet.submit(market.buyer_caller, kind="chat", input=asked, requirements={"booking": booking.id})
    assert (await rig.take())["job"] == wanted["id"]


async def test_why_a_job_waits_says_that_a_miner_is_booked(fleet: Fleet) -> None:
    market, _ = await with_miner(fleet)
    booking = await market.book(hours=1)
    region = {"region": None}
    waits = await fleet.submit(market.owner_caller, requirements=region)
    for_it = await fleet.submit(market.buyer_caller, requirements={"booking": booking.id})

    async def explained(who: Caller, job: str) -> dict[str, Any]:
        return dict((await who.get(f"/api/v1/ai/jobs/{job}/explain")).json())

    for _ in range(600):  # the picture of the fleet is drawn from an event
        told = await explained(market.buyer_caller, for_it["id"])
        if told["filters"][-1]["after"]:
            break
        await asyncio.sleep(0.05)
    assert told["filters"][-1]["after"] == 1, told
    told = await explained(market.owner_caller, waits["id"])
    assert "not_booked" in [one["filter"] for one in told["filters"]]


async def test_a_gpu_whose_miner_takes_no_work_cannot_be_booked_and_one_that_is_booked_stays_so(fleet: Fleet) -> None:
    market, rig = await with_miner(fleet)
    await rig.heartbeat(leaving=True)
    assert await market.status() == "offline"
    with pytest.raises(GpuOffline):
        await market.book()
    await rig.heartbeat()
    booking = await market.book()
    await rig.heartbeat(leaving=True)
    assert await market.status() == "booked"
    assert (await market.gpus.bookings.get(market.buyer, booking.id)).reachable is False
    await rig.heartbeat()
    assert (await market.gpus.bookings.get(market.buyer, booking.id)).reachable is True


async def test_two_gpus_of_one_miner_are_booked_together(fleet: Fleet) -> None:
    market, rig = await with_miner(fleet)
    other = await market.gpus.listings.add(market.owner, listing(miner_name=rig.id, model="GeForce"))
    await market.book()
    assert (await market.gpus.listings.get(other.id)).status == "booked"
    with pytest.raises(GpuBooked):
        await market.gpus.bookings.book(market.buyer, BookGpu(gpu=other.id, duration_ms=HOUR))


async def test_removing_a_miner_ends_its_booking_and_returns_the_money(fleet: Fleet) -> None:
    market, rig = await with_miner(fleet)
    booking = await market.book()
    await market.gpus.miners.remove(market.owner, rig.id)
    assert (await fleet.see(market.owner_caller, rig))["status"] == "removed"
    await market.gpus.reconcile_bookings()
    assert (await market.gpus.bookings.get(market.buyer, booking.id)).state == "canceled"
    assert await market.purse(market.buyer) == (10 * AITBC, 0)
    await market.require_sound()


async def test_a_task_goes_to_the_gpu_of_its_sender_or_is_refused(fleet: Fleet) -> None:
    market, rig = await with_miner(fleet, kinds=["chat"], models={"chat": ["llama2"]})
    value = {"messages": [{"role": "user", "content": "Hi"}], "model": "llama2"}
    for who in (market.buyer, market.owner):
        with pytest.raises(GpuNotBooked):
            await market.gpus.bookings.submit_job(who, market.gpu, "chat", value, IdempotencyKey.NONE)
    await market.book()
    with pytest.raises(GpuNotBooked):
        await market.gpus.bookings.submit_job(market.owner, market.gpu, "chat", value, IdempotencyKey.NONE)
    keys = [IdempotencyKey(account=market.buyer.account, key="k-2", fingerprint=b"y" * 32) for _ in range(2)]
    jobs = [await market.gpus.bookings.submit_job(market.buyer, market.gpu, "chat", value, key) for key in keys]
    assert jobs[0].id == jobs[1].id
    assert (await rig.take())["job"] == jobs[0].id
    nowhere = await market_on(fleet)
    await nowhere.book()
    await fleet.sql("UPDATE gpu.bookings SET miner = NULL WHERE gpu = $1", ids.decode("gpu", nowhere.gpu))
    with pytest.raises(GpuWithoutMiner):  # one from before, when its owner's word was enough
        await nowhere.gpus.bookings.submit_job(nowhere.buyer, nowhere.gpu, "chat", value, IdempotencyKey.NONE)


# Races and failures


@pytest.mark.parametrize(
    "rivals",
    scaled(
        ["release force", "book release mind"],
        ["release mind", "release release", "release force", "mind mind", "book release mind"],
    ),
)
async def test_of_several_ends_of_a_booking_one_happens(fleet: Fleet, rivals: str) -> None:
    market, rig = await with_miner(fleet)
    for number in range(scaled(2, 6)):
        gpu = await market.gpus.listings.add(market.owner, listing(miner_name=rig.id))
        booking = await market.gpus.bookings.book(market.buyer, BookGpu(gpu=gpu.id, duration_ms=HOUR))
        clock.move(timedelta(hours=1, seconds=1) if "mind" in rivals else timedelta(minutes=number))
        await rig.heartbeat()
        again = BookGpu(gpu=gpu.id, duration_ms=HOUR)
        deeds: dict[str, Callable[[], Awaitable[Any]]] = {
            "release": lambda booking=booking: market.gpus.bookings.release(market.buyer, booking.id),  # type: ignore[misc]
            "mind": market.gpus.reconcile_bookings,
            "force": lambda gpu=gpu: market.gpus.listings.remove(market.owner, gpu.id, force=True),  # type: ignore[misc]
            "book": lambda again=again: market.gpus.bookings.book(market.buyer, again),  # type: ignore[misc]
        }
        await outcomes([deeds[deed]() for deed in rivals.split()])
        for one in await market.gpus.bookings.page(market.buyer, BookingFilter(limit=99, states=frozenset({"active"}))):
            await market.gpus.bookings.release(market.buyer, one.id)
        await market.gpus.reconcile_bookings()
        await market.require_paid()
        await rig.heartbeat()  # its miner has stopped: it can be booked again
    await market.require_sound()
    (row,) = await fleet.sql("SELECT booking FROM gpu.miners WHERE id = $1", ids.decode("mnr", rig.id))
    assert row["booking"] is None
    assert (await market.purse(market.buyer))[1] == 0


class Injected(Exception):
    """The failure of a statement, made on purpose."""


_left: ContextVar[list[int] | None] = ContextVar("_left", default=None)


@contextmanager
def failing(fleet: Fleet, number: int) -> Any:
    """Let the Nth statement of gpu fail in this task, and in no other."""
    left = [number]

    def count(*_: Any) -> None:
        mine = _left.get()
        if mine is not None:
            mine[0] -= 1
            if mine[0] == 0:
                raise Injected

    engine = fleet.gpu.db.engine.sync_engine
    event.listen(engine, "before_cursor_execute", count)
    token = _left.set(left)
    try:
        yield left
    finally:
        _left.reset(token)
        event.remove(engine, "before_cursor_execute", count)


@pytest.mark.parametrize("deed", scaled(["book", "end"], ["book", "release", "end", "force"]))
async def test_whichever_statement_fails_the_money_comes_out_right(fleet: Fleet, deed: str) -> None:
    market, rig = await with_miner(fleet)
    failures = 0
    for number in range(1, 60):
        gpu = await market.gpus.listings.add(market.owner, listing(miner_name=rig.id))
        wanted = BookGpu(gpu=gpu.id, duration_ms=HOUR)
        booking = None if deed == "book" else await market.gpus.bookings.book(market.buyer, wanted)
        if deed == "end":
            clock.move(timedelta(hours=1, seconds=1))
            await rig.heartbeat()
        failed = False
        try:
            with failing(fleet, number) as left:
                await _do(market, deed, gpu.id, booking, wanted)
        except Injected:
            failed = True
        failures += failed or left[0] <= 0
        clock.move(PLACING + timedelta(seconds=1))
        await rig.heartbeat()
        await market.gpus.reconcile_bookings()
        await market.require_paid()
        for one in await market.gpus.bookings.page(market.buyer, BookingFilter(limit=99, states=frozenset({"active"}))):
            await market.gpus.bookings.release(market.buyer, one.id)
        await market.gpus.reconcile_bookings()
        await market.require_paid()
        if not failed and left[0] > 0:
            break
    await market.require_sound()
    assert failures > 5, "the statements were not counted"
    assert (await market.purse(market.buyer))[1] == 0


async def _do(market: Market, deed: str, gpu: str, booking: Booking | None, wanted: BookGpu) -> None:
    if deed == "book":
        await market.gpus.bookings.book(market.buyer, wanted)
    elif deed == "end":
        await market.gpus.reconcile_bookings()
    elif deed == "force":
        await market.gpus.listings.remove(market.owner, gpu, force=True)
    else:
        assert booking is not None
        await market.gpus.bookings.release(market.buyer, booking.id)


async def test_what_the_ledger_could_not_be_told_is_made_up_for_later(fleet: Fleet) -> None:
    market = await market_on(fleet)
    trading, real = fleet.stage.service("trading"), market.gpus.booking_payments._trading

    class Away:
        """A ledger that cannot be reached, or whose answer is lost."""

        def __init__(self, *, after: bool) -> None:
            self.after = after

        def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
            async def call(*arguments: Any) -> Any:
                if self.after:
                    await getattr(real, name)(*arguments)
                raise Unavailable

            return call

    for after in (False, True):
        market.gpus.booking_payments._trading = Away(after=after)  # type: ignore[assignment]
        with pytest.raises(Unavailable):
            await market.book()
        market.gpus.booking_payments._trading = real
        assert await market.status() == "available"
        await market.gpus.reconcile_bookings()
        assert await market.purse(market.buyer) == (10 * AITBC, 0)
        booking = await market.book(hours=1)
        market.gpus.booking_payments._trading = Away(after=after)  # type: ignore[assignment]
        clock.move(timedelta(minutes=30))
        over = await market.gpus.bookings.release(market.buyer, booking.id)
        assert over.state == "released"
        market.gpus.booking_payments._trading = real
        await market.gpus.reconcile_bookings()
        hold = (await trading.still_held([hold_of(booking.id)])) or None
        assert hold is None
        await fleet.stage.service("trading").deposits.deposit(
            fleet.stage.runtime.operator, market.buyer.account, over.cost_units, "again", IdempotencyKey.NONE
        )
    await market.require_sound()


async def test_a_booking_that_was_placed_and_forgotten_is_refused_after_its_minute(fleet: Fleet) -> None:
    market = await market_on(fleet)
    row = await market.gpus.bookings._place(
        market.buyer, BookGpu(gpu=market.gpu, duration_ms=HOUR), IdempotencyKey.NONE
    )
    assert await market.status() == "booked"
    await market.gpus.reconcile_bookings()
    assert (await market.gpus.bookings.get(market.buyer, row.id)).state == "placed"
    with pytest.raises(BookingNotOpen):
        await market.gpus.bookings.release(market.buyer, row.id)
    clock.move(PLACING + timedelta(seconds=1))
    await market.gpus.reconcile_bookings()
    assert (await market.gpus.bookings.get(market.buyer, row.id)).state == "refused"
    assert now() > row.starts_at
    assert await market.status() == "available"
    await market.require_sound()
