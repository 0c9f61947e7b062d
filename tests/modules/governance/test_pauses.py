"""Pauses: a vote stops a module's new business, and another lets it go on."""

from typing import Any

from tests.app import Caller, TestApp
from tests.journeys.hand_miner import HandMiner
from tests.modules.governance.make import (
    TIMELOCK,
    VOTING,
    locked,
    member,
    pass_time,
    proposed,
    started,
    state_of,
    voted,
)

JOB = {"kind": "embed", "input": {"texts": ["x"]}, "max_price": "1"}
TRADE = {"trade_type": "ai_power", "title": "x", "price": "0.1", "capacity": 1}


async def attempts(stage: TestApp, who: Caller) -> dict[str, tuple[str, dict[str, Any]]]:
    """By module: the path of new business, and what is sent there."""
    miner = await HandMiner.enrol(stage, who, gpus=["NVIDIA H100 80GB HBM3"])
    await miner.beat()
    for_rent = {"model": "H100", "price_per_hour": "0.25", "miner": miner.id}
    listing = (await who.post("/api/v1/gpu/listings", for_rent)).json()["id"]
    return {
        "ai": ("/api/v1/ai/jobs", JOB),
        "gpu": ("/api/v1/gpu/bookings", {"gpu": listing, "duration_seconds": 3600, "max_price": "0.25"}),
        "marketplace": ("/api/v1/marketplace/offers", {"miner": miner.id, "sells": "device", "price": "0.25"}),
        "trading": ("/api/v1/trading/offers", TRADE),
    }


async def test_new_business_stops_while_it_is_paused_and_only_there(stage: TestApp) -> None:
    alice, parameters = await stage.who("alice", funds="50"), stage.runtime.platform.parameters
    wanted = await attempts(stage, alice)
    for module, (path, body) in wanted.items():
        await parameters.set([(f"{module}.paused", 1)], f"prop_pause_{module}")
        refused = await alice.post(path, body)
        assert (refused.status_code, refused.json()["code"]) == (503, "module_paused"), refused.text
        await parameters.set([(f"{module}.paused", 0)], f"prop_resume_{module}")
        done = await alice.post(path, body)
        assert done.status_code == 201, done.text
    await parameters.set([("trading.paused", 1)], "prop_again")
    asked = await alice.post("/api/v1/trading/requests", {"trade_type": "ai_power", "title": "x"})
    assert asked.status_code == 503
    assert (await alice.post("/api/v1/ai/jobs", JOB)).status_code == 201


async def test_an_emergency_needs_four_fifths_of_all_power_and_pauses_a_module(stage: TestApp) -> None:
    alice, bob = await member(stage, "800", "2000"), await member(stage, "200")
    buyer = await stage.who("buyer", funds="50")

    async def decided(do: str, class_: str, state: str, *voters: Caller) -> dict[str, Any]:
        proposal = await proposed(alice, class_=class_, actions=[{"do": do, "module": "ai"}])
        await started(stage, proposal)
        for who in voters:
            await voted(who, proposal)
        await pass_time(stage, seconds=VOTING)
        await pass_time(stage, seconds=TIMELOCK)
        return await state_of(stage, proposal, state)

    await decided("pause_module", "emergency", "executed", alice)
    refused = await buyer.post("/api/v1/ai/jobs", JOB)
    assert (refused.status_code, refused.json()["code"]) == (503, "module_paused"), refused.text
    await locked(bob, "0.00000001")  # from now on her share is less than 80 %
    missed = await decided("resume_module", "emergency", "defeated", alice)
    assert missed["tally"]["has_quorum"] is False
    await decided("resume_module", "parameters", "executed", alice, bob)
    assert (await buyer.post("/api/v1/ai/jobs", JOB)).status_code == 201
