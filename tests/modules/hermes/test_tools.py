"""Tools of MCP servers as steps of agents, with servers of the official SDK: called once, and paid by result."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

from tests.app import Caller
from tests.listening import listening
from tests.modules.hermes.make import AGENTS, Town, called, handing_on, read, registered, skill
from tests.modules.hermes.test_remote import ended

pytestmark = pytest.mark.anyio


class Tools:
    """A server that counts, and waits while it is told to."""

    def __init__(self) -> None:
        self.url, self.calls = "", 0
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self.begun = asyncio.Event()

    async def shout(self, text: str) -> str:
        """Say it louder."""
        self.calls += 1
        self.begun.set()
        if text == "fail":
            raise ToolError("not that")
        await self.goes_on.wait()
        return text.upper()

    async def weigh(self, data: dict[str, int]) -> dict[str, int]:
        """Add up."""
        return {"sum": sum(data.values())}


@asynccontextmanager
async def served(*, json: bool) -> AsyncIterator[Tools]:
    """The server, whose answers are streams of events, or plain JSON."""
    tools, server = Tools(), MCPServer("tools")
    server.add_tool(tools.shout)
    server.add_tool(tools.weigh)
    app = server.streamable_http_app(json_response=json)
    async with server.session_manager.run(), listening(app) as port:
        tools.url = f"http://127.0.0.1:{port}/mcp"
        yield tools
        tools.goes_on.set()


def a_tool(tools: Tools, **changes: Any) -> dict[str, Any]:
    """A step that calls it."""
    step = {"does": "tool", "name": "loud", "server": tools.url, "tool": "shout", "arguments": {"text": "{{text}}"}}
    return step | changes


@pytest.fixture
async def buyer(town: Town) -> Caller:
    """Somebody with money."""
    return await town.owner(funds="10")


@pytest.mark.parametrize("json", [False, True], ids=["stream", "json"])
async def test_an_agent_uses_tools_and_is_paid_by_what_came_of_them(town: Town, buyer: Caller, *, json: bool) -> None:
    seller = await town.owner()
    async with served(json=json) as tools:
        again = a_tool(tools, name="again", arguments={"text": "{{steps.loud}} and {{text}}"})
        agent = await registered(seller, skill(a_tool(tools), again))
        run = (await called(buyer, agent, text="hello")).json()
        done = await ended(town, buyer, run["id"])
        assert (done["state"], done["output"], done["spent"]) == ("completed", "HELLO AND HELLO", "0.5")
        assert [step["does"] for step in done["steps"]] == ["tool", "tool"] and tools.calls == 2
        weighs = a_tool(tools, tool="weigh", arguments={"data": "{{data}}"})
        heavy = await registered(seller, skill(weighs))
        run = (await called(buyer, heavy, data={"a": 2, "b": 3})).json()
        assert (await ended(town, buyer, run["id"]))["output"].replace(" ", "") in ('{"sum":5}', '{\n"sum":5\n}')
        for text, tool, reason in (("fail", "shout", "tool_failed"), ("x", "nothing", "tool_failed")):
            broken = await registered(seller, skill(a_tool(tools, tool=tool)))
            run = (await called(buyer, broken, text=text)).json()
            failed = await ended(town, buyer, run["id"])
            assert (failed["state"], failed["reason"], failed["spent"]) == ("failed", reason, "0")
    assert await town.balance(buyer) == ("9", "0")


async def test_a_tool_whose_answer_is_lost_is_called_again_only_where_that_does_no_harm(
    town: Town, buyer: Caller
) -> None:
    seller = await town.owner()
    async with served(json=True) as tools:
        for repeatable, state in ((False, "failed"), (True, "completed")):
            agent = await registered(seller, skill(a_tool(tools, repeatable=repeatable)))
            tools.goes_on.clear()
            tools.begun.clear()
            message = f"m-{repeatable}"
            calling = asyncio.ensure_future(called(buyer, agent, text="hello", message=message))
            await asyncio.wait_for(tools.begun.wait(), 60)
            calling.cancel()  # as a killed process: nothing is written after it
            with suppress(asyncio.CancelledError):
                await calling
            tools.goes_on.set()
            before = tools.calls
            run = (await called(buyer, agent, text="hello", message=message)).json()
            await town.step(1)
            assert tools.calls == before, "somebody may still be at it"
            await town.step(100)
            over = await ended(town, buyer, run["id"])
            assert (over["state"], over["reason"]) == (state, "completed" if repeatable else "tool_interrupted")
            assert tools.calls == before + repeatable


async def test_a_server_that_is_away_is_waited_for_and_one_that_may_not_be_asked_is_refused(
    town: Town, buyer: Caller
) -> None:
    seller = await town.owner()
    async with served(json=True) as tools:
        away = a_tool(tools)
    agent = await registered(seller, skill(away))
    run = (await called(buyer, agent, text="hello", wall_seconds=60)).json()
    await town.step(20)
    assert (await read(buyer, run["id"]))["state"] == "working"
    await town.step(41)
    gone = await ended(town, buyer, run["id"])
    assert (gone["state"], gone["reason"]) == ("failed", "deadline_passed")
    wrong = {"name": "x", "skills": [skill(away | {"server": "ftp://tools.example.org/"})]}
    assert (await seller.post(AGENTS, wrong)).json()["code"] == "destination_refused"
    filled = {"name": "x", "skills": [skill(away | {"arguments": {"text": "{{steps.later}}"}}, handing_on())]}
    assert (await seller.post(AGENTS, filled)).json()["code"] == "agent_plan_invalid"
