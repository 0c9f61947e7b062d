"""Reviews of listed GPUs: only who has used one, and paid for it, says what others are shown."""

from datetime import timedelta

import pytest

from aitbc.kernel.primitives import clock, ids
from aitbc.modules.gpu.models.bookings import USED
from aitbc.modules.gpu.service.listings import GpuNotUsed, GpuReviewed, OwnGpu
from tests.app import Caller
from tests.modules.gpu.make import Fleet
from tests.modules.gpu.test_bookings import Market, with_miner

pytestmark = pytest.mark.anyio


async def rent(market: Market, who: Caller, seconds: float = 80) -> None:
    """Book the GPU, and give it back after so long."""
    booking = await market.book(who.principal, hours=1)
    for _ in range(int(seconds) // 20 + 1):
        clock.move(timedelta(seconds=min(seconds, 20)))
        await market.gpus.heartbeats.record(str(booking.miner))
    await market.gpus.bookings.release(who.principal, booking.id)
    await market.fleet.sql("UPDATE gpu.miners SET stopping_since = NULL")


async def rating(market: Market) -> tuple[float | None, int]:
    """What is shown of it."""
    found = await market.gpus.listings.get(market.gpu)
    told = await market.gpus.listings.reviews(market.gpu, 10)
    assert (told.average_rating, told.total, len(told.shown)) == (found.average_rating, found.reviews, found.reviews)
    return found.average_rating, found.reviews


async def test_who_never_rented_a_gpu_moves_no_average(fleet: Fleet) -> None:
    market, _ = await with_miner(fleet)
    listings, stranger = market.gpus.listings, await fleet.owner()
    await rent(market, market.buyer_caller)
    await listings.review(market.buyer, market.gpu, 5, "good")
    for rating_ in (1, 5):
        with pytest.raises(GpuNotUsed):
            await listings.review(stranger.principal, market.gpu, rating_, "")
    with pytest.raises(OwnGpu):
        await listings.review(market.owner, market.gpu, 5, "mine")
    assert await rating(market) == (5.0, 1)
    assert (await listings.review(market.buyer, market.gpu, 5, "good")).rating == 5
    with pytest.raises(GpuReviewed):
        await listings.review(market.buyer, market.gpu, 1, "bad after all")
    assert await rating(market) == (5.0, 1)


async def test_a_booking_that_was_hardly_used_or_is_not_over_or_was_taken_away_is_no_rental(fleet: Fleet) -> None:
    market, rig = await with_miner(fleet)
    await rent(market, market.buyer_caller, 2)
    with pytest.raises(GpuNotUsed):
        await market.gpus.listings.review(market.buyer, market.gpu, 1, "")
    booking = await market.book(hours=1)
    clock.move(USED * 2)
    await rig.heartbeat()
    with pytest.raises(GpuNotUsed):
        await market.gpus.listings.review(market.buyer, market.gpu, 1, "")
    await market.gpus.bookings.release(market.buyer, booking.id)
    await rig.heartbeat()
    other = await fleet.owner(funds="1")
    await market.book(other.principal, hours=1)
    clock.move(USED * 2)
    await market.gpus.listings.remove(market.owner, market.gpu, force=True)
    used = "SELECT count(*) AS used FROM gpu.bookings WHERE gpu = $1 AND account = $2 AND state = 'canceled'"
    of = ids.decode("gpu", market.gpu), ids.decode("acct", other.principal.account)
    assert [row["used"] for row in await fleet.sql(used, *of)] == [1]


async def test_time_in_which_the_miner_was_away_is_no_use(fleet: Fleet) -> None:
    market, _ = await with_miner(fleet)
    booking = await market.book(hours=1)
    await fleet.later(600)  # of which its last heartbeat stands for the first thirty seconds
    await market.gpus.bookings.release(market.buyer, booking.id)
    with pytest.raises(GpuNotUsed):
        await market.gpus.listings.review(market.buyer, market.gpu, 1, "")


async def test_reviews_from_before_that_no_rental_stands_behind_are_not_counted(fleet: Fleet) -> None:
    market, _ = await with_miner(fleet)
    stranger = await fleet.owner()
    await rent(market, market.buyer_caller)
    await market.gpus.listings.review(market.buyer, market.gpu, 5, "good")
    await fleet.sql(
        "INSERT INTO gpu.gpu_reviews (id, gpu, account, rating, comment, created_at) "
        "VALUES (gen_random_uuid(), $1, $2, 1, 'never there', now())",
        ids.decode("gpu", market.gpu),
        ids.decode("acct", stranger.principal.account),
    )
    assert await rating(market) == (5.0, 1)
