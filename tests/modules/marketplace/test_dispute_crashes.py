"""Disputes whose steps break off anywhere: what goes back goes back once, and what is set aside is what the rows say."""

import functools
import random
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.primitives import ids
from aitbc.modules.marketplace.service.disputes.disputes import BeginDispute
from tests.app import Caller
from tests.modules.gpu.make import Fleet
from tests.modules.marketplace.make import audited, market_of
from tests.modules.marketplace.test_booking_crashes import cut
from tests.modules.marketplace.test_bookings import Sale
from tests.modules.marketplace.test_disputes import everything, fleet, over
from tests.scale import scaled

__all__ = ["fleet"]
pytestmark = pytest.mark.anyio
DISPUTES = scaled(3, 60)
Act = Callable[[], Awaitable[Any]]


def once_of(who: Caller) -> IdempotencyKey:
    """A request that nobody made before."""
    return IdempotencyKey(account=who.principal.account, key=uuid.uuid4().hex, fingerprint=b"the same")


async def until_it_holds(act: Act, chance: random.Random) -> Any:
    """Break something off some times, and then do it."""
    for _ in range(chance.randrange(4)):
        await cut(act, chance.uniform(0, 0.05))
    return await act()


async def test_what_goes_back_goes_back_once_wherever_it_breaks_off(fleet: Fleet) -> None:
    chance = random.Random(88)
    market, admin = market_of(fleet), await fleet.stage.admin()
    disputes = market.market_disputes
    for _ in range(DISPUTES):
        sale, booking = await over(fleet, 65)
        buyer, owner = sale.buyer.principal, sale.owner.principal
        command = BeginDispute(subject=booking["id"], reason="x", claim_units=chance.choice([None, 1, 12_345]))
        begun = await until_it_holds(functools.partial(disputes.begin, buyer, command, once_of(sale.buyer)), chance)
        await until_it_holds(market.keep_disputes, chance)
        share = chance.choice([0, 1, 3_333, 9_999, 10_000])
        ends: dict[str, Act] = {
            "concede": functools.partial(disputes.concede, owner, begun.id),
            "withdraw": functools.partial(disputes.withdraw, buyer, begun.id),
            "decide": functools.partial(disputes.decide, admin.principal, begun.id, share, "so", once_of(admin)),
        }
        await until_it_holds(ends[chance.choice(sorted(ends))], chance)
        await until_it_holds(market.keep_disputes, chance)
        await audit(sale, begun.id, booking["id"])


async def audit(sale: Sale, dispute: str, booking: str) -> None:
    """The dispute, its one hold, the transaction that ended it, and what both sides have."""
    fleet = sale.fleet
    (row,) = await fleet.sql("SELECT * FROM marketplace.disputes WHERE id = $1", ids.decode("dspt", dispute))
    (paid,) = await fleet.sql("SELECT * FROM marketplace.bookings WHERE id = $1", ids.decode("book", booking))
    holds = await fleet.sql("SELECT * FROM trading.holds WHERE reference = $1", dispute)
    assert row["state"] == "closed" and row["held_units"] == row["due_units"]
    assert row["owed_units"] == row["due_units"] * row["share_basis_points"] // 10_000
    ended = {hold["id"]: (hold["state"], hold["price_units"] or 0) for hold in holds if hold["state"] != "voided"}
    expected = {row["hold"]: ("settled", row["owed_units"])} if row["owed_units"] else {}
    assert ended == expected
    fee = row["fee_units"] * row["owed_units"] // row["due_units"]
    assert row["refunded_units"] == row["owed_units"] + fee
    (fees,) = await fleet.sql(
        "SELECT sum(fee_units)::bigint AS units FROM marketplace.booking_slices WHERE booking = $1", paid["id"]
    )
    trading = fleet.stage.service("trading")
    buyer = await trading.balance(sale.buyer.principal.account)
    owner = await trading.balance(sale.owner.principal.account)
    assert (buyer.available_units, buyer.held_units) == (10**9 - paid["paid_units"] + row["refunded_units"], 0)
    earned = paid["paid_units"] - fees["units"]
    assert (owner.available_units, owner.held_units) == (earned - row["owed_units"], 0)
    await audited(fleet)
    assert await everything(fleet) == (0, 0)
