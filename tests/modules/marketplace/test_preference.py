"""What a payer prefers: who gets a job first, by prices and by measured speeds, and what the quote says of it."""

from datetime import timedelta
from typing import Any

import pytest

from aitbc.kernel.primitives import clock, ids
from aitbc.kernel.primitives.clock import now
from aitbc.modules.ai.models.asks import Ask
from aitbc.modules.ai.models.preference import KEPT_FOR, Candidate, Speed, is_kept_from, kept_for, ranked
from tests.app import Caller
from tests.modules.gpu.make import JOBS, Fleet, Rig
from tests.modules.marketplace.test_prices import for_sale, region, wish

pytestmark = pytest.mark.anyio
LATER = now() + timedelta(days=1)


def candidate(miner: str, price: int, speed: float | None = None, *, jobs: int = 10, free: bool = True) -> Candidate:
    """A miner that fits."""
    return Candidate(
        miner=miner,
        ask=Ask("chat", None, price, LATER, f"offer of {miner}"),
        unit_price_units=price,
        speed=None if speed is None else Speed(speed, jobs),
        is_free=free,
    )


def order(candidates: list[Candidate], prefer: Any) -> list[str]:
    """The names of the miners, the best first."""
    return [one.miner for one in ranked(candidates, prefer)]


def test_each_preference_orders_by_what_it_says() -> None:
    fleet = [candidate("a", 10, 100.0), candidate("b", 4, 20.0), candidate("c", 5, 60.0), candidate("d", 3)]
    assert order(fleet, "cheapest") == ["d", "b", "c", "a"]
    assert order(fleet, "fastest") == ["a", "c", "b", "d"]  # what was never measured comes last
    assert order(fleet, "balanced") == ["c", "a", "d", "b"]  # 5/60, 10/100, 3/20 (as slow as the slowest), 4/20


def test_a_speed_that_few_jobs_say_is_none() -> None:
    assert order([candidate("a", 1, 5.0), candidate("b", 1, 900.0, jobs=2)], "fastest") == ["a", "b"]


def test_a_job_is_kept_for_the_best_that_have_a_slot_free() -> None:
    fleet = [candidate("a", 1, free=False), candidate("b", 2), candidate("c", 2), candidate("d", 3)]
    assert kept_for(fleet, "cheapest") == ("b", "c")
    assert kept_for([candidate("a", 1, free=False)], "cheapest") == ()
    assert kept_for([candidate("a", 1), candidate("b", 1)], "fastest") == ("a", "b")  # nothing was measured of either


def test_a_job_is_kept_for_a_moment_only() -> None:
    at = now()
    assert is_kept_from("mnr_a", "mnr_b", at, at)
    assert not is_kept_from("mnr_a", "mnr_a", at, at)
    assert not is_kept_from("mnr_a", "mnr_b", at, at + KEPT_FOR)
    assert not is_kept_from("", "mnr_b", at, at)


async def two(fleet: Fleet, owner: Caller, where: dict[str, Any]) -> tuple[Rig, Rig]:
    """A cheap miner and a dear one."""
    cheap, _ = await for_sale(fleet, owner, "0.0001", **where)
    dear, _ = await for_sale(fleet, owner, "0.0003", **where)
    return cheap, dear


async def test_the_cheapest_gets_a_job_first_and_after_a_moment_whoever_fits(fleet: Fleet) -> None:
    owner, buyer, where = await fleet.owner(), await fleet.owner(funds="10"), region()
    cheap, dear = await two(fleet, owner, where)
    first = await fleet.submit(buyer, requirements=where, max_price="1", prefer="cheapest")
    assert (await dear.poll())["leases"] == []
    assert (await cheap.take())["job"] == first["id"]
    second = await fleet.submit(buyer, requirements=where, max_price="1", prefer="cheapest")
    assert (await cheap.take())["job"] == second["id"]
    busy = await fleet.submit(buyer, requirements=where, max_price="1", prefer="cheapest")
    assert (await dear.take())["job"] == busy["id"]  # the cheapest has no slot free: the next best gets it at once
    late = await fleet.submit(buyer, requirements=where, max_price="1", prefer="cheapest")
    await fleet.sql("UPDATE ai.jobs SET preferred = $2 WHERE id = $1", ids.decode("job", late["id"]), cheap.id)
    other = await fleet.rig(owner, **where)
    assert (await other.poll())["leases"] == []
    clock.move(KEPT_FOR + timedelta(milliseconds=100))
    assert (await other.take())["job"] == late["id"]


async def test_a_quote_ranks_by_speeds_of_paid_jobs_and_says_for_whom_the_job_would_be_kept(fleet: Fleet) -> None:
    owner, buyer, where = await fleet.owner(), await fleet.owner(funds="10"), region()
    cheap, dear = await two(fleet, owner, where)
    unmeasured = (await buyer.post("/api/v1/ai/quotes", wish(where, "1") | {"prefer": "cheapest"})).json()
    assert [offer["miner"] for offer in unmeasured["offers"]] == [cheap.id, dear.id]
    assert [offer["units_per_second"] for offer in unmeasured["offers"]] == [None, None]
    assert (unmeasured["prefer"], unmeasured["kept_for"]) == ("cheapest", [cheap.id])
    for rig, seconds in ((cheap, 4.0), (dear, 1.0)) * 3:
        job = await fleet.submit(buyer, requirements=where, max_price="1")
        while not (leases := (await rig.poll())["leases"]):
            pass
        clock.move(timedelta(seconds=seconds))
        assert (await rig.deliver(leases[0])).status_code == 200, job
    clock.move(timedelta(seconds=31))  # speeds are kept in memory for a while
    for rig in (cheap, dear):
        await rig.heartbeat()
    fastest = (await buyer.post("/api/v1/ai/quotes", wish(where, "1") | {"prefer": "fastest"})).json()
    assert [offer["miner"] for offer in fastest["offers"]] == [dear.id, cheap.id]
    assert fastest["offers"][0]["units_per_second"] > fastest["offers"][1]["units_per_second"] > 0
    assert (fastest["offers"][0]["jobs_measured"], fastest["kept_for"]) == (3, [dear.id])


async def test_a_preference_that_does_not_exist_is_refused(fleet: Fleet) -> None:
    buyer = await fleet.owner(funds="1")
    refused = await buyer.post(JOBS, wish(region(), "0.1") | {"prefer": "nearest"})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/prefer")
