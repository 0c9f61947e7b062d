"""Output that comes faster than is believed of its class: flagged, paid as far as it is credible, and no merit."""

import asyncio
import uuid
from datetime import timedelta
from typing import Any

import pytest

from aitbc.kernel.primitives import clock, ids
from aitbc.modules.ai.models.speed import MADE_MIN, MARGIN, Work, believed, ceiling_of, is_sample
from tests.app import Caller
from tests.modules.gpu.make import GPU, Fleet, Rig

pytestmark = pytest.mark.anyio
PROMPT = "Go on."


def test_a_class_is_measured_by_three_accounts_and_two_that_lie_raise_nothing() -> None:
    assert ceiling_of([], 5000.0) == ceiling_of([10.0, 10.0], 5000.0) == 5000.0
    assert ceiling_of([10.0, 20.0, 30.0], 5000.0) == 10.0 * MARGIN
    assert ceiling_of([10.0, 20.0, 30.0, 1e9, 1e9], 5000.0) == 30.0 * MARGIN
    assert ceiling_of([1e9, 1e9, 1e9], 5000.0) == 5000.0
    assert ceiling_of([1e9, 1e9, 1e9], None) is None


def test_what_is_believed_is_what_the_ceiling_allows_and_of_little_work_all() -> None:
    assert believed(Work(1000, 2.0), 500.0) == 1000
    assert believed(Work(1001, 2.0), 500.0) == 1000
    assert believed(Work(100_000, 0.0), 500.0) == MADE_MIN
    assert believed(Work(MADE_MIN - 1, 0.0), 1.0) == MADE_MIN - 1
    assert believed(Work(10**9, 0.0), None) == 10**9
    assert [is_sample(work) for work in (Work(300, 1.0), Work(300, 0.9), Work(200, 5.0))] == [True, False, False]


async def answer(fleet: Fleet, buyer: Caller, rig: Rig, model: str, *, size: int, seconds: float) -> dict[str, Any]:
    """A chat that was answered with so many bytes in about that time."""
    value = {"messages": [{"role": "user", "content": PROMPT}], "model": model}
    await fleet.until_served(buyer, model)
    job = await fleet.submit(buyer, kind="chat", input=value)
    lease = await rig.take()
    assert lease["job"] == job["id"]
    clock.move(timedelta(seconds=seconds))
    output = {"message": {"role": "assistant", "content": "x" * size}, "model": model, "finish_reason": "stop"}
    delivered = await rig.deliver(lease, output)
    assert (delivered.status_code, delivered.json()["state"]) == (200, "succeeded"), delivered.text
    return dict((await buyer.get(f"/api/v1/ai/jobs/{job['id']}")).json())


async def test_what_comes_faster_than_the_measured_ceiling_of_its_class_is_flagged_and_not_paid_blindly(
    fleet: Fleet,
) -> None:
    model, buyer = f"m-{uuid.uuid4().hex[:8]}", await fleet.owner(funds="10")
    others: dict[str, Any] = {"kinds": ["chat"], "models": {"chat": [model]}}
    for _ in range(3):
        rig = await fleet.rig(await fleet.owner(), **others)
        found = await answer(fleet, buyer, rig, model, size=1000, seconds=10)
        assert (found["units"], found["history"][0]["reason"]) == (1000 + len(PROMPT), "completed")
        await rig.heartbeat(leaving=True)
    owner = await fleet.owner()
    cheat = await fleet.rig(owner, **others)
    found = await answer(fleet, buyer, cheat, model, size=5000, seconds=0)
    assert found["history"][0]["reason"] == "too_fast"
    assert "5000 units" in found["history"][0]["note"]
    paid = found["units"] - len(PROMPT)
    assert MADE_MIN <= paid < 2500
    receipt = (await buyer.get(f"/api/v1/trading/receipts/{found['receipt']}")).json()["receipt"]
    assert receipt["price"] == found["price"]
    await fleet.later(6)
    for _ in range(600):
        if await fleet.sql("SELECT FROM gpu.reputation_events WHERE miner = $1", ids.decode("mnr", cheat.id)):
            break
        await asyncio.sleep(0.05)
    told = (await owner.get(f"{GPU}/miners/{cheat.id}/reputation")).json()
    assert (told["value"], told["days"]) == (0.5, [])
    honest = await answer(fleet, buyer, cheat, model, size=5000, seconds=20)
    assert (honest["units"], honest["history"][0]["reason"]) == (5000 + len(PROMPT), "completed")
    assert (await fleet.stage.service("trading").verify()).divergence is None


async def test_work_for_ones_own_miners_measures_nothing(fleet: Fleet) -> None:
    model = f"m-{uuid.uuid4().hex[:8]}"
    others: dict[str, Any] = {"kinds": ["chat"], "models": {"chat": [model]}}
    for _ in range(3):
        owner = await fleet.owner(funds="1")
        rig = await fleet.rig(owner, **others)
        await answer(fleet, owner, rig, model, size=300, seconds=100)
        await rig.heartbeat(leaving=True)
    buyer, rig = await fleet.owner(funds="10"), await fleet.rig(await fleet.owner(), **others)
    found = await answer(fleet, buyer, rig, model, size=5000, seconds=0)
    assert (found["units"], found["history"][0]["reason"]) == (5000 + len(PROMPT), "completed")
