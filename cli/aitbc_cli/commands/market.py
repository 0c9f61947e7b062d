"""The market: what can be had now, and what was settled."""

from typing import Annotated

import typer

from aitbc_cli.command import Call, command, noun
from aitbc_cli.exits import NOT_FOUND
from aitbc_cli.id_completion import RECEIPTS
from aitbc_cli.output import Column, columns

PATH = "/api/v1/marketplace/search"
SHOWN = (
    *columns("id", "sells", "kind", "model"),
    Column("PRICE", "price", "number"),
    Column("FOR ONE", "unit"),
    Column("AN HOUR", "price_hour", "number"),
    *columns("available", "verified", "interruptible", "miner"),
)
RATINGS = "/api/v1/marketplace/ratings"
RATING = columns("subject", "miner", "stars", "comment", "rated_at")
BOUNTY = (
    *columns("id", "state", "job_kind", "model", "jobs"),
    Column("AMOUNT", "amount", "number"),
    *columns("most", "since", "miner"),
)
STATISTICS = (
    *columns("kind", "model", "unit", "days", "jobs", "settled", "unfilled", "newcomer_share"),
    *columns("unit_price_p10", "unit_price_p50", "unit_price_p90", "fill_seconds_p50", "fill_seconds_p90"),
)
app = noun("market", "The market: search what can be had now, bid for it.")


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
    sort: Annotated[str, typer.Option("--sort", help="price, hour, vram or created; - turns it round.")] = "price",
) -> None:
    """Find everybody's offers that can be taken now.

    Fields: price, hour, vram, gpu, sells, kind, model, region, status, verified, interruptible, available,
    min_time, max_time, account, miner. Sizes and times have units: 80GB, 24GiB, 30m. A GPU may be told
    by name, memory and count: H100:80GB:2..
    """
    call.list(PATH, SHOWN, filter=expression, sort=sort)


@command(app, "bounties", examples=["aitbc market bounties", "aitbc market bounties --state paid"], lists=True)
def bounties(
    call: Call,
    state: Annotated[str, typer.Option("--state", help="asked, open, paying, paid or withdrawn.")] = "open",
) -> None:
    """List what the first miner gets that serves a model which jobs wait for and nobody serves."""
    call.list("/api/v1/marketplace/bounties", BOUNTY, state=state)


@command(app, "rate", examples=["aitbc market rate rcpt_01… 5 --comment 'Fast.'"], changes=True, ends=[NOT_FOUND])
def rate(
    call: Call,
    subject: Annotated[
        str, typer.Argument(metavar="RECEIPT", help="Of a job, rcpt_…, or a booking, book_…", autocompletion=RECEIPTS)
    ],
    stars: Annotated[int, typer.Argument(min=1, max=5, help="From 1, the least, to 5.")],
    comment: Annotated[str, typer.Option("--comment", help="What else there is to say.")] = "",
) -> None:
    """Rate work or time that you paid for, once for each receipt or booking."""
    body = {"subject": subject, "stars": stars, "comment": comment}
    call.out.one(call.change("POST", RATINGS, body, natural=True), RATING)


@command(app, "ratings", examples=["aitbc market ratings --miner mnr_01…"], lists=True)
def ratings(
    call: Call, miner: Annotated[str | None, typer.Option("--miner", help="Only of this miner's work.")] = None
) -> None:
    """List what payers say of miners' work, from the newest on."""
    call.list(RATINGS, RATING, name="subject", miner=miner)


@command(app, "stats", examples=["aitbc market stats chat", "aitbc market stats chat --model llama-3-8b --days 7"])
def stats(
    call: Call,
    kind: Annotated[str, typer.Argument(help="The kind of work.")],
    model: Annotated[str | None, typer.Option("--model", help="Only jobs that named this model.")] = None,
    days: Annotated[int, typer.Option("--days", min=1, max=90, help="How many days back.")] = 30,
) -> None:
    """Show what work was settled at, how long it waited for a miner, and what none took; from settled jobs alone."""
    found = call.api.get("/api/v1/ai/statistics", kind=kind, model=model, days=days)
    if call.out.is_for_people:
        found = {name: "no data" if value is None and name != "model" else value for name, value in found.items()}
    call.out.one(found, STATISTICS)
