"""A graph that is paused on the way, and a study that stops a trial, by hand over HTTP in this process."""

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import pytest

from aitbc.kernel.primitives.clock import now
from tests.app import Caller, TestApp
from tests.journeys.conftest import IN_PROCESS
from tests.journeys.hand_miner import HandMiner, Place
from tests.journeys.test_paid_job import balance

pytestmark = pytest.mark.parametrize("installation", [IN_PROCESS], indirect=True, scope="module")
SECONDS = 60


async def until(app: Place, look: Callable[[], Awaitable[Any]]) -> Any:
    """What a look finds, once it finds something. In this process nothing is driven on by itself."""
    async with asyncio.timeout(SECONDS):
        while not (found := await look()):
            if isinstance(app, TestApp):
                ai = app.runtime.wired.services["ai"]
                await ai.drive_graphs()
                await ai.drive_studies()
            await asyncio.sleep(0.05)
    return found


async def taken(app: Place, miner: HandMiner) -> dict[str, Any]:
    """The next lease of a miner."""
    return dict((await until(app, miner.poll))[0])


async def made(caller: Caller, path: str, body: dict[str, Any]) -> str:
    """The id of something that was begun."""
    answer = await caller.post(path, body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def ended(app: Place, caller: Caller, path: str) -> Any:
    """It, once it has ended and everything that was held for it is settled or back."""

    async def look() -> Any:
        found = (await caller.get(path)).json()
        is_over = found["state"] not in ("queued", "running", "paused")
        return found if is_over and (await balance(caller))["held"] == 0 else None

    return await until(app, look)


def text(words: str) -> dict[str, Any]:
    """The input of a node."""
    return {"texts": [words]}


async def test_a_graph_goes_on_after_a_pause_and_each_node_is_paid_once(app: Place) -> None:
    alice, owner = await app.who("alice", funds="1"), await app.who("owner")
    miner = await HandMiner.enrol(app, owner)
    nodes = [
        {"name": "first", "kind": "embed", "input": text("one"), "max_price": "0.05"},
        {
            "name": "each",
            "kind": "embed",
            "for_each": ["a", "b"],
            "input": text("{{item}} {{first.digest}}"),
            "max_price": "0.05",
        },
        {"name": "last", "kind": "embed", "input": text("of {{each.digest}}"), "max_price": "0.05"},
    ]
    graph = await made(alice, "/api/v1/ai/graphs", {"name": "Tides", "budget": "0.5", "nodes": nodes})
    path, leases = f"/api/v1/ai/graphs/{graph}", [await taken(app, miner)]
    assert (await miner.deliver(leases[0])).status_code == 200
    leases.append(await taken(app, miner))
    for command in ("pause", "resume"):
        answer = await alice.post(f"{path}/{command}")
        assert answer.status_code == 200, answer.text
    assert (await miner.deliver(leases[1])).status_code == 200
    while len(leases) < 4:
        leases.append(await taken(app, miner))
        assert (await miner.deliver(leases[-1])).status_code == 200
    assert (await ended(app, alice, path))["state"] == "succeeded"
    assert len({lease["job"] for lease in leases}) == 4
    paid = [Decimal((await alice.get(f"/api/v1/ai/jobs/{lease['job']}")).json()["price"]) for lease in leases]
    assert await balance(alice) == {"available": 1 - sum(paid), "held": 0}
    assert await miner.poll() == []
    report = (await (await app.admin()).post("/api/v1/trading/ledger/verify")).json()
    assert report["ok"], report


def printed(value: float) -> dict[str, Any]:
    """The output of a trial."""
    return {"exit_code": 0, "stdout": f"{value}\n", "stderr": "", "truncated": False}


async def test_a_study_stops_a_trial_that_does_worse_and_its_money_comes_back(app: Place) -> None:
    pytest.importorskip("optuna")
    alice, owner = await app.who("alice", funds="5"), await app.who("owner")
    miner = await HandMiner.enrol(app, owner, kinds=("command",), programs=("train",))
    spec = {
        "name": "Rate",
        "kind": "command",
        "input": {"program": "train", "arguments": ["--rate={{params.rate}}"]},
        "params": {"rate": {"type": "float", "low": 0.0, "high": 1.0}},
        "objective": {"direction": "minimize", "value": "text"},
        "pruner": {"type": "median", "startup_trials": 2},
        "sampler": "random",
        "trials": 3,
        "parallel": 1,
        "budget": "4",
        "max_price": "0.5",
    }
    path = f"/api/v1/ai/studies/{await made(alice, '/api/v1/ai/studies', spec)}"

    async def report(lease: dict[str, Any], value: float) -> None:
        line = {"sequence": 1, "at": now().isoformat(), "text": f"aitbc.report 1 {value}"}
        told = await miner.client.post(
            f"/api/v1/gpu/leases/{lease['attempt']}/log", json={"token": lease["token"], "lines": [line]}
        )
        assert told.status_code in (200, 204), told.text

    for number, value in enumerate((0.1, 0.2)):
        lease = await taken(app, miner)
        await report(lease, value)
        await until(app, lambda at=number: reported(alice, path, at))  # type: ignore[misc]
        assert (await miner.deliver(lease, printed(value))).status_code == 200
    lease = await taken(app, miner)
    await report(lease, 9.0)
    done = await ended(app, alice, path)
    assert [one["state"] for one in done["results"]] == ["complete", "complete", "pruned"]
    assert done["state"] == "complete"
    assert Decimal(done["results"][2]["spent"]) == 0
    assert (await alice.get(f"/api/v1/ai/jobs/{lease['job']}")).json()["state"] == "canceled"
    assert await balance(alice) == {"available": 5 - Decimal(done["spent"]), "held": 0}


async def reported(caller: Caller, path: str, trial: int) -> bool:
    """Whether a trial's report was read."""
    results = (await caller.get(path)).json()["results"]
    return len(results) > trial and bool(results[trial]["reports"])
