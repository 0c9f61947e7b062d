"""Bonds: money that owners lock so that those whom they harm get it."""

from typing import Annotated

import typer

from aitbc_cli.client import part
from aitbc_cli.command import Call, command
from aitbc_cli.commands.market_bids import app
from aitbc_cli.exits import NOT_FOUND
from aitbc_cli.output import columns

__all__ = ["app"]
PATH = "/api/v1/marketplace/bonds"
BOND = columns("id", "account", "state", "amount", "slashed", "leaves_at")
Slash = Annotated[str, typer.Argument(metavar="SLASH", help="Which, slsh_….")]
Reason = Annotated[str, typer.Argument(help="In a few words.")]


@command(app, "bond", examples=["aitbc market bond 50"], changes=True)
def bond(call: Call, amount: Annotated[str, typer.Argument(help="How much, in AITBC.")]) -> None:
    """Lock a bond: your offers are found by 'bonded = true'."""
    call.out.one(call.change("POST", PATH, {"amount": amount}), BOND)


@command(app, "bond-show", examples=["aitbc market bond-show acct_01…"], ends=[NOT_FOUND])
def bond_show(call: Call, account: Annotated[str, typer.Argument(help="Whose, acct_….")]) -> None:
    """Show the bond of an account, with what was taken of it."""
    call.out.one(call.api.get(f"{PATH}/{part(account)}"), BOND)


@command(app, "bond-leave", examples=["aitbc market bond-leave"], changes=True, ends=[NOT_FOUND])
def bond_leave(call: Call) -> None:
    """Want your bond back: it stays for 30 days."""
    call.out.one(call.change("POST", f"{PATH}/leave"), BOND)


@command(
    app, "bond-appeal", examples=["aitbc market bond-appeal slsh_01… 'It was up.'"], changes=True, ends=[NOT_FOUND]
)
def bond_appeal(call: Call, slash: Slash, reason: Reason) -> None:
    """Say why nothing is to be taken of your bond."""
    call.out.one(call.change("POST", f"{PATH}/slashes/{part(slash)}/appeal", {"reason": reason}), BOND)


@command(
    app,
    "bond-decide",
    examples=["aitbc market bond-decide slsh_01… 'Its logs end.' --uphold"],
    changes=True,
    ends=[NOT_FOUND],
)
def bond_decide(
    call: Call,
    slash: Slash,
    reason: Reason,
    uphold: Annotated[bool, typer.Option("--uphold/--drop", help="Whether it is taken all the same.")] = False,
) -> None:
    """Decide an appeal (operators)."""
    body = {"upholds": uphold, "reason": reason}
    call.out.one(call.change("POST", f"{PATH}/slashes/{part(slash)}/decision", body), BOND)
