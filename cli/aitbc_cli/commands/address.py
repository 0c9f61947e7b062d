"""Addresses of the chain."""

from typing import Annotated

import typer

from aitbc_cli.client import part
from aitbc_cli.command import Call, command, noun
from aitbc_cli.commands.account import LEDGER, MONEY
from aitbc_cli.exits import NOT_FOUND
from aitbc_cli.id_completion import ACCOUNTS
from aitbc_cli.output import column, columns

PATH = "/api/v1/trading/watches"
WATCH = columns("id", "address", "above", "asset", "label", "told", "created_at")
app = noun("address", "Addresses: balance, earned, spent, watched.")


@command(app, "list", examples=["aitbc address list", "aitbc address list -o jsonl --all"], lists=True)
def list_addresses(call: Call) -> None:
    """List every address with its money (admins)."""
    call.list(LEDGER, (column("account"), *MONEY), name="account")


@command(app, "show", examples=["aitbc address show acct_01…", "aitbc address show system"], ends=[NOT_FOUND])
def show(
    call: Call,
    address: Annotated[str, typer.Argument(help="acct_…, or system for the platform's own.", autocompletion=ACCOUNTS)],
) -> None:
    """Show an address: its balance, what it earned and spent, how many entries it has."""
    answer = call.api.get(f"/api/v1/trading/addresses/{part(address)}")
    call.out.one(answer, (column("account"), *MONEY), name="account")


@command(
    app,
    "watch",
    examples=["aitbc address watch acct_01… --above 10", "aitbc address watch mnr_01… --label 'my miner'"],
    changes=True,
)
def watch(
    call: Call,
    address: Annotated[str, typer.Argument(help="acct_… or mnr_….", autocompletion=ACCOUNTS)],
    above: Annotated[str, typer.Option("--above", help="How much must move for it to be told.")] = "0",
    asset: Annotated[str, typer.Option("--asset", help="In which asset.")] = "AITBC",
    label: Annotated[str | None, typer.Option("--label", help="What it is for.")] = None,
) -> None:
    """Tell your webhooks (trading.watched_moved) of what moves at an address, or is paid to a miner."""
    body = {"address": address, "above": above, "asset": asset} | ({"label": label} if label else {})
    call.out.one(call.change("POST", PATH, body), WATCH)


@command(app, "watches", examples=["aitbc address watches"], lists=True)
def watches(call: Call) -> None:
    """List what you watch."""
    call.list(PATH, WATCH)


@command(app, "unwatch", examples=["aitbc address unwatch wtch_01…"], changes=True, ends=[NOT_FOUND])
def unwatch(call: Call, wanted: Annotated[str, typer.Argument(metavar="WATCH", help="Which, wtch_….")]) -> None:
    """Watch an address no more."""
    call.out.one(call.change("DELETE", f"{PATH}/{part(wanted)}"), WATCH)
