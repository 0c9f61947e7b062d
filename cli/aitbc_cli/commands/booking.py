"""Bookings: GPUs that somebody has for themselves for a while."""

from typing import Annotated, Any

import typer

from aitbc_cli.client import part
from aitbc_cli.command import Call, command, noun
from aitbc_cli.exits import NOT_FOUND, usage
from aitbc_cli.id_completion import BOOKINGS, GPUS
from aitbc_cli.output import Column, columns
from aitbc_cli.terminal import say
from aitbc_cli.times import seconds_of

PATH = "/api/v1/gpu/bookings"
LISTINGS = "/api/v1/gpu/listings"
Which = Annotated[str, typer.Argument(metavar="BOOKING", help="Its id, book_…", autocompletion=BOOKINGS)]
BRIEF = (*columns("id", "state", "model", "gpu"), Column("PRICE", "price", "number"), *columns("ends_at"))
FULL = (
    *columns("id", "state", "gpu", "model", "miner", "reachable", "label", "price_per_hour", "price", "cost"),
    *columns(
        "returned", "paid_seconds", "unpaid_seconds", "starts_at", "ends_at", "ended_at", "settled_at", "transaction"
    ),
)
PLAN = columns("gpu", "model", "status", "price_per_hour", "duration_seconds", "held", "max_price", "sufficient")
app = noun("booking", "GPUs for yourself: book, list, release.")


@command(app, "list", examples=["aitbc booking list", "aitbc booking list --state active"], lists=True)
def list_bookings(
    call: Call,
    state: Annotated[
        str | None, typer.Option("--state", "--status", help="Only those in this state, for instance active.")
    ] = None,
) -> None:
    """List the bookings that you made or that are of your GPUs, from the newest on."""
    call.list(PATH, BRIEF, state=state)


@command(app, "show", examples=["aitbc booking show book_01…", "aitbc booking show book_01… --json"], ends=[NOT_FOUND])
def show(call: Call, booking: Which) -> None:
    """Show a booking: until when, what it costs or came to, and whether its miner is there."""
    call.out.one(call.api.get(f"{PATH}/{part(booking)}"), FULL)


@command(
    app,
    "create",
    examples=[
        "aitbc booking create gpu_01… 2h --max-price 0.5",
        "aitbc booking create gpu_01… 90m --max-price 1 --label x",
    ],
    changes=True,
    ends=[NOT_FOUND],
)
def create(
    call: Call,
    gpu: Annotated[str, typer.Argument(metavar="GPU", help="Which, gpu_…", autocompletion=GPUS)],
    duration: Annotated[str, typer.Argument(help="For how long, for instance 2h or 1h30m.")],
    max_price: Annotated[str, typer.Option("--max-price", help="The most that all of it may cost, in AITBC.")],
    label: Annotated[str | None, typer.Option("--label", help="What it is for.")] = None,
) -> None:
    """Have a GPU for yourself from now on. All of its time is held, and paid at the end as far as it was there."""
    body: dict[str, Any] = {"gpu": gpu, "duration_seconds": round(seconds_of(duration)), "max_price": max_price}
    if label is not None:
        body["label"] = label
    if call.dry_run:
        call.out.one(_plan(call, body), PLAN, name="held")
        say("a dry run: nothing was changed")
        return
    call.out.one(call.change("POST", PATH, body), FULL)


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
    path = f"{PATH}/{part(booking)}"
    call.out.one(call.change("POST", f"{path}/release", look=path), FULL)
