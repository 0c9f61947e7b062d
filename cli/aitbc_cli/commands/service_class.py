"""Service classes: what is promised, what you bought, and what came back."""

from typing import Annotated, Any

import typer

from aitbc_cli.client import part
from aitbc_cli.command import Call, command, noun
from aitbc_cli.exits import NOT_FOUND
from aitbc_cli.output import Column, columns

PATH = "/api/v1/monitoring/service-classes"
BOUGHT = "/api/v1/monitoring/class-purchases"
PROMISED = (
    *columns("name", "work"),
    Column("START S", "start_seconds", "number"),
    Column("TEXT S", "first_text_seconds", "number"),
    Column("FINISH S", "finish_seconds", "number"),
    Column("TARGET", "target", "number"),
    Column("DAYS", "period_days", "number"),
    Column("PRICE", "price", "number"),
    Column("CREDIT %", "credit_percent", "number"),
    Column("ORIGIN", "origin"),
)
PURCHASE = (
    *columns("id", "service_class", "state", "starts_at", "ends_at"),
    *columns("good", "bad", "price", "credit", kind="number"),
)
FULL = (*PURCHASE, *columns("work", "target", "account", "transaction", "judged_at", "renews", "previous"))
Name = Annotated[str, typer.Argument(metavar="CLASS", help="The class, by its name.")]
app = noun("class", "Service classes: jobs in time for a price, or some of it back.")


@command(app, "list", examples=["aitbc class list"])
def list_classes(call: Call) -> None:
    """List what can be bought: within how many seconds which share of your jobs is done, for what price."""
    call.out.rows(call.api.get(PATH)["data"], PROMISED, name="name")


@command(
    app,
    "buy",
    examples=["aitbc class buy chat-gold", "aitbc class buy chat-gold --renew"],
    changes=True,
    ends=[NOT_FOUND],
)
def buy(
    call: Call,
    name: Name,
    renew: Annotated[bool, typer.Option("--renew", help="Buy the next periods by themselves.")] = False,
) -> None:
    """Buy a period, from now on or from the end of the one you have. Its price is held until the period is judged."""
    call.out.one(call.change("POST", BOUGHT, {"service_class": name, "renews": renew}), FULL)


@command(
    app,
    "renew",
    examples=["aitbc class renew sbuy_01…", "aitbc class renew sbuy_01… --off"],
    changes=True,
    ends=[NOT_FOUND],
)
def renew(
    call: Call,
    purchase: Annotated[str, typer.Argument(metavar="PURCHASE", help="The purchase, sbuy_….")],
    off: Annotated[bool, typer.Option("--off", help="Buy no further period.")] = False,
) -> None:
    """Have the next period bought by itself, half an hour before this one ends, at the same price."""
    call.out.one(call.change("PUT", f"{BOUGHT}/{part(purchase)}/renewal", {"renews": not off}), FULL)


@command(app, "bought", examples=["aitbc class bought"], lists=True)
def bought(call: Call) -> None:
    """List what your account bought, newest first, with the verdicts and what came back."""
    call.list(BOUGHT, PURCHASE)


@command(app, "show", examples=["aitbc class show sbuy_01…"], ends=[NOT_FOUND])
def show(
    call: Call, purchase: Annotated[str, typer.Argument(metavar="PURCHASE", help="The purchase, sbuy_….")]
) -> None:
    """Show a purchase; while it goes on, with how many jobs were in time until now, and how many were not."""
    call.out.one(call.api.get(f"{BOUGHT}/{part(purchase)}"), FULL)


@command(
    app,
    "create",
    examples=["aitbc class create chat-gold --work chat --finish 60 --price 5 --target 0.99 --days 30"],
    changes=True,
)
def create(
    call: Call,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name, in lower case.")],
    work: Annotated[str, typer.Option("--work", help="The kind of work.")],
    finish: Annotated[int, typer.Option("--finish", help="Within how many seconds a job is to succeed.")],
    price: Annotated[str, typer.Option("--price", help="What a period costs, in AITBC.")],
    start: Annotated[
        int | None, typer.Option("--start", help="Within how many seconds a miner is to begin it.")
    ] = None,
    first_text: Annotated[
        int | None, typer.Option("--first-text", help="Within how many seconds its first text is to come.")
    ] = None,
    target: Annotated[float, typer.Option("--target", help="Which share of the jobs: 0.99.")] = 0.99,
    days: Annotated[int, typer.Option("--days", help="How long a period is.")] = 30,
    credit: Annotated[int, typer.Option("--credit", help="How much of the price comes back, in percent.")] = 100,
) -> None:
    """Declare a class that accounts may buy (admins)."""
    body: dict[str, Any] = {"name": name, "work": work, "finish_seconds": finish, "price": price}
    body |= {"start_seconds": start, "first_text_seconds": first_text}
    body |= {"target": target, "period_days": days, "credit_percent": credit}
    call.out.one(call.change("POST", PATH, body), PROMISED)


@command(app, "withdraw", examples=["aitbc class withdraw chat-gold"], changes=True, ends=[NOT_FOUND])
def withdraw(call: Call, name: Name) -> None:
    """Sell a class no more (admins); what was bought of it is judged as it was sold."""
    call.confirm(f"Sell {name} no more?")
    call.out.one(call.change("DELETE", f"{PATH}/{part(name)}"), PROMISED)
