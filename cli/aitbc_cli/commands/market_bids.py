"""Bids for the time of miners, and requests that owners answer."""

from typing import Annotated, Any

import typer

from aitbc_cli.client import part
from aitbc_cli.command import Call, command
from aitbc_cli.commands.market_terms import app
from aitbc_cli.exits import NOT_FOUND, usage
from aitbc_cli.id_completion import BIDS, OFFERS
from aitbc_cli.output import Column, columns
from aitbc_cli.times import read, seconds_of

__all__ = ["app"]
PATH = "/api/v1/marketplace/bids"
REQUESTS = "/api/v1/marketplace/requests"
BOOK = "/api/v1/marketplace/book"
BRIEF = (
    *columns("id", "kind", "state", "filter"),
    Column("PRICE/H", "price_hour", "number"),
    *columns("quantity", "filled", "duration_seconds", "valid_until"),
)
FULL = (
    *columns("id", "kind", "state", "reason", "filter", "duration_seconds", "price_hour", "quantity", "filled"),
    *columns("lasts", "post_only", "held", "trades", "asks", "valid_until", "created_at", "ended_at", "label"),
)
Filter = Annotated[str, typer.Argument(metavar="FILTER", help="What the miners must be like, as in a search.")]
Price = Annotated[str, typer.Option("--price-hour", help="The most for an hour of one miner, in AITBC.")]
For = Annotated[str, typer.Option("--for", metavar="TIME", help="For how long each is wanted: 3h, 90m.")]
Count = Annotated[int, typer.Option("--count", min=1, max=16, help="For how many miners.")]
Label = Annotated[str | None, typer.Option("--label", help="What it is for.")]
Which = Annotated[str, typer.Argument(metavar="BID", help="Its id, mbid_…", autocompletion=BIDS)]


@command(
    app,
    "bid",
    examples=[
        "aitbc market bid 'gpu = H100' --for 3h --price-hour 0.9",
        "aitbc market bid 'vram >= 24GB' --for 2h --price-hour 0.3 --count 4 --fok",
    ],
    changes=True,
)
def bid(
    call: Call,
    filter_: Filter,
    price_hour: Price,
    duration: For,
    count: Count = 1,
    ioc: Annotated[bool, typer.Option("--ioc", help="Cancel at once what is not filled at once.")] = False,
    fok: Annotated[bool, typer.Option("--fok", help="All of it at once, or nothing.")] = False,
    post_only: Annotated[bool, typer.Option("--post-only", help="Refuse it where it would take an offer.")] = False,
    until: Annotated[str | None, typer.Option("--until", help="Until when it rests; else for 7 days.")] = None,
    label: Label = None,
) -> None:
    """Bid for the time of miners: take the cheapest offers that fit, up to a price; what is left may rest."""
    if ioc and fok:
        raise usage("say one of --ioc and --fok")
    body = _wish(filter_, price_hour, duration, count, label)
    body |= {"lasts": "ioc" if ioc else "fok" if fok else "gtc", "post_only": post_only}
    if until is not None:
        body["valid_until"] = _moment("--until", until)
    call.out.one(call.change("POST", PATH, body), FULL)


@command(
    app,
    "request",
    examples=["aitbc market request 'gpu = H100' --for 3h --price-hour 0.9 --deadline 2026-12-01T09:00+01:00"],
    changes=True,
)
def request(
    call: Call,
    filter_: Filter,
    price_hour: Price,
    duration: For,
    deadline: Annotated[str, typer.Option("--deadline", help="When the cheapest is taken.")],
    count: Count = 1,
    label: Label = None,
) -> None:
    """Ask owners of miners for prices until a deadline; then the cheapest is booked."""
    body = _wish(filter_, price_hour, duration, count, label) | {"deadline": _moment("--deadline", deadline)}
    call.out.one(call.change("POST", REQUESTS, body), FULL)


def _wish(filter_: str, price: str, duration: str, count: int, label: str | None) -> dict[str, Any]:
    body = {"filter": filter_, "price_hour": price, "duration_seconds": round(seconds_of(duration)), "quantity": count}
    return body if label is None else body | {"label": label}


def _moment(option: str, text: str) -> str:
    try:
        return read(text).astimezone().isoformat()
    except ValueError:
        raise usage(f"{option}: {text!r} is no time", hint="2026-12-01T09:00+01:00") from None


@command(app, "bids", examples=["aitbc market bids", "aitbc market bids --state open"], lists=True)
def bids(
    call: Call, state: Annotated[str | None, typer.Option("--state", help="Only those in this state.")] = None
) -> None:
    """List your bids and requests, from the newest on."""
    call.list(PATH, BRIEF, state=state)


@command(app, "book", examples=["aitbc market book"], lists=True)
def book(call: Call) -> None:
    """List what everybody bids and requests, from the newest on."""
    call.list(BOOK, BRIEF)


@command(app, "show", examples=["aitbc market show mbid_01…"], ends=[NOT_FOUND])
def show(call: Call, which: Which) -> None:
    """Show a bid or a request: what it got, and what owners ask."""
    call.out.one(call.api.get(f"{PATH}/{part(which)}"), FULL)


@command(app, "cancel", examples=["aitbc market cancel mbid_01…"], changes=True, ends=[NOT_FOUND])
def cancel(call: Call, which: Which) -> None:
    """Take back what is left of a bid: what is held for it returns."""
    path = f"{PATH}/{part(which)}"
    call.out.one(call.change("POST", f"{path}/cancel", natural=True, look=path), FULL)


@command(app, "ask", examples=["aitbc market ask mbid_01… offer_01… 0.7"], changes=True, ends=[NOT_FOUND])
def ask(
    call: Call,
    which: Which,
    offer: Annotated[str, typer.Argument(help="An offer of yours that fits, offer_…", autocompletion=OFFERS)],
    price: Annotated[str, typer.Argument(help="AITBC for an hour, for instance 0.7.")],
) -> None:
    """Answer a request with an offer of yours, at a price for it alone."""
    path = f"{PATH}/{part(which)}"
    body = {"offer": offer, "price_hour": price}
    call.out.one(call.change("POST", f"{path}/ask", body, natural=True, look=path), FULL)
