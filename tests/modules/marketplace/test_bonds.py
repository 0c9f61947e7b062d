"""Bonds: locked by owners, found in a search, taken with a decided dispute as evidence once nobody objects, and returned."""

import uuid
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.primitives import clock, money
from tests.app import Caller
from tests.modules.gpu.make import Fleet
from tests.modules.marketplace.make import MARKET, audited, market_of
from tests.modules.marketplace.test_bookings import Sale
from tests.modules.marketplace.test_disputes import begun, decided, everything, fleet, over

__all__ = ["fleet"]
pytestmark = pytest.mark.anyio
BONDS = f"{MARKET}/bonds"


async def bonded(sale: Sale, more: str = "1") -> dict[str, Any]:
    """A bond of all that the owner has, and of this much more: nothing is left to give back."""
    trading, owner = sale.fleet.stage.service("trading"), sale.owner.principal.account
    await trading.deposits.deposit(
        sale.fleet.stage.runtime.operator, owner, money.parse(more), "x", IdempotencyKey.NONE
    )
    everything_owned = str((await sale.purse(sale.owner))[0])
    once = uuid.uuid4().hex
    for _ in range(2):
        answer = await sale.owner.post(BONDS, {"amount": everything_owned}, once=once)
        assert (answer.status_code, answer.json()["state"]) == (201, "locked"), answer.text
    assert await sale.purse(sale.owner) == (Decimal(0), Decimal(everything_owned))
    return dict(answer.json())


async def slashed(sale: Sale, booking: dict[str, Any]) -> dict[str, Any]:
    """What is announced to be taken, for a dispute that was decided against an owner who had nothing."""
    dispute = await begun(sale.buyer, booking["id"])
    assert dispute["held"] == "0"
    closed = (await decided(sale.fleet, dispute, 10_000)).json()
    assert (closed["state"], closed["refunded"]) == ("closed", "0")
    (slash,) = (await seen(sale.buyer, sale))["slashes"]
    assert (slash["state"], slash["dispute"], slash["payer"]) == ("announced", dispute["id"], booking["account"])
    return dict(slash)


async def seen(who: Caller, sale: Sale) -> dict[str, Any]:
    """The bond of a sale's owner."""
    answer = await who.get(f"{BONDS}/{sale.owner.principal.account}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def keep(sale: Sale, later: timedelta = timedelta(0)) -> None:
    """What the periodic task does, so much later."""
    clock.move(later)
    await market_of(sale.fleet).keep_bonds()


async def test_a_bond_gives_the_mark_and_pays_whom_a_dispute_says_once_nobody_objects(fleet: Fleet) -> None:
    sale, booking = await over(fleet)
    assert (await sale.owner.post(BONDS, {"amount": "0.5"})).status_code == 422
    assert (await sale.owner.post(BONDS, {"amount": "50"})).json()["code"] == "insufficient_funds"
    bond = await bonded(sale)
    assert (await sale.owner.post(BONDS, {"amount": "1"})).json()["code"] == "bond_exists"
    for mark, wanted in (("true", [sale.offer["id"]]), ("false", [])):
        query = f"miner = {sale.rig.id} and bonded = {mark} and status in [online, offline]"
        found = (await sale.buyer.get(f"{MARKET}/search", filter=query)).json()
        assert [one["id"] for one in found["data"]] == wanted, found
    slash = await slashed(sale, booking)
    before = (await sale.purse(sale.buyer))[0]
    await keep(sale, timedelta(hours=71))
    assert (await seen(sale.buyer, sale))["slashes"][0]["state"] == "announced"
    await keep(sale, timedelta(hours=2))
    await keep(sale)
    after = await seen(sale.buyer, sale)
    assert (after["state"], after["slashed"]) == ("locked", slash["amount"])
    assert Decimal(after["amount"]) == Decimal(bond["amount"]) - Decimal(slash["amount"])
    assert (await sale.purse(sale.buyer))[0] - before == Decimal(booking["paid"])  # with the fee of it
    paid = after["slashes"][0]
    transaction = (await sale.buyer.get(f"/api/v1/trading/transactions/{paid['transaction']}")).json()
    assert (paid["state"], transaction["kind"], transaction["reference"]) == ("paid", "refund", bond["id"])
    assert await sale.purse(sale.owner) == (Decimal(0), Decimal(after["amount"]))
    held = "SELECT placed_at FROM trading.holds WHERE state = 'open' AND reference = $1"  # in the refund's transaction
    at = datetime.fromisoformat(transaction["at"])
    assert [row["placed_at"] for row in await fleet.sql(held, bond["id"])] == [at]
    assert (await sale.owner.post(f"{BONDS}/leave")).json()["state"] == "leaving"
    await keep(sale, timedelta(days=29))
    assert (await seen(sale.owner, sale))["state"] == "leaving"
    await keep(sale, timedelta(days=2))
    assert (await sale.owner.get(f"{BONDS}/{bond['account']}")).json()["code"] == "bond_not_found"
    assert await sale.purse(sale.owner) == (Decimal(after["amount"]), Decimal(0))
    assert await everything(fleet) == (0, 0)
    await audited(fleet)


@pytest.mark.parametrize("says", ["uphold", "drop", None])
async def test_an_appeal_is_decided_by_the_operator_or_granted_by_time(fleet: Fleet, says: str | None) -> None:
    sale, booking = await over(fleet)
    bond = await bonded(sale)
    slash = await slashed(sale, booking)
    path, words = f"{BONDS}/slashes/{slash['id']}", {"reason": "It was up."}
    assert (await sale.buyer.post(f"{path}/appeal", words)).json()["code"] == "slash_not_found"
    for _ in range(2):
        assert (await sale.owner.post(f"{path}/appeal", words)).json()["slashes"][0]["state"] == "appealed"
    assert (await sale.owner.post(f"{path}/decision", words | {"upholds": False})).status_code == 403
    await keep(sale, timedelta(days=6))
    if says is not None:
        admin = await fleet.stage.admin()
        for _ in range(2):
            answer = await admin.post(f"{path}/decision", {"upholds": says == "uphold", "reason": "So it is."})
            assert answer.status_code == 200, answer.text
    await keep(sale, timedelta(days=2))
    after = await seen(sale.owner, sale)
    assert after["slashes"][0]["state"] == ("paid" if says == "uphold" else "dropped")
    assert (after["amount"] == bond["amount"]) is (says != "uphold")
    assert await everything(fleet) == (0, 0)
