"""Bookings: GPUs that somebody has for themselves for a while."""

from typing import Annotated, Any

import typer

from aitbc_cli.client import part
from aitbc_cli.command import Call, command, noun
from aitbc_cli.commands.booking_machine import declare_machine
from aitbc_cli.exits import NOT_FOUND, Stop, usage
from aitbc_cli.id_completion import BOOKINGS, GPUS
from aitbc_cli.output import Column, columns
from aitbc_cli.terminal import say
from aitbc_cli.times import read, seconds_of

PATH = "/api/v1/gpu/bookings"
MARKET = "/api/v1/marketplace/bookings"
QUOTES = "/api/v1/marketplace/booking-quotes"
LISTINGS = "/api/v1/gpu/listings"
Which = Annotated[str, typer.Argument(metavar="BOOKING", help="Its id, book_…", autocompletion=BOOKINGS)]
BRIEF = (*columns("id", "state", "model", "gpu"), Column("PRICE", "price", "number"), *columns("ends_at"))
FULL = (
    *columns("id", "state", "gpu", "model", "miner", "reachable", "label", "price_per_hour", "price", "cost"),
    *columns(
        "returned", "paid_seconds", "unpaid_seconds", "starts_at", "ends_at", "ended_at", "settled_at", "transaction"
    ),
)
OF_OFFER = (
    *columns("id", "state", "reason", "offer", "miner"),
    Column("PRICE/H", "price_hour", "number"),
    Column("PAID", "paid", "number"),
    *columns("money_until", "ends_at"),
)
OF_OFFER_FULL = (
    *columns("id", "state", "reason", "offer", "miner", "label", "price_hour", "proposed_price_hour", "paid"),
    *columns("used_seconds", "held_seconds", "money_until", "suspended_until", "interruptible", "interrupt_at"),
    *columns("idle_after_seconds", "starts_at", "ends_at", "began_at", "ended_at", "account", "owner"),
)
QUOTE = (
    *columns("offer", "price_hour", "price_max", "held_first", "fee_basis_points", "available", "money_until"),
    *columns("starts_at", "ends_at", "is_free", "refund_rule"),
)
SLICE = (*columns("number", "seconds", "price_hour", "held", "paid", "state", "transaction"),)
PLAN = columns("gpu", "model", "status", "price_per_hour", "duration_seconds", "held", "max_price", "sufficient")
app = noun("booking", "GPUs for yourself: book, list, shell, release, dispute.")


@command(app, "list", examples=["aitbc booking list", "aitbc booking list --offers --state active"], lists=True)
def list_bookings(
    call: Call,
    offers: Annotated[bool, typer.Option("--offers", help="Those of offers, not those of listed GPUs.")] = False,
    state: Annotated[
        str | None, typer.Option("--state", "--status", help="Only those in this state, for instance active.")
    ] = None,
) -> None:
    """List the bookings that you made or that are of your GPUs, from the newest on."""
    if offers:
        call.list(MARKET, OF_OFFER, state=state)
    else:
        call.list(PATH, BRIEF, state=state)


@command(app, "show", examples=["aitbc booking show book_01…", "aitbc booking show book_01… --json"], ends=[NOT_FOUND])
def show(call: Call, booking: Which) -> None:
    """Show a booking: until when, what it costs or came to, and whether its miner is there."""
    found = _of_offer(call, booking)
    if found is not None:
        call.out.one(found, OF_OFFER_FULL)
    else:
        call.out.one(call.api.get(f"{PATH}/{part(booking)}"), FULL)


def _of_offer(call: Call, booking: str) -> dict[str, Any] | None:
    """A booking of an offer; none where it is one of a listed GPU, or there is none."""
    try:
        return dict(call.api.get(f"{MARKET}/{part(booking)}"))
    except Stop as stop:
        if stop.exit_code != NOT_FOUND:
            raise
        return None


@command(
    app,
    "create",
    examples=[
        "aitbc booking create offer_01… --hours 3 --max-price 2.4 --dry-run",
        "aitbc booking create gpu_01… 2h --max-price 0.5",
        "aitbc booking create gpu_01… 90m --max-price 1 --label x",
    ],
    changes=True,
    ends=[NOT_FOUND],
)
def create(
    call: Call,
    which: Annotated[str, typer.Argument(metavar="OFFER", help="Which, offer_… or gpu_…", autocompletion=GPUS)],
    max_price: Annotated[str, typer.Option("--max-price", help="The most that all of it may cost, in AITBC.")],
    duration: Annotated[str | None, typer.Argument(help="For how long, for instance 2h or 1h30m.")] = None,
    hours: Annotated[float | None, typer.Option("--hours", help="For how long, in hours.")] = None,
    starts: Annotated[str | None, typer.Option("--at", help="Of an offer: when it is to start; else now.")] = None,
    idle: Annotated[
        str | None,
        typer.Option(
            "--end-idle", help="Of an offer: end it after so long without a job, or a connection to its machine."
        ),
    ] = None,
    label: Annotated[str | None, typer.Option("--label", help="What it is for.")] = None,
) -> None:
    """Have a miner for yourself. Of an offer five minutes are held at a time; of a listed GPU all of its time is."""
    if (duration is None) == (hours is None):
        raise usage("say for how long, once", hint="2h, or --hours 2")
    seconds = round(hours * 3600 if hours is not None else seconds_of(duration or ""))
    body: dict[str, Any] = {"duration_seconds": seconds, "max_price": max_price}
    if label is not None:
        body["label"] = label
    if which.startswith("offer_"):
        _book_offer(call, body | {"offer": which}, starts, idle)
        return
    if starts is not None or idle is not None:
        raise usage("--at and --end-idle are for offers")
    body["gpu"] = which
    if call.dry_run:
        call.out.one(_plan(call, body), PLAN, name="held")
        say("a dry run: nothing was changed")
        return
    call.out.one(call.change("POST", PATH, body), FULL)


