"""Accounts and what they own."""

from typing import Annotated, Any

import typer

from aitbc_cli.client import part
from aitbc_cli.command import Call, command, noun
from aitbc_cli.exits import NOT_FOUND
from aitbc_cli.id_completion import ACCOUNTS
from aitbc_cli.output import column, columns

PATH = "/api/v1/identity/accounts"
LEDGER = "/api/v1/trading/accounts"
NAMES_MAX = 1000
MONEY = columns("available", "held", "owned", "earned", "spent", "entries", kind="number")
WhichAccount = Annotated[
    str | None, typer.Argument(metavar="[ACCOUNT]", help="acct_…; your own unless given.", autocompletion=ACCOUNTS)
]
app = noun("account", "Accounts and their balances.")


@command(app, "create", examples=["aitbc account create alice", "aitbc account create alice -q"], changes=True)
def create(call: Call, name: Annotated[str, typer.Argument(help="What people call it.")]) -> None:
    """Create an account (admins); its first key comes from `aitbc key create --account`."""
    call.out.one(call.change("POST", PATH, {"name": name}), columns("id", "name", "created_at"))


@command(app, "list", examples=["aitbc account list", "aitbc account list -o csv --all"], lists=True)
def list_accounts(call: Call) -> None:
    """List accounts: all of them for an admin, else your own."""
    call.list(PATH, columns("id", "name", "created_at"))


@command(app, "show", examples=["aitbc account show", "aitbc account show acct_01… --json"], ends=[NOT_FOUND])
def show(call: Call, account: WhichAccount = None) -> None:
    """Show an account with what it owns: available, and held for jobs under way."""
    name = account or own(call)
    answer: dict[str, Any] = {"name": _name_of(call, name), **call.api.get(f"{LEDGER}/{part(name)}")}
    call.out.one(answer, (column("account"), column("name"), *MONEY), name="account")


@command(
    app,
    "statement",
    examples=["aitbc account statement", "aitbc account statement acct_01… -o csv --all"],
    lists=True,
    ends=[NOT_FOUND],
)
def statement(
    call: Call,
    account: WhichAccount = None,
    asset: Annotated[str | None, typer.Option("--asset", help="In this asset; AITBC if left out.")] = None,
) -> None:
    """List an account's entries from the newest on, each with the balance before and after it."""
    shown = (
        *columns("at", "kind", "reference", "reason"),
        *columns("amount", "before", "after", kind="number"),
        column("transaction"),
    )
    call.list(f"{LEDGER}/{part(account or own(call))}/entries", shown, name="transaction", asset=asset)


def own(call: Call) -> str:
    """The caller's own account."""
    return str(call.api.get("/api/v1/identity/keys/self")["account"])


def _name_of(call: Call, account: str) -> str | None:
    for known in call.api.pages(PATH, NAMES_MAX):
        if known["id"] == account:
            return str(known["name"])
    return None
