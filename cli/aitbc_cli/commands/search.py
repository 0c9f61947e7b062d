"""Search over chain and ledger."""

from typing import Annotated

import typer

from aitbc_cli.command import Call, command, noun
from aitbc_cli.exits import NOT_FOUND
from aitbc_cli.output import columns

app = noun("search", "Find what a height, a hash or an id names.", alone=True)


@command(app, "search", examples=["aitbc search 7", "aitbc search rcpt_01…", "aitbc search sha256:…"], ends=[NOT_FOUND])
def search(call: Call, wanted: Annotated[str, typer.Argument(help="A height, a hash, or any id.")]) -> None:
    """Find what a height, a block's hash or any id names, and where it is read."""
    call.out.one(call.api.get("/api/v1/trading/search", q=wanted), columns("kind", "id", "path"))
