"""With whom you deal: whose jobs your miners take, and whose miners your jobs go to."""

from typing import Annotated, Any

import typer

from aitbc_cli.command import Call, command
from aitbc_cli.commands.market import app
from aitbc_cli.exits import usage
from aitbc_cli.output import columns

__all__ = ["app"]
PATH = "/api/v1/marketplace/terms"
FULL = columns("account", "buyers", "owners", "set_at")
Names = list[str] | None


@command(app, "terms", examples=["aitbc market terms"])
def terms(call: Call) -> None:
    """Show with whom you deal."""
    call.out.one(call.api.get(PATH), FULL)


@command(
    app,
    "deal",
    examples=[
        "aitbc market deal --deny-buyer acct_01…",
        "aitbc market deal --allow-owner acct_01… --allow-owner acct_02…",
        "aitbc market deal --any-buyer --any-owner",
    ],
    changes=True,
)
def deal(
    call: Call,
    deny_buyer: Annotated[Names, typer.Option("--deny-buyer", help="Whose jobs your miners don't take; again.")] = None,
    allow_buyer: Annotated[Names, typer.Option("--allow-buyer", help="Whose alone they take; again for more.")] = None,
    any_buyer: Annotated[bool, typer.Option("--any-buyer", help="Take everybody's.")] = False,
    deny_owner: Annotated[Names, typer.Option("--deny-owner", help="Whose miners you don't want; again.")] = None,
    allow_owner: Annotated[Names, typer.Option("--allow-owner", help="Whose alone you want; again for more.")] = None,
    any_owner: Annotated[bool, typer.Option("--any-owner", help="Want everybody's.")] = False,
) -> None:
    """Set with whom you deal; what you don't name stays, and a list that you name is set anew."""
    buyers = _list("buyer", deny_buyer, allow_buyer, is_any=any_buyer)
    owners = _list("owner", deny_owner, allow_owner, is_any=any_owner)
    if buyers is None and owners is None:
        raise usage("say whom you deny or allow")
    before = call.api.get(PATH)
    body = {"buyers": buyers or before["buyers"], "owners": owners or before["owners"]}
    call.out.one(call.change("PUT", PATH, body, natural=True), FULL)


def _list(side: str, denied: Names, allowed: Names, *, is_any: bool) -> dict[str, Any] | None:
    given = [bool(denied), bool(allowed), is_any]
    if sum(given) > 1:
        raise usage(f"of a {side}, say one of --deny-{side}, --allow-{side} and --any-{side}")
    if not any(given):
        return None
    return {"mode": "allow" if allowed else "deny", "accounts": denied or allowed or []}
