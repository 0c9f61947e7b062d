"""Offers: what your miners are on sale for."""

from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

import typer

from aitbc_cli.client import part
from aitbc_cli.command import Call, command, noun
from aitbc_cli.exits import NOT_FOUND, usage
from aitbc_cli.id_completion import MINERS, OFFERS
from aitbc_cli.output import Column, columns
from aitbc_cli.times import seconds_of

PATH = "/api/v1/marketplace/offers"
RULE = "/api/v1/marketplace/rule"
PER = {"": 1, "unit": 1, "1": 1, "1k": 1_000, "k": 1_000, "1m": 1_000_000}
"""How many metered units a price may be said for."""
PRICE = Column("PRICE", "price", "number")
BRIEF = (*columns("id", "state", "sells", "kind", "model"), PRICE, *columns("available", "miner", "valid_until"))
FULL = (
    *columns("id", "state", "version", "sells", "kind", "model", "device", "price", "pricing", "capacity", "available"),
    *columns("min_seconds", "max_seconds", "interruptible", "verified", "facts", "note", "origin", "miner", "account"),
    *columns("created_at", "changed_at", "valid_until"),
)
RULE_SHOWN = columns("kinds", "price_hour", "valid_seconds", "automatic", "set_at")
Which = Annotated[str, typer.Argument(metavar="OFFER", help="Its id, offer_…", autocompletion=OFFERS)]
Kinds = Annotated[
    list[str] | None, typer.Option("--kind", help="KIND[:MODEL]=PRICE[/1k], for instance chat=0.02/1k; repeatable.")
]
PriceHour = Annotated[str | None, typer.Option("--price-hour", help="AITBC for a GPU and an hour, or FLOOR..CEILING.")]
app = noun("offer", "Offers: put your miners on sale, by the unit of work or by the hour.")


def unit_price(text: str) -> str:
    """AITBC for one unit, of `0.02/1k`. Raises a fault of usage for what does not come out even."""
    amount, _, per = text.partition("/")
    try:
        price = Decimal(amount) / PER[per.lower()]
    except (InvalidOperation, KeyError):
        raise usage(f"{text!r} is no price", hint="for instance 0.00002, 0.02/1k or 20/1m") from None
    if not price.is_finite() or price != price.quantize(Decimal("1e-8")):
        raise usage(f"{text!r} does not come out even", hint="the price of one unit has eight places at most")
    return f"{price:f}"


def _priced(text: str) -> dict[str, Any]:
    """The price of an offer: one, or a floor and a ceiling between which it follows the use of its owner's miners."""
    floor, dots, ceiling = text.partition("..")
    if not dots:
        return {"price": unit_price(text)}
    if "/" in ceiling and "/" not in floor:
        floor += ceiling[ceiling.index("/") :]
    return {"pricing": {"floor": unit_price(floor), "ceiling": unit_price(ceiling)}}


def _kind(text: str) -> tuple[str, str | None, str]:
    what, equals, price = text.partition("=")
    kind, _, model = what.partition(":")
    if not (kind and equals and price):
        raise usage(f"--kind {text!r} is not KIND=PRICE", hint="for instance chat=0.02/1k, or chat:llama-3-8b=0.02/1k")
    return kind, model or None, price


def _own_miner(call: Call, given: str | None) -> str:
    """The miner that was named, or the only one that there is."""
    if given is not None:
        return given
    mine = [one["id"] for one in call.api.pages("/api/v1/gpu/miners", 100) if one["status"] != "removed"]
    if len(mine) != 1:
        raise usage(f"you have {len(mine)} miners", hint="name one by --miner")
    return str(mine[0])


def _change_each(call: Call, bodies: list[dict[str, Any]]) -> list[Any]:
    """Make each offer, under a key of its own; a dry run prints all."""
    if call.dry_run:
        call.out.value([{"dry_run": True, "method": "POST", "path": PATH, "body": body} for body in bodies], "dry run")
        raise typer.Exit(0)
    return [call.api.post(PATH, body, once=f"{call.once}-{number}") for number, body in enumerate(bodies)]


