"""Addresses of the chain."""

from typing import Annotated

import typer

from aitbc_cli.client import part
from aitbc_cli.command import Call, command, noun
from aitbc_cli.commands.account import LEDGER, MONEY
from aitbc_cli.exits import NOT_FOUND
from aitbc_cli.id_completion import ACCOUNTS
from aitbc_cli.output import column

app = noun("address", "Addresses: balance, earned, spent.")


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
