"""Blocks of the chain."""

from typing import Annotated

import typer

from aitbc_cli.client import part
from aitbc_cli.command import Call, command, noun
from aitbc_cli.exits import NOT_FOUND
from aitbc_cli.output import Column, columns

PATH = "/api/v1/trading/blocks"
HEIGHT, RECORDS = Column("HEIGHT", "height", "number"), Column("RECORDS", "records", "number")
FULL = (
    HEIGHT,
    *columns("hash", "previous", "merkle_root", "time"),
    RECORDS,
    *columns("first_sequence", "node_key", "signature"),
)
Which = Annotated[str, typer.Argument(metavar="BLOCK", help="A height, a hash, or head.")]
app = noun("block", "Blocks of the chain.")


@command(app, "list", examples=["aitbc block list", "aitbc block list --limit 5 --json"], lists=True)
def list_blocks(call: Call) -> None:
    """List blocks from the newest on."""
    call.list(PATH, (HEIGHT, *columns("time"), RECORDS, *columns("hash")), name="height")


@command(app, "show", examples=["aitbc block show head", "aitbc block show 7"], ends=[NOT_FOUND])
def show(call: Call, block: Which) -> None:
    """Show a block."""
    call.out.one(call.api.get(f"{PATH}/{part(block)}"), FULL, name="hash")


@command(app, "records", examples=["aitbc block records 7"], lists=True, ends=[NOT_FOUND])
def records(call: Call, block: Which) -> None:
    """List the records of a block in the order in which they are sealed."""
    shown = (Column("SEQUENCE", "sequence", "number"), *columns("kind", "id", "digest"))
    call.list(f"{PATH}/{part(block)}/records", shown)
