"""Stake: money that is locked gives power over proposals."""

from typing import Annotated

import typer

from aitbc_cli.client import part
from aitbc_cli.command import Call, command, noun
from aitbc_cli.exits import usage
from aitbc_cli.output import columns

PATH = "/api/v1/governance/stake"
POWER = columns("account", "power", "own", "received", "unlocking", "delegations")
MOVE = columns("id", "purpose", "amount", "state", "due_at", "done_at")
Amount = Annotated[str, typer.Argument(help="How much, in AITBC.")]
app = noun("stake", "Stake: lock money for power, unlock it, delegate the power.")


@command(app, "show", examples=["aitbc stake show", "aitbc stake show acct_01…"])
def show(
    call: Call, account: Annotated[str | None, typer.Argument(metavar="ACCOUNT", help="Whose; yours if none.")] = None
) -> None:
    """Show what an account could vote with now, and what it delegates."""
    path = PATH if account is None else f"{PATH}/accounts/{part(account)}"
    call.out.one(call.api.get(path), POWER, name="power")


@command(app, "lock", examples=["aitbc stake lock 500"], changes=True)
def lock(call: Call, amount: Amount) -> None:
    """Lock money of yours: it gives power from now on, and cannot be spent."""
    call.out.one(call.change("POST", f"{PATH}/lock", {"amount": amount}), MOVE)


@command(app, "unlock", examples=["aitbc stake unlock 500"], changes=True)
def unlock(call: Call, amount: Amount) -> None:
    """Take power back at once; the money can be spent again when the unlock delay is over."""
    call.out.one(call.change("POST", f"{PATH}/unlock", {"amount": amount}), MOVE)


@command(app, "moves", examples=["aitbc stake moves"], lists=True)
def moves(call: Call) -> None:
    """List what you locked, unlocked and deposited, newest first."""
    call.list(f"{PATH}/moves", MOVE)


@command(
    app,
    "delegate",
    examples=["aitbc stake delegate acct_01…", "aitbc stake delegate acct_01…=6000 acct_02…=4000"],
    changes=True,
)
def delegate(
    call: Call,
    shares: Annotated[list[str] | None, typer.Argument(metavar="ACCOUNT[=SHARE]", help="Shares in 1/10000.")] = None,
) -> None:
    """Let others vote with your power, in place of what you delegated before; nobody where none is named."""
    said = []
    for one in shares or ():
        account, equals, points = one.partition("=")
        if equals and not points.isdigit():
            raise usage(f"{one!r} is not ACCOUNT=SHARE", hint="a share is a whole number up to 10000")
        said.append({"to": account, "basis_points": int(points) if equals else 10_000})
    found = call.change("PUT", f"{PATH}/delegations", {"shares": said}, natural=True)
    call.out.one(found, POWER, name="power")
