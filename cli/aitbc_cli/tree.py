"""The nouns of the command line. Each is loaded when it is used, so that the first help is there at once."""

from functools import cache
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from aitbc_cli.exits import Stop

NOUNS: dict[str, tuple[str, str]] = {
    "demo": ("demo", "Watch paid AI work on this machine, from a server's start to verified files."),
    "serve": ("serve", "Serve the whole platform in this process."),
    "login": ("login", "Print a link that signs a browser in, once."),
    "status": ("status", "One screen: server, miners, jobs, blocks, balance."),
    "top": ("top", "A live screen: what is wrong, and how everything stands (admins)."),
    "monitor": ("monitor", "What is watched, and how it stands (admins)."),
    "alert": ("alert", "What fires, and when somebody is told (admins)."),
    "places": ("places", "Which process serves which module, and on which ports (admins)."),
    "doctor": ("doctor", "Check this installation; each fault with its exact fix."),
    "job": ("job", "Submit work, watch it, get its result."),
    "study": ("study", "Studies: parameters looked for by trials that are jobs, under one budget."),
    "graph": ("graph", "Graphs: jobs that follow from each other, under one budget."),
    "batch": ("batch", "Batches: requests in a file, done within a day for less."),
    "file": ("file", "Files: what requests under /v1 read, and what batches write."),
    "schedule": ("schedule", "Schedules: graphs and jobs begun again and again."),
    "chat": ("chat", "Chat with a model, and see what it costs."),
    "miner": ("miner", "Run a miner, and see after yours."),
    "model": ("model", "Models that miners serve."),
    "gpu": ("gpu", "GPUs for rent: find one, or offer yours."),
    "offer": ("offer", "Offers: put your miners on sale, by the unit of work or by the hour."),
    "market": ("market_bonds", "The market: search what can be had now, bid for it."),
    "agent": ("agent", "Agents: register yours, find one, call its skills, approve what it asks."),
    "edge": ("edge", "Edges: what your miners serve near those who ask, also while they are cut off."),
    "mcp": ("mcp", "The market as tools for language models (MCP)."),
    "plugin": ("plugin_author", "Plugins: find, buy and install them, or write your own."),
    "booking": ("booking_disputes", "GPUs for yourself: book, list, shell, release, dispute."),
    "trade": ("trade", "Trades: offer, request, match, agree, settle."),
    "stake": ("stake", "Stake: lock money for power, unlock it, delegate the power."),
    "gov": ("gov", "Governance: propose, vote, and see what it changes."),
    "usage": ("usage", "What was paid for work, by day, account, kind, model, miner or key."),
    "class": ("service_class", "Service classes: jobs in time for a price, or some of it back."),
    "budget": ("budget", "Budgets: limit what you spend in a day, a month or at all."),
    "limit": ("limit", "Rate limits: how much is asked at a time, by key and model."),
    "account": ("account", "Accounts and their balances."),
    "exchange": ("exchange", "The exchange: buy and sell assets, see the book."),
    "asset": ("asset", "Assets: what accounts may have beside AITBC."),
    "deposit": ("deposit", "Give an account play money (admins)."),
    "faucet": ("faucet", "Take play money for yourself."),
    "key": ("key", "API keys: made, listed, rotated, revoked."),
    "webhook": ("webhook", "Webhooks: signed messages about your jobs to a URL of yours."),
    "verify": ("verify", "Verify that an engine serves the model that it says."),
    "receipt": ("receipt", "Receipts of paid jobs; verify one offline."),
    "chain": ("chain", "Export the chain, and verify it offline."),
    "ledger": ("ledger", "Verify the ledger on the server."),
    "block": ("block", "Blocks of the chain."),
    "tx": ("tx", "Transactions of the ledger."),
    "address": ("address", "Addresses: balance, earned, spent, watched."),
    "search": ("search", "Find what a height, a hash or an id names."),
    "events": ("events", "Events between modules; replay dead ones (admins)."),
    "audit": ("audit", "Who did what to what (admins)."),
    "log-level": ("log_level", "From which level on the server logs, while it runs (admins)."),
    "config": ("config", "Settings, and where each comes from."),
    "db": ("db", "The database: provision, migrate, check, open, look into."),
    "backup": ("backup", "Back the whole installation up into one file."),
    "restore": ("restore", "Restore a backup into an empty place, and verify it."),
    "upgrade": ("upgrade", "See what this program would change in an installation."),
    "completion": ("completion", "Completion for bash, zsh and fish."),
}
"""Noun to its module under `commands` and what it is for."""


COMMANDS = "aitbc.commands"
"""The group of entry points by which packages beside this one add nouns: each names a `typer.Typer`."""


@cache
def _loaded(noun: str) -> Any:
    """The commands of a noun, loaded once."""
    loaded = typer.main.get_command(import_module(f"aitbc_cli.commands.{NOUNS[noun][0]}").app)
    loaded.name = noun
    return loaded


@cache
def added() -> dict[str, Any]:
    """The entry points of other packages by their nouns; what this program has itself cannot be replaced."""
    from importlib.metadata import entry_points

    found = sorted(entry_points(group=COMMANDS), key=lambda point: point.value)
    return {point.name: point for point in reversed(found) if point.name not in NOUNS}


def _of_package(noun: str) -> Any:
    """The commands that another package adds. Raises `Stop` where they cannot be loaded."""
    point = added()[noun]
    try:
        found = point.load()
        if not isinstance(found, typer.Typer):  # click's groups are none: typer has a click of its own
            raise TypeError(f"{point.value} is no typer.Typer")
        loaded = typer.main.get_command(found)
    except Exception as error:  # noqa: BLE001 - whatever its author did
        package = "another package" if point.dist is None else point.dist.name
        reason = f"the commands of {package} cannot be loaded: {type(error).__name__}: {error}"
        raise Stop(reason, code="package_broken", hint=f"uninstall {package}, or ask its author") from None
    loaded.name = noun
    return loaded


class Nouns(TyperGroup):
    """The root: knows all nouns by name, and loads the one that is used."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Every noun of this program, the first to be used first; looking for those of others would take too long."""
        return list(NOUNS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The noun's commands; none for an unknown one."""
        if cmd_name in NOUNS:
            return _loaded(cmd_name)
        return _of_package(cmd_name) if cmd_name in added() else None

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The list of nouns, without loading one."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in NOUNS.items()])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The noun of the first word; for a near miss the error suggests what it may have meant."""
        if args and args[0] not in NOUNS and not args[0].startswith("-") and args[0] not in added():
            from difflib import get_close_matches

            near = get_close_matches(args[0], NOUNS, n=2)
            ctx.fail(f"No such command {args[0]!r}." + (f" Did you mean {' or '.join(near)}?" if near else ""))
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Nouns that begin so, without loading one."""
        from typer._click.shell_completion import CompletionItem

        return [CompletionItem(name, help=text) for name, (_, text) in NOUNS.items() if name.startswith(incomplete)]
