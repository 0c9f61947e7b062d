"""Assets: what accounts may have beside AITBC."""

from typing import Annotated

import typer

from aitbc_cli.client import part
from aitbc_cli.command import Call, command, noun
from aitbc_cli.commands.account import LEDGER, WhichAccount, own
from aitbc_cli.exits import NOT_FOUND
from aitbc_cli.output import columns

SHOWN = columns("code", "name", "created_at")
HAD = (*columns("asset"), *columns("available", "held", "owned", "entries", kind="number"))
app = noun("asset", "Assets: what accounts may have beside AITBC; all of it is play money.")


@command(app, "create", examples=['aitbc asset create GOLD "Gold of the arena"'], changes=True)
def create(
    call: Call,
    code: Annotated[str, typer.Argument(help="2 to 12 capital letters and digits, a letter first.")],
    name: Annotated[str, typer.Argument(help="What it is called.")],
) -> None:
    """Let accounts have one more asset (admins). `aitbc deposit … --asset` gives somebody some."""
    call.out.one(
        call.change("POST", "/api/v1/trading/assets", {"code": code, "name": name}, natural=True), SHOWN, name="code"
    )


@command(app, "list", examples=["aitbc asset list", "aitbc asset list --json --fields code"], lists=True)
def list_assets(call: Call) -> None:
    """List every asset."""
    call.list("/api/v1/trading/assets", SHOWN, name="code")


@command(app, "balances", examples=["aitbc asset balances"], lists=True, ends=[NOT_FOUND])
def balances(
    call: Call,
    account: WhichAccount = None,
) -> None:
    """List what an account has of each asset: available, and held for orders and jobs."""
    call.list(f"{LEDGER}/{part(account or own(call))}/assets", HAD, name="asset")
