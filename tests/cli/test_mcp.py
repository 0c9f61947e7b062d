"""`aitbc mcp serve` with the official MCP client: it looks, and spends within its budget and with a yes only."""

import asyncio
import sys
from contextlib import suppress
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp.types import CallToolResult

from aitbc_cli.exits import USAGE
from tests.cli.installation import CliInstallation
from tests.cli.test_agents import an_agent
from tests.cli.tiny_server import nowhere

pytestmark = pytest.mark.anyio
LOOKING = {
    *("find_agents", "show_agent", "search_market", "list_models", "list_kinds", "quote_job", "balance"),
    *("job_status", "explain_job", "run_status", "run_receipt"),
}


@pytest.fixture
def anyio_backend() -> str:
    """The one that the client is tried with."""
    return "asyncio"


def server_for(installation: CliInstallation, *words: str) -> StdioServerParameters:
    """The command, as a client of Alice's starts it."""
    alice = installation.alice
    return StdioServerParameters(
        command=sys.executable,
        args=["-m", "aitbc_cli.main", "mcp", "serve", *words],
        env=alice.environment,
        cwd=str(alice.home),
    )


def told(result: CallToolResult) -> Any:
    """What a tool answered."""
    assert not result.is_error, result.content
    return result.structured_content


def refused(result: CallToolResult) -> str:
    """Why a tool did not do it."""
    assert result.is_error, result.structured_content
    return str(getattr(result.content[0], "text", ""))


async def test_without_a_budget_tools_only_look(installation: CliInstallation) -> None:
    agent = an_agent(installation, "looked-at")
    async with Client(server_for(installation)) as client:
        tools = (await client.list_tools()).tools
        assert {tool.name for tool in tools} == LOOKING
        assert all(tool.annotations is not None and tool.annotations.read_only_hint for tool in tools)
        found = told(await client.call_tool("find_agents", {"skill": "looked-at"}))
        assert found["data"][0]["agent"] == agent
        assert 0 < float(told(await client.call_tool("balance", {}))["available"]) <= 10
        quote = told(await client.call_tool("quote_job", {"kind": "embed", "input": {"texts": ["x"]}}))
        assert float(quote["max_price"]) > 0
        assert "no such job" in refused(await client.call_tool("job_status", {"job": "job_" + "0" * 26}))


async def test_with_a_budget_tools_spend_once_and_never_more(installation: CliInstallation) -> None:
    agent = an_agent(installation, "spent-on")
    call = {"agent": agent, "text": "please", "budget": "0.6", "request_id": "one"}
    async with Client(server_for(installation, "--budget", "1")) as client:
        assert "confirm" in refused(await client.call_tool("call_agent", call))
        run = told(await client.call_tool("call_agent", call | {"confirm": True}))
        assert (run["state"], run["budget_left"]) == ("input_required", "0.4")
        assert told(await client.call_tool("call_agent", call | {"confirm": True}))["id"] == run["id"]
        more = call | {"confirm": True, "request_id": "two"}
        assert "0.4 of the budget" in refused(await client.call_tool("call_agent", more))
        low = more | {"budget": "0.3"}
        assert "at least 0.5" in refused(await client.call_tool("call_agent", low))
        assert told(await client.call_tool("budget_left", {}))["left"] == "0.4"
        assert told(await client.call_tool("run_status", {"run": run["id"]}))["id"] == run["id"]


async def test_the_same_tools_are_served_over_http(installation: CliInstallation) -> None:
    alice, port = installation.alice, nowhere().rpartition(":")[2]
    command = [sys.executable, "-m", "aitbc_cli.main", "mcp", "serve", "--http", f"127.0.0.1:{port}"]
    served = await asyncio.create_subprocess_exec(*command, env=alice.environment, cwd=alice.home)
    try:
        for _ in range(400):
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", int(port))
                writer.close()
                break
            await asyncio.sleep(0.1)
        async with Client(f"http://127.0.0.1:{port}/mcp") as client:
            assert {tool.name for tool in (await client.list_tools()).tools} == LOOKING
            assert 0 < float(told(await client.call_tool("balance", {}))["available"]) <= 10
    finally:
        served.terminate()
        await served.wait()


def test_what_cannot_be_served_is_said_at_once(installation: CliInstallation) -> None:
    for words in (("--http", "nowhere"), ("--http", "0.0.0.0:8765"), ("--budget", "much")):
        installation.alice.does("mcp", "serve", *words, code=USAGE)
