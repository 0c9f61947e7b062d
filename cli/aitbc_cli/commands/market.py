"""The market: what can be had now."""

from typing import Annotated

import typer

from aitbc_cli.command import Call, command, noun
from aitbc_cli.output import Column, columns

PATH = "/api/v1/marketplace/search"
SHOWN = (
    *columns("id", "sells", "kind", "model"),
    Column("PRICE", "price", "number"),
    *columns("available", "verified", "interruptible", "miner"),
)
app = noun("market", "The market: search what can be had now.")


@command(
    app,
    "search",
    examples=[
        "aitbc market search 'vram >= 80GB and region in [eu, us]' --sort price",
        "aitbc market search 'gpu = H100:2.. price < 1'",
    ],
    lists=True,
)
def search(
    call: Call,
    expression: Annotated[str, typer.Argument(metavar="FILTER", help="`field op value` with and, or, not.")] = "",
    sort: Annotated[str, typer.Option("--sort", help="price, vram or created; with - the other way round.")] = "price",
) -> None:
    """Find everybody's offers that can be taken now.

    Fields: price, vram, gpu, sells, kind, model, region, status, verified, interruptible, available,
    min_time, max_time, account, miner. Sizes and times have units: 80GB, 24GiB, 30m. A GPU may be told
    by name, memory and count: H100:80GB:2..
    """
    call.list(PATH, SHOWN, filter=expression, sort=sort)
