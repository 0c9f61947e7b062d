"""Agents at endpoints of their own, served by the official SDK: called once, paid by result, handing on within the budget."""

import asyncio
from typing import Any

import pytest

from tests.app import Caller
from tests.modules.hermes.make import AGENTS, RUNS, Town, approval, called, read, registered, skill
from tests.modules.hermes.remote import a_remote_agent

pytestmark = pytest.mark.anyio
PATIENCE = 200


@pytest.fixture
async def buyer(town: Town) -> Caller:
    """Somebody with money."""
    return await town.owner(funds="10")


async def ended(town: Town, who: Caller, run: str) -> dict[str, Any]:
    """A run once it is over."""
    for _ in range(PATIENCE):
        await town.step(1)
        found = await read(who, run)
        if found["ended_at"] is not None:
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(f"it is still {found['state']}")


async def echo(text: str, facts: dict[str, Any]) -> str:
    """Answer what was asked."""
    if text == "fail":
        raise ValueError
    return f"{facts['skill']}: {text}"


async def test_a_remote_agent_is_looked_at_called_and_paid(town: Town, buyer: Caller) -> None:
    seller = await town.owner()
    async with a_remote_agent(echo) as remote:
        agent = await registered(seller, skill(), endpoint=remote.url)
        assert (await called(buyer, agent)).json()["code"] == "agent_not_callable"
        await town.service.probe_agents()
        assert (await buyer.get(f"{AGENTS}/{agent}")).json()["is_online"]
        run = (await called(buyer, agent, text="hello")).json()
        done = await ended(town, buyer, run["id"])
        assert (done["state"], done["output"], done["spent"]) == ("completed", "work: hello", "0.5")
        assert remote.asked == [(f"{run['id']}:1", "hello")]
        run = (await called(buyer, agent, text="fail")).json()
        failed = await ended(town, buyer, run["id"])
        assert (failed["state"], failed["reason"], failed["spent"]) == ("failed", "call_failed", "0")
    known = (await buyer.get(f"{AGENTS}/{agent}")).json()["reputation"]
    assert (known["completed"], known["failed"], known["success"]) == (1, 1, 0.5)
    assert await town.balance(buyer) == ("9.5", "0")
    # Its endpoint is gone: it goes offline, and what was sent is tried until the deadline ends the run
    run = (await called(buyer, agent, text="hello", wall_seconds=60)).json()
    gone = await ended(town, buyer, run["id"])
    assert gone["state"] == "failed" and await town.balance(buyer) == ("9.5", "0")
    await town.step(100)
    await town.service.probe_agents()
    seen = (await buyer.get(f"{AGENTS}/{agent}")).json()
    assert not seen["is_online"] and seen["problem"]


async def test_a_remote_agent_hands_on_within_what_is_left(town: Town, buyer: Caller) -> None:
    seller, helper = await town.owner(), await town.owner()
    below = await registered(helper, skill(approval(otherwise="approve", within_seconds=1), price="0.6"))
    answers: list[Any] = []

    async def work(_: str, facts: dict[str, Any]) -> str:
        part = {"ticket": facts["ticket"], "agent": below, "skill": "work", "text": "part"}
        for name, budget in (("one", "0.6"), ("one", "0.6"), ("two", "0.6")):
            answer = await seller.post(f"{RUNS}/{facts['run']}/delegate", part | {"name": name, "budget": budget})
            answers.append(answer)
        wrong = part | {"ticket": "0" * 64, "name": "three", "budget": "0"}
        answers.append(await seller.post(f"{RUNS}/{facts['run']}/delegate", wrong))
        return "done"

    async with a_remote_agent(work) as remote:
        agent = await registered(seller, skill(), endpoint=remote.url)
        await town.service.probe_agents()
        run = (await called(buyer, agent, budget="1.2")).json()
        done = await ended(town, buyer, run["id"])
    assert [answer.status_code for answer in answers] == [201, 201, 409, 404], [one.text for one in answers]
    assert answers[0].json()["id"] == answers[1].json()["id"]
    assert answers[2].json()["code"] == "budget_exhausted"
    assert (done["state"], done["output"], done["spent"]) == ("completed", "done", "1.1")
    assert [(step["does"], step["spent"]) for step in done["steps"]] == [("call", "0"), ("delegate", "0.6")]
    assert await town.balance(buyer) == ("8.9", "0")
    late = await seller.post(
        f"{RUNS}/{run['id']}/delegate",
        {"ticket": town.service.calls.ticket_of(run["id"]), "agent": below, "skill": "work", "text": "", "name": "x"}
        | {"budget": "0"},
    )
    assert (late.status_code, late.json()["code"]) == (409, "agent_run_over")


async def test_a_run_that_is_cancelled_asks_the_remote_agent_to_stop(town: Town, buyer: Caller) -> None:
    never = asyncio.Event()

    async def work(_: str, __: dict[str, Any]) -> str:
        await never.wait()
        return ""

    async with a_remote_agent(work) as remote:
        agent = await registered(await town.owner(), skill(), endpoint=remote.url)
        await town.service.probe_agents()
        run = (await called(buyer, agent)).json()["id"]
        for _ in range(PATIENCE):
            await town.step(1)
            if remote.asked:
                break
            await asyncio.sleep(0.05)
        await town.step(2)
        answer = await buyer.post(f"{RUNS}/{run}/cancel")
        assert answer.json()["state"] == "canceled"
        assert len(remote.canceled) == 1
    assert (await town.balance(buyer)) == ("10", "0")


async def test_places_inside_are_refused_as_endpoints(town: Town) -> None:
    owner = await town.owner()
    body = {"name": "x", "skills": [skill()], "endpoint": "ftp://example.org/"}
    assert (await owner.post(AGENTS, body)).json()["code"] == "destination_refused"
