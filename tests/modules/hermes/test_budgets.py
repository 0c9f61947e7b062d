"""Random trees of delegation, and deaths at any moment: no budget is passed, and every effect happens once."""

import asyncio
import random
from typing import Any

import pytest

from aitbc.kernel.primitives.money import parse, render
from tests.app import Caller
from tests.modules.hermes.make import RUNS, Town, a_job, approval, called, handing_on, read, registered, skill
from tests.scale import scaled

pytestmark = pytest.mark.anyio
CENT = 1_000_000
TREES = scaled(2, 100)
KILLS = scaled(4, 100)


async def a_tree(town: Town, owner: Caller, chance: random.Random, depth: int) -> str:
    """An agent with up to three steps, some of which are trees of their own."""
    steps: list[dict[str, Any]] = []
    for number in range(chance.randint(1, 3)):
        if depth and chance.random() < 0.7:
            child = await a_tree(town, owner, chance, depth - 1)
            budget = render(chance.randint(0, 60) * CENT) if chance.random() < 0.9 else "2"
            steps.append(handing_on(child, name=f"s{number}", budget=budget))
        else:
            otherwise = "approve" if chance.random() < 0.9 else "reject"
            steps.append(approval(name=f"s{number}", within_seconds=1, otherwise=otherwise))
    return await registered(owner, skill(*steps, price=render(chance.randint(0, 20) * CENT)))


async def over(town: Town, who: Caller, run: str, seconds: float = 2) -> dict[str, Any]:
    """A run once it has ended."""
    for _ in range(200):
        found = await read(who, run)
        if found["ended_at"] is not None:
            return found
        await town.step(seconds)
    raise AssertionError(found)


async def check_tree(who: Caller, run: dict[str, Any]) -> int:
    """What a run and everything below it spent, which its own numbers say; never more than its budget."""
    spent = parse(run["price"], zero=True) if run["transaction"] else 0
    for step in run["steps"]:
        if step["does"] == "delegate" and step["reference"] is not None:
            child = await read(who, step["reference"])
            total = await check_tree(who, child)
            assert parse(step["spent"], zero=True) == total
        spent += parse(step["spent"], zero=True)
    assert spent == parse(run["spent"], zero=True) <= parse(run["budget"], zero=True)
    assert run["reserved"] == "0" and run["ended_at"] is not None
    return spent


@pytest.mark.parametrize("seed", range(TREES))
async def test_no_budget_is_passed_in_any_tree(town: Town, seed: int) -> None:
    chance = random.Random(seed)
    buyer, owner = await town.owner(funds="10"), await town.owner()
    agent = await a_tree(town, owner, chance, 3)
    answer = await called(buyer, agent, budget=render(chance.randint(20, 200) * CENT))
    assert answer.status_code == 201, answer.text
    run = await over(town, buyer, answer.json()["id"])
    spent = await check_tree(buyer, run)
    assert await town.balance(buyer) == (render(parse("10") - spent), "0")


async def test_a_run_that_is_killed_again_and_again_does_everything_once(town: Town) -> None:
    chance = random.Random(7)
    buyer, owner, helper = await town.owner(funds="1000"), await town.owner(), await town.owner()
    rig = await town.fleet.rig(await town.owner())
    below = await registered(helper, skill(approval(within_seconds=1, otherwise="approve"), price="0.25"))
    agent = await registered(owner, skill(a_job(), handing_on(below), a_job(name="again")))
    kills, runs = 0, 0
    while kills < KILLS:
        runs += 1
        call = asyncio.create_task(called(buyer, agent, message=f"m-{runs}"))
        kills += await killed(call, chance)
        answer = await called(buyer, agent, message=f"m-{runs}")
        assert answer.status_code == 201, answer.text
        run = answer.json()["id"]
        for _ in range(200):
            kills += await killed(asyncio.create_task(town.service.driver.drive(run)), chance)
            if (await read(buyer, run))["ended_at"] is not None:
                break
            for lease in (await rig.poll())["leases"]:
                assert (await rig.deliver(lease)).status_code == 200
            await town.step(1)
        done = await read(buyer, run)
        assert done["state"] == "completed", done
        await check_tree(buyer, done)
    jobs = (await buyer.get("/api/v1/ai/jobs", limit=1000)).json()["data"]
    assert len(jobs) == 2 * runs and {job["state"] for job in jobs} == {"succeeded"}
    assert len((await buyer.get(RUNS, limit=1000)).json()["data"]) == 2 * runs
    assert float((await town.balance(owner))[0]) == pytest.approx(runs * 0.4875)
    assert (await town.balance(buyer))[1] == "0"


async def killed(work: "asyncio.Task[Any]", chance: random.Random) -> int:
    """End a task at some moment of its work; whether it was not done by then."""
    await asyncio.sleep(chance.random() * 0.03)
    if work.done():
        return 0
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    return 1
