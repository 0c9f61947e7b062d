"""Play money for oneself."""

from typing import Annotated

import typer

from aitbc_cli.command import Call, command, noun
from aitbc_cli.output import columns

app = noun("faucet", "Take play money for yourself.", alone=True)


@command(app, "faucet", examples=["aitbc faucet 1"], changes=True)
def faucet(call: Call, amount: Annotated[str, typer.Argument(help="AITBC, for instance 1.")]) -> None:
    """Take play money for your own account, up to a daily share, where the platform allows it."""
    answer = call.change("POST", "/api/v1/trading/faucet", {"amount": amount})
    call.out.one(answer, columns("id", "kind", "at"))
