"""The tools that `aitbc mcp serve` offers: those that look, and with a budget those that spend.

Loaded by that command alone: it needs the package mcp.
"""

from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from threading import Lock
from typing import Any

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations

from aitbc_cli.client import Api, part
from aitbc_cli.exits import NOT_ALLOWED, NOT_FOUND, REFUSED, USAGE, Stop, usage
from aitbc_cli.settings import Where

SECONDS = 60.0
PLACES = 8
INSTRUCTIONS = (
    "AITBC is a marketplace for AI work: jobs that miners do, and agents whose skills can be called. Prices are in AITBC, "
    "as decimal strings. Quote before you spend, and never spend without the user's word."
)
LOOKS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
SPENDS = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=True)


class Refused(ToolError):
    """The server said no: nothing was begun."""


class Market:
    """The server, as tools ask it: what it refuses becomes a text that the model may read."""

    def __init__(self, where: Where) -> None:
        self._where = where

    def get(self, path: str, **query: Any) -> Any:
        """Read something."""
        return self._ask(lambda api: api.get(path, **query))

    def post(self, path: str, body: dict[str, Any], once: str | None = None) -> Any:
        """Command something; without an Idempotency-Key it only looks."""
        return self._ask(lambda api: api.post(path, body, once=once, natural=once is None))

    def _ask(self, work: Callable[[Api], Any]) -> Any:
        try:
            return work(Api(self._where, seconds=SECONDS))
        except Stop as refusal:
            kind = Refused if refusal.exit_code in (USAGE, NOT_FOUND, NOT_ALLOWED, REFUSED) else ToolError
            raise kind(str(refusal)) from None


class Purse:
    """What may still be spent. What is asked again under the same name is counted once."""

    def __init__(self, budget: str) -> None:
        self._budget = amount_of(budget, "--budget")
        self._taken: dict[str, Decimal] = {}
        self._lock = Lock()

    @property
    def left(self) -> Decimal:
        """What is left, in AITBC."""
        return self._budget - sum(self._taken.values(), Decimal())

    def take(self, name: str, most: str, *, confirm: bool) -> bool:
        """Take the most that something may cost out of the budget; false where it was taken before.

        Raises `ToolError`.
        """
        if not confirm:
            raise ToolError("Nothing was done: ask the user, and call again with confirm set to true.")
        try:
            amount = amount_of(most, "the most that it may cost")
        except Stop as refusal:
            raise ToolError(str(refusal)) from None
        with self._lock:
            known = self._taken.get(name)
            if known is not None and known != amount:
                raise ToolError("This request_id was used with another amount; give this one its own.")
            if known is None and amount > self.left:
                raise ToolError(f"This may cost {amount}, and {self.left} of the budget are left.")
            self._taken[name] = amount
            return known is None

    def give_back(self, name: str) -> None:
        """Nothing was begun after all."""
        with self._lock:
            self._taken.pop(name, None)


def amount_of(text: str, what: str) -> Decimal:
    """An amount in AITBC. Raises a fault of usage for anything else."""
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal(-1)
    if not amount.is_finite() or amount < 0 or amount != round(amount, PLACES):
        raise usage(f"{what} must be an amount in AITBC with at most {PLACES} places", hint="for instance 0.5")
    return amount


def serve_tools(where: Where, budget: str | None, http: tuple[str, int] | None) -> None:
    """Serve the tools until the client goes, or the process ends."""
    server = tools_of(where, budget)
    if http is None:
        server.run("stdio")
    else:
        server.run("streamable-http", host=http[0], port=http[1])


def tools_of(where: Where, budget: str | None) -> MCPServer:
    """A server with the tools that look, and with a budget those that spend."""
    server = MCPServer("aitbc", instructions=INSTRUCTIONS, log_level="WARNING")
    market = Market(where)
    _add_search(server, market)
    _add_status(server, market)
    if budget is not None:
        _add_spending(server, market, Purse(budget))
    return server