@command(
    app,
    "create",
    examples=[
        "aitbc offer create --device 0 --price-hour 0.80 --kind chat=0.02/1k",
        "aitbc offer create --miner mnr_01… --price-hour 0.5..1.2 --max-time 24h --dry-run",
    ],
    changes=True,
    ends=[NOT_FOUND],
)
def create(
    call: Call,
    miner: Annotated[
        str | None, typer.Option("--miner", help="Your miner; the only one when left out.", autocompletion=MINERS)
    ] = None,
    kind: Kinds = None,
    price_hour: PriceHour = None,
    device: Annotated[int | None, typer.Option("--device", help="The GPU's index; left out, the whole miner.")] = None,
    count: Annotated[int, typer.Option("--count", help="How many such GPUs there are.")] = 1,
    min_time: Annotated[str, typer.Option("--min-time", help="The shortest rental, for instance 10m.")] = "1m",
    max_time: Annotated[str, typer.Option("--max-time", help="The longest rental, for instance 24h.")] = "30d",
    interruptible: Annotated[bool, typer.Option("--interruptible", help="You may end a rental, after notice.")] = False,
    note: Annotated[str, typer.Option("--note", help="What else there is to say.")] = "",
) -> None:
    """Put a miner's work, its GPUs or both on sale."""
    if not kind and price_hour is None:
        raise usage("nothing is offered", hint="name --kind, --price-hour or both")
    whose = _own_miner(call, miner)
    bodies: list[dict[str, Any]] = []
    for one in kind or ():
        name, model, price = _kind(one)
        bodies.append({"miner": whose, "sells": "work", "kind": name, "model": model, **_priced(price), "note": note})
    if price_hour is not None:
        rental = {"min_seconds": int(seconds_of(min_time)), "max_seconds": int(seconds_of(max_time))}
        body = {"miner": whose, "sells": "device", "device": device, "capacity": count, **_priced(price_hour), **rental}
        bodies.append({**body, "interruptible": interruptible, "note": note})
    call.out.rows(_change_each(call, bodies), BRIEF)


@command(app, "list", examples=["aitbc offer list", "aitbc offer list --state withdrawn"], lists=True)
def list_offers(
    call: Call,
    state: Annotated[str | None, typer.Option("--state", help="open, booked, expired or withdrawn.")] = None,
    miner: Annotated[str | None, typer.Option("--miner", help="Only of this miner.", autocompletion=MINERS)] = None,
) -> None:
    """List your offers from the newest on; `aitbc market search` finds everybody's."""
    call.list(PATH, BRIEF, state=state, miner=miner)


@command(app, "show", examples=["aitbc offer show offer_01…", "aitbc offer show offer_01… --json"], ends=[NOT_FOUND])
def show(call: Call, offer: Which) -> None:
    """Show an offer, with what is known of its miner, how and as of when."""
    call.out.one(call.api.get(f"{PATH}/{part(offer)}"), FULL)


@command(app, "change", examples=["aitbc offer change offer_01… --price 0.75"], changes=True, ends=[NOT_FOUND])
def change(
    call: Call,
    offer: Which,
    price: Annotated[str | None, typer.Option("--price", help="The new price, or FLOOR..CEILING.")] = None,
    note: Annotated[str | None, typer.Option("--note", help="What else there is to say.")] = None,
    version: Annotated[int | None, typer.Option("--version", help="Only if it still has this version.")] = None,
) -> None:
    """Change the price or the note of an offer of yours, unless somebody changed it meanwhile."""
    path = f"{PATH}/{part(offer)}"
    body: dict[str, Any] = {"version": version if version is not None else call.api.get(path)["version"]}
    if price is not None:
        body |= {"pricing": None, **_priced(price)}
    if note is not None:
        body["note"] = note
    call.out.one(call.change("POST", f"{path}/change", body), FULL)


@command(app, "withdraw", examples=["aitbc offer withdraw offer_01…"], changes=True, ends=[NOT_FOUND])
def withdraw(call: Call, offer: Which) -> None:
    """Take an offer of yours off the market."""
    path = f"{PATH}/{part(offer)}"
    call.out.one(call.change("POST", f"{path}/withdraw", look=path), BRIEF)


@command(
    app,
    "rule",
    examples=["aitbc offer rule", "aitbc offer rule --kind chat=0.02/1k --price-hour 0.80"],
    changes=True,
    ends=[NOT_FOUND],
)
def rule(
    call: Call,
    kind: Kinds = None,
    price_hour: PriceHour = None,
    days: Annotated[int, typer.Option("--days", help="How long each offer is valid.")] = 30,
    by_hand: Annotated[bool, typer.Option("--by-hand", help="Only when you sync, not as miners come online.")] = False,
    forget: Annotated[bool, typer.Option("--forget", help="Put no more miners on sale by a rule.")] = False,
) -> None:
    """Show, set or forget the rule by which your online miners are put on sale."""
    if forget:
        call.out.one(call.change("DELETE", RULE, natural=True), columns("removed"))
    elif not kind and price_hour is None:
        call.out.one(call.api.get(RULE), RULE_SHOWN)
    else:
        prices = {name: unit_price(price) for name, _, price in map(_kind, kind or ())}
        body = {"kinds": prices, "price_hour": price_hour, "valid_days": days, "automatic": not by_hand}
        call.out.one(call.change("PUT", RULE, body), RULE_SHOWN)


@command(app, "sync", examples=["aitbc offer sync"], changes=True, ends=[NOT_FOUND])
def sync(call: Call) -> None:
    """Make the offers that your rule says and that your online miners lack."""
    call.out.rows(call.change("POST", f"{RULE}/sync")["made"], BRIEF)
