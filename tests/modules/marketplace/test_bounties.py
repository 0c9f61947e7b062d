"""Bounties: made for a model that jobs wait for and nobody serves, paid once to who serves it first, or withdrawn."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import money
from aitbc.modules.marketplace.models.bounties import BountyRow
from aitbc.modules.marketplace.service.bounties import Purse
from aitbc.modules.marketplace.service.settings import MarketplaceSettings
from tests.app import Caller
from tests.modules.gpu.make import Fleet, Rig, fleet_on
from tests.modules.marketplace.make import MARKET, PATIENCE, audited, market_of

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def fleet(target: Target, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    """The running app of this file, which does nothing by itself and pays bounties."""
    async with fleet_on(target, tmp_path_factory.mktemp("app"), periodic=False) as fleet:
        payer = (await fleet.owner(funds="5")).principal.account
        settings = MarketplaceSettings(bounty_account=payer, bounties_per_day_units=money.parse("1"))
        market_of(fleet).market_bounties.purse = Purse(settings, fleet.stage.runtime.platform.parameters)
        yield fleet


async def bounties(who: Caller, model: str) -> list[dict[str, Any]]:
    """The bounties for a model."""
    answer = await who.get(f"{MARKET}/bounties", limit=200)
    assert answer.status_code == 200, answer.text
    return [one for one in answer.json()["data"] if one["model"] == model]


async def heard(fleet: Fleet, rig: Rig, status: str) -> None:
    """Wait until ai knows this of a miner: it comes by an event."""
    async with asyncio.timeout(PATIENCE):
        while (rig.id, status) not in [(one.id, one.status) for one in await _miners(fleet)]:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def _miners(fleet: Fleet) -> list[Any]:
    return list(await fleet.stage.service("ai").fleet_view.miners())


async def gone(fleet: Fleet, model: str) -> None:
    """A model that was served a moment ago, and that nobody serves any more."""
    rig = await fleet.rig(await fleet.owner(), models={"embed": [model]})
    await heard(fleet, rig, "online")
    await fleet.later(600)
    await heard(fleet, rig, "offline")


async def wait_for(fleet: Fleet, buyer: Caller, model: str) -> dict[str, Any]:
    """A job that waits for a model."""
    return await fleet.submit(buyer, input={"texts": ["text"], "model": model})


async def serve(rig: Rig, model: str) -> None:
    """Do the one job that waits for this miner."""
    lease = await rig.take()
    output = {"model": model, "dimensions": 3, "vectors": [[0.5, -0.25, 0.125]], "weights": "sha256:00"}
    assert (await rig.deliver(lease, output)).status_code == 200


async def earned(fleet: Fleet, owner: Caller) -> Decimal:
    """What an account has to spend."""
    balance = await fleet.stage.service("trading").balance(owner.principal.account)
    return Decimal(money.render(balance.available_units))


async def test_the_first_that_serves_what_jobs_wait_for_is_paid_once_and_loading_it_earns_nothing(fleet: Fleet) -> None:
    model, keep = f"cold-{uuid.uuid4().hex}", market_of(fleet).keep_bounties
    await gone(fleet, model)
    owner, buyer = await fleet.owner(funds="1"), await fleet.owner(funds="1")
    own = await wait_for(fleet, owner, model)
    await wait_for(fleet, buyer, model)
    for _ in range(3):
        await keep()
    [bounty] = await bounties(buyer, model)
    assert (bounty["state"], bounty["jobs"], bounty["most"]) == ("open", 2, "0.864")
    assert Decimal("0.001") <= Decimal(bounty["amount"]) < Decimal("0.01")
    await fleet.later(100)
    await keep()
    [grown] = await bounties(buyer, model)
    assert Decimal(grown["amount"]) - Decimal(bounty["amount"]) >= Decimal("0.003")
    rig = await fleet.rig(owner, models={"embed": [model]})
    await heard(fleet, rig, "online")
    await keep()
    assert [one["state"] for one in await bounties(buyer, model)] == ["open"]  # loaded, and nothing done
    await serve(rig, model)
    await keep()
    first = await earned(fleet, owner)
    done = (await owner.get(f"/api/v1/ai/jobs/{own['id']}")).json()
    assert (done["state"], [one["state"] for one in await bounties(buyer, model)]) == ("succeeded", ["open"])
    await serve(rig, model)  # the own one came first, and proves nothing
    await keep()
    await keep()
    [paid] = await bounties(buyer, model)
    assert (paid["state"], paid["miner"]) == ("paid", rig.id)
    assert Decimal(grown["amount"]) <= Decimal(paid["amount"]) < Decimal(paid["most"])
    income = await earned(fleet, owner) - first
    assert Decimal(paid["amount"]) < income < Decimal(paid["amount"]) + Decimal("0.001") and first == 1
    moved = (await buyer.get(f"/api/v1/trading/transactions/{paid['transaction']}")).json()
    assert (moved["kind"], moved["reference"]) == ("rent", paid["id"])
    await audited(fleet)


async def test_what_was_earned_is_paid_though_its_hold_is_over(fleet: Fleet) -> None:
    model, market = f"cold-{uuid.uuid4().hex}", market_of(fleet)
    await gone(fleet, model)
    owner, buyer = await fleet.owner(), await fleet.owner(funds="1")
    await wait_for(fleet, buyer, model)
    await market.keep_bounties()
    await market.keep_bounties()
    [bounty] = await bounties(buyer, model)
    assert bounty["state"] == "open"
    rig = await fleet.rig(owner, models={"embed": [model]})
    await heard(fleet, rig, "online")
    await serve(rig, model)
    async with market.market_bounties._database.reading() as session:
        hold = await session.scalar(select(BountyRow.hold).where(BountyRow.id == bounty["id"]))
    await fleet.stage.service("trading").void(hold, "expired")
    for _ in range(2):
        await market.keep_bounties()
    [paid] = await bounties(buyer, model)
    assert (paid["state"], paid["miner"]) == ("paid", rig.id)
    assert await earned(fleet, owner) > Decimal(paid["amount"])
    await audited(fleet)


async def test_one_that_nobody_wants_any_more_is_withdrawn_and_a_days_most_is_never_passed(fleet: Fleet) -> None:
    market, buyer = market_of(fleet), await fleet.owner(funds="1")
    payer = market.market_bounties.purse.account
    assert payer is not None
    before = await fleet.stage.service("trading").balance(payer)
    models = [f"cold-{uuid.uuid4().hex}" for _ in range(2)]
    for model in models:
        await gone(fleet, model)
    jobs = [await wait_for(fleet, buyer, model) for model in models]
    for _ in range(3):
        await market.keep_bounties()
    seen = [one for model in models for one in await bounties(buyer, model)]
    assert ([one["state"] for one in seen], seen[0]["most"]) == (["open", "open"], "0.864")
    assert Decimal("0.1") < Decimal(seen[1]["most"]) <= Decimal("0.136")  # the rest of the day
    held = await fleet.stage.service("trading").balance(payer)
    assert held.held_units == sum(money.parse(one["most"]) for one in seen)
    for job in jobs:
        assert (await buyer.post(f"/api/v1/ai/jobs/{job['id']}/cancel")).status_code == 200
    await market.keep_bounties()
    assert {one["state"] for model in models for one in await bounties(buyer, model)} == {"withdrawn"}
    assert await fleet.stage.service("trading").balance(payer) == before