def _add_search(server: MCPServer, market: Market) -> None:
    @server.tool(annotations=LOOKS)
    def find_agents(skill: str = "", budget: str = "", prefer: str = "performance") -> dict[str, Any]:
        """Find agents by skill or tag and budget in AITBC; prefer is performance or cost. Scores say why."""
        body = {"prefer": prefer} | ({"skill": skill} if skill else {}) | ({"budget": budget} if budget else {})
        return dict(market.post("/api/v1/hermes/routes", body))

    @server.tool(annotations=LOOKS)
    def show_agent(agent: str) -> dict[str, Any]:
        """Show an agent with its skills and their prices."""
        return dict(market.get(f"/api/v1/hermes/agents/{part(agent)}"))

    @server.tool(annotations=LOOKS)
    def search_market(filter: str = "", limit: int = 20) -> dict[str, Any]:  # noqa: A002 - the name of the parameter
        """Search what miners offer: `vram >= 80GB and price < 1`."""
        return dict(market.get("/api/v1/marketplace/search", filter=filter or None, limit=min(max(limit, 1), 100)))

    @server.tool(annotations=LOOKS)
    def list_models() -> dict[str, Any]:
        """List the models that miners serve now."""
        return dict(market.get("/api/v1/ai/models", limit=100))

    @server.tool(annotations=LOOKS)
    def list_kinds() -> dict[str, Any]:
        """List the kinds of work with the schemas of their inputs and their prices."""
        return dict(market.get("/api/v1/ai/kinds"))

    @server.tool(annotations=LOOKS)
    def quote_job(kind: str, input: dict[str, Any]) -> dict[str, Any]:  # noqa: A002 - the name of the field
        """Say what a job would cost at most and how long it would wait. Nothing is bought."""
        return dict(market.post("/api/v1/ai/quotes", {"kind": kind, "input": input, "max_price": "1"}))

    @server.tool(annotations=LOOKS)
    def balance() -> dict[str, Any]:
        """What the account can spend, and what of it is held."""
        account = market.get("/api/v1/identity/keys/self")["account"]
        return dict(market.get(f"/api/v1/trading/accounts/{part(account)}"))


def _add_status(server: MCPServer, market: Market) -> None:
    @server.tool(annotations=LOOKS)
    def job_status(job: str) -> dict[str, Any]:
        """Show a job; with its output where it has succeeded."""
        return dict(market.get(f"/api/v1/ai/jobs/{part(job)}"))

    @server.tool(annotations=LOOKS)
    def explain_job(job: str) -> dict[str, Any]:
        """Say why a job waits, or how it went."""
        return dict(market.get(f"/api/v1/ai/jobs/{part(job)}/explain"))

    @server.tool(annotations=LOOKS)
    def run_status(run: str) -> dict[str, Any]:
        """Show a run of an agent with its steps, its answer and its costs."""
        return dict(market.get(f"/api/v1/hermes/runs/{part(run)}"))

    @server.tool(annotations=LOOKS)
    def run_receipt(run: str) -> dict[str, Any]:
        """Show the signed receipt of a run that has ended."""
        return dict(market.get(f"/api/v1/hermes/runs/{part(run)}/receipt"))


def _add_spending(server: MCPServer, market: Market, purse: Purse) -> None:
    def spend(path: str, body: dict[str, Any], most: str, request_id: str, *, confirm: bool) -> dict[str, Any]:
        is_new = purse.take(request_id, most, confirm=confirm)
        try:
            return dict(market.post(path, body, once=f"mcp-{request_id}")) | {"budget_left": str(purse.left)}
        except Refused:  # an answer that did not come may have been a yes, so only a no gives the money back
            if is_new:
                purse.give_back(request_id)
            raise

    @server.tool(annotations=SPENDS)
    def submit_job(
        kind: str,
        input: dict[str, Any],  # noqa: A002 - the name of the field
        max_price: str,
        request_id: str,
        confirm: bool = False,  # noqa: FBT001 - a parameter of a tool
    ) -> dict[str, Any]:
        """Buy a job for at most max_price AITBC. The same request_id buys once. Needs the user's word: confirm=true."""
        body = {"kind": kind, "input": input, "max_price": max_price}
        return spend("/api/v1/ai/jobs", body, max_price, request_id, confirm=confirm)

    @server.tool(annotations=SPENDS)
    def call_agent(
        agent: str,
        text: str,
        budget: str,
        request_id: str,
        skill: str = "",
        confirm: bool = False,  # noqa: FBT001 - a parameter of a tool
    ) -> dict[str, Any]:
        """Call a skill of an agent for at most budget AITBC. The same request_id calls once. Needs confirm=true."""
        body = {"agent": agent, "text": text, "budget": budget} | ({"skill": skill} if skill else {})
        return spend("/api/v1/hermes/runs", body, budget, request_id, confirm=confirm)

    @server.tool(annotations=LOOKS)
    def budget_left() -> dict[str, str]:
        """What may still be spent until this server ends, in AITBC."""
        return {"left": str(purse.left)}