def _book_offer(call: Call, body: dict[str, Any], starts: str | None, idle: str | None) -> None:
    if starts is not None:
        try:
            body["starts_at"] = read(starts).astimezone().isoformat()
        except ValueError:
            raise usage(f"--at: {starts!r} is no time", hint="2026-12-01T09:00+01:00") from None
    if idle is not None:
        body["idle_after_seconds"] = round(seconds_of(idle))
    if call.dry_run:
        call.out.one(call.api.post(QUOTES, body, natural=True), QUOTE, name="price_max")
        say("a dry run: nothing was changed")
        return
    call.out.one(call.change("POST", MARKET, body), OF_OFFER_FULL)


def _plan(call: Call, body: dict[str, Any]) -> dict[str, Any]:
    """What a booking would hold, reckoned as the server does. Raises `Stop` for what it would refuse."""
    from aitbc.kernel.primitives import money
    from aitbc.kernel.primitives.errors import AppError

    gpu = call.api.get(f"{LISTINGS}/{part(body['gpu'])}")
    try:
        held = money.for_time(money.parse(gpu["price_per_hour"], zero=True), body["duration_seconds"] * 1000)
        most = money.parse(body["max_price"], zero=True)
    except AppError as error:
        raise usage(f"--max-price: {error.message}") from None
    facts = {name: gpu[name] for name in ("model", "status", "price_per_hour")}
    return {"dry_run": True, **body, **facts, "held": money.render(held), "sufficient": held <= most}


@command(app, "release", examples=["aitbc booking release book_01…"], changes=True, ends=[NOT_FOUND])
def release(call: Call, booking: Which) -> None:
    """Give a GPU back before its time: the time that it was there is paid, the rest returns."""
    if _of_offer(call, booking) is not None:
        path = f"{MARKET}/{part(booking)}"
        call.out.one(call.change("POST", f"{path}/end", natural=True, look=path), OF_OFFER_FULL)
        return
    path = f"{PATH}/{part(booking)}"
    call.out.one(call.change("POST", f"{path}/release", look=path), FULL)


@command(app, "statement", examples=["aitbc booking statement book_01…"], ends=[NOT_FOUND])
def statement(call: Call, booking: Which) -> None:
    """Show the receipt of a booking of an offer: what was used and paid, slice by slice; both sides see the same."""
    found = call.api.get(f"{MARKET}/{part(booking)}/statement")
    if not call.out.is_for_people:
        call.out.one(found, columns("booking", "slices", "refund_rule"))
        return
    call.out.one(found["booking"], OF_OFFER_FULL)
    call.out.rows(found["slices"], SLICE, name="number")
    say(found["refund_rule"])


@command(app, "interrupt", examples=["aitbc booking interrupt book_01…"], changes=True, ends=[NOT_FOUND])
def interrupt(call: Call, booking: Which) -> None:
    """Take a miner of yours back from an interruptible booking, ten minutes after saying so."""
    path = f"{MARKET}/{part(booking)}"
    call.out.one(call.change("POST", f"{path}/interrupt", natural=True, look=path), OF_OFFER_FULL)


@command(app, "reprice", examples=["aitbc booking reprice book_01… 0.9"], changes=True, ends=[NOT_FOUND])
def reprice(
    call: Call, booking: Which, price: Annotated[str, typer.Argument(help="AITBC for an hour, for instance 0.9.")]
) -> None:
    """Propose another price for a booking of a miner of yours; it holds only if its payer accepts."""
    path = f"{MARKET}/{part(booking)}"
    call.out.one(call.change("POST", f"{path}/price", {"price_hour": price}, natural=True, look=path), OF_OFFER_FULL)


@command(
    app,
    "answer",
    examples=["aitbc booking answer book_01… 0.9 --accept", "aitbc booking answer book_01… 0.9 --decline"],
    changes=True,
    ends=[NOT_FOUND],
)
def answer(
    call: Call,
    booking: Which,
    price: Annotated[str, typer.Argument(help="The proposed price that you mean.")],
    accept: Annotated[bool, typer.Option("--accept/--decline", help="Whether it is to hold from the next slice on.")],
) -> None:
    """Accept or decline a price that the miner's owner proposed; declined, the booking goes on as it is."""
    path = f"{MARKET}/{part(booking)}"
    body = {"price_hour": price, "accept": accept}
    call.out.one(call.change("POST", f"{path}/price/answer", body, natural=True, look=path), OF_OFFER_FULL)


declare_machine(app)
