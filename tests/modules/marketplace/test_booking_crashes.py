"""Bookings of offers whose steps break off anywhere: no second that was used is unpaid, none is paid twice."""

import asyncio
import functools
import random
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.primitives import clock, ids
from aitbc.kernel.primitives.errors import AppError
from aitbc.modules.marketplace.models.bookings import due_units
from aitbc.modules.marketplace.service.bookings.bookings import BookOffer
from tests.modules.gpu.make import Fleet
from tests.modules.marketplace.make import market_of
from tests.modules.marketplace.test_bookings import Sale, fleet, for_sale
from tests.scale import scaled

__all__ = ["fleet"]
pytestmark = pytest.mark.anyio
KILLS = scaled(8, 200)
FUNDS = 10


async def cut(work: Callable[[], Awaitable[Any]], seconds: float) -> None:
    """Break something off after so long, as a kill would; what was committed stays."""
    task = asyncio.ensure_future(work())
    await asyncio.wait({task}, timeout=seconds)
    task.cancel()
    with suppress(asyncio.CancelledError, AppError):
        await task


async def test_no_second_is_unpaid_and_none_is_paid_twice_wherever_it_breaks_off(fleet: Fleet) -> None:
    chance = random.Random(13)
    sale = await for_sale(fleet, funds=str(FUNDS), price="36")
    market, who = market_of(fleet), sale.buyer.principal
    booking = await begun(sale, chance)
    for _ in range(KILLS):
        clock.move(timedelta(seconds=chance.choice([9, 29, 61])))
        await sale.rig.heartbeat()
        await cut(market.keep_bookings, chance.uniform(0, 0.08))
        if chance.random() < 0.15:
            await cut(functools.partial(market.market_bookings.give_back, who, booking), chance.uniform(0, 0.08))
        row = await market.booking_keeper.read(booking)
        if row.ended_at is not None:
            await audit(sale)
            booking = await begun(sale, chance)
    await market.market_bookings.give_back(who, booking)
    await sale.keep()
    await audit(sale)


async def begun(sale: Sale, chance: random.Random) -> str:
    """A booking that was broken off while it was made, and made by the same request again."""
    market, who = market_of(sale.fleet), sale.buyer.principal
    for _ in range(20):
        await sale.rig.heartbeat(leases=[])
        once = IdempotencyKey(account=who.account, key=uuid.uuid4().hex, fingerprint=b"the same")
        command = BookOffer(offer=sale.offer["id"], seconds=1_200)
        await cut(functools.partial(market.market_bookings.book, who, command, once), chance.uniform(0, 0.08))
        with suppress(AppError):
            return (await market.market_bookings.book(who, command, once)).id
        clock.move(timedelta(seconds=61))
        await sale.keep()
    raise AssertionError("it never began")


async def audit(sale: Sale) -> None:
    """Every booking that is over: what was paid is what its slices say, once, and nothing of it is held."""
    offer = ids.decode("offer", sale.offer["id"])
    rows = await sale.fleet.sql("SELECT * FROM marketplace.bookings WHERE offer = $1", offer)
    paid = 0
    for row in rows:
        slices = await sale.fleet.sql(
            "SELECT * FROM marketplace.booking_slices WHERE booking = $1 ORDER BY number", row["id"]
        )
        holds = await sale.fleet.sql(
            "SELECT id, state, price_units FROM trading.holds WHERE reference = $1", ids.encode("book", row["id"])
        )
        settled = {hold["id"]: hold["price_units"] for hold in holds if hold["state"] == "settled"}
        assert sum(settled.values()) == row["paid_units"]
        assert {one["hold"]: one["paid_units"] for one in slices if one["paid_units"]} == settled
        if row["ended_at"] is not None:
            assert not [hold for hold in holds if hold["state"] == "open"]
            begins = expected = 0
            for one in [one for one in slices if one["state"] in ("paid", "returned")]:
                expected += due_units(_Slice(one), begins, row["used_ms"])  # type: ignore[arg-type]
                begins += one["millis"]
            assert expected == row["paid_units"], (row["reason"], row["used_ms"])
        paid += row["paid_units"]
    available, held = await sale.purse(sale.buyer)
    assert int(available * 10**8) + int(held * 10**8) + paid == FUNDS * 10**8


class _Slice:
    """A slice as a record has it."""

    def __init__(self, record: Any) -> None:
        self.amount_units, self.millis, self.price_units = (
            record["amount_units"],
            record["millis"],
            record["price_units"],
        )
