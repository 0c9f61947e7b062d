"""A crowd of miners, many jobs, and miners that vanish with their work: each job is paid once, and no zombie is paid at all."""

import asyncio
import random
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import clock
from aitbc.modules.ai.service import AiSettings
from tests.app import Caller, TestApp, running_app
from tests.chaos.audit import faults, open_work
from tests.chaos.load import Acknowledged
from tests.journeys.hand_miner import HandMiner
from tests.scale import scaled

MINERS = scaled(12, 50)
JOBS = scaled(120, 1000)
ZOMBIES_MIN = scaled(0, 20)
VANISH = 0.08
"""How often a miner takes a lease and is never heard of again in time."""


async def submit(caller: Caller, told: Acknowledged, count: int) -> None:
    """Some jobs, one after the other."""
    for number in range(count):
        body = {
            "kind": "embed",
            "input": {"texts": [f"job {number}"]},
            "max_price": "0.01",
            "retry": {"attempts_max": 10},
        }
        answer = await caller.post("/api/v1/ai/jobs", body)
        assert answer.status_code == 201, answer.text
        told.jobs[answer.json()["id"]] = answer.json()["id"]


async def work(miner: HandMiner, told: Acknowledged, zombies: list[tuple[HandMiner, dict[str, Any]]]) -> None:
    """Take work and deliver it, or vanish with it."""
    while True:
        for lease in await miner.poll(slots=2, wait=1):
            if random.random() < VANISH:
                zombies.append((miner, lease))
                continue
            answer = await miner.deliver(lease)
            assert answer.status_code in (200, 409), answer.text
            if answer.status_code == 200:
                told.delivered[lease["job"]] = answer.json()["receipt"]


async def pass_time(app: TestApp, target: Target) -> None:
    """Let the lost leases run out, until nothing is open.

    After each jump of the clock deadlines have their grace, so that a few rounds of the sweeper come between two of them.
    """
    while await open_work(target):
        clock.move(timedelta(seconds=40))
        await asyncio.sleep(2.5)


@pytest.mark.timeout(240)
async def test_each_job_of_a_crowd_is_paid_once(new_database: Callable[[], Target], tmp_path: Path) -> None:
    target, told = new_database(), Acknowledged()
    zombies: list[tuple[HandMiner, dict[str, Any]]] = []
    quick = {"ai": AiSettings(grace_seconds=0.5)}
    try:
        async with running_app(target, tmp_path, tables=quick) as app:
            payers = [await app.who(f"payer {n}", funds="5") for n in range(8)]
            owner = await app.who("owner")
            miners = [await HandMiner.enrol(app, owner) for _ in range(MINERS)]
            at_work = [asyncio.create_task(work(miner, told, zombies)) for miner in miners]
            await asyncio.gather(*(submit(payer, told, JOBS // len(payers)) for payer in payers))
            await asyncio.wait_for(pass_time(app, target), 150)
            broken = [task for task in at_work if task.done()]
            for task in at_work:
                task.cancel()
            results = await asyncio.gather(*at_work, return_exceptions=True)
            assert not broken, results
            late = [(await miner.deliver(lease)).status_code for miner, lease in zombies]
            assert len(late) > ZOMBIES_MIN
            assert set(late) == {409}
            assert await faults(target, told) == []
            states = {
                job["state"]
                for payer in payers
                for job in (await payer.get("/api/v1/ai/jobs", limit=1000)).json()["data"]
            }
            assert states == {"succeeded"}
            assert len(told.jobs) == JOBS
            assert (await (await app.admin()).post("/api/v1/trading/ledger/verify")).json()["ok"]
    finally:
        clock.reset()
