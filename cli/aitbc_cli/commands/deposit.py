"""Play money given by an admin."""

from typing import Annotated, Any

import typer

from aitbc_cli.command import Call, command, noun
from aitbc_cli.exits import NOT_FOUND
from aitbc_cli.id_completion import ACCOUNTS
from aitbc_cli.output import columns

SHOWN = columns("id", "kind", "reason", "at")
app = noun("deposit", "Give an account play money (admins).", alone=True)


@command(
    app,
    "deposit",
    examples=['aitbc deposit acct_01… 10 --reason "for testing"', "aitbc deposit acct_01… 10 --idempotency-key monday"],
    changes=True,
    ends=[NOT_FOUND],
)
def deposit(
    call: Call,
    account: Annotated[str, typer.Argument(help="Whose it becomes, acct_…", autocompletion=ACCOUNTS)],
    amount: Annotated[str, typer.Argument(help="How much, for instance 10 or 0.05.")],
    reason: Annotated[str | None, typer.Option("--reason", help="What for; the statement shows it.")] = None,
    asset: Annotated[str | None, typer.Option("--asset", help="Of what, as `aitbc asset list` has it; AITBC.")] = None,
) -> None:
    """Give an account play money. The audit trail notes who did it."""
    body: dict[str, Any] = {"account": account, "amount": amount}
    if reason is not None:
        body["reason"] = reason
    if asset is not None:
        body["asset"] = asset
    call.out.one(call.change("POST", "/api/v1/trading/deposits", body), SHOWN)
