"""Trades: offers, requests, matches, agreements and their settlements."""

from typing import Annotated, Any

import typer

from aitbc_cli.client import part
from aitbc_cli.command import Call, command, noun
from aitbc_cli.exits import NOT_FOUND, usage
from aitbc_cli.id_completion import AGREEMENTS, MATCHES, NEGOTIATIONS, REQUESTS, SETTLEMENTS
from aitbc_cli.output import Column, columns
from aitbc_cli.written import given_json

PATH = "/api/v1/trading"
LISTS = {
    "toff": "offers",
    "treq": "requests",
    "tmat": "matches",
    "tneg": "negotiations",
    "tagr": "agreements",
    "tset": "settlements",
}
"""By the prefix of an id: where its like is listed."""
PRICE = Column("PRICE", "price", "number")
OFFER = (*columns("id", "state", "trade_type", "title"), PRICE, *columns("available", "valid_until"))
REQUEST = columns("id", "state", "trade_type", "title", "budget_min", "budget_max", "expires_at")
MATCH = (*columns("id", "state", "score"), PRICE, *columns("request", "offer", "expires_at"))
PREVIEW = (*columns("offer", "score"), PRICE, *columns("title", "seller"))
NEGOTIATION = (*columns("id", "state", "round"), PRICE, *columns("proposed_by", "match", "answer_by"))
AGREEMENT = (*columns("id", "state"), PRICE, *columns("settlement_type", "title", "booking", "jobs", "settle_by"))
SETTLEMENT = columns("id", "state", "total", "fee", "net", "refunded", "disputed", "agreement")
SHOWN: dict[str, Any] = dict(zip(LISTS, (OFFER, REQUEST, MATCH, NEGOTIATION, AGREEMENT, SETTLEMENT), strict=True))
Settled = Annotated[str, typer.Argument(metavar="SETTLEMENT", help="Which, tset_…", autocompletion=SETTLEMENTS)]
Payment = Annotated[int, typer.Option("--payment", help="Which payment of it, from 1 on.")]
Specs = Annotated[list[str] | None, typer.Option("--spec", help="NAME=VALUE, for instance vram_gb=80; repeatable.")]
app = noun("trade", "Trades: offer, request, match, agree, settle.")


def _specs(given: list[str] | None) -> dict[str, Any]:
    """Specifications of the command line: what reads as a number is one, else it is a list of one word."""
    found: dict[str, Any] = {}
    for one in given or ():
        name, equals, value = one.partition("=")
        if not (name and equals and value):
            raise usage(f"--spec {one!r} is not NAME=VALUE")
        try:
            found[name] = float(value)
        except ValueError:
            found[name] = [value]
    return found


def _kind(identity: str) -> str:
    kind = identity.partition("_")[0]
    if kind not in LISTS:
        raise usage(
            f"{identity!r} is nothing of a trade", hint="ids begin with " + ", ".join(f"{one}_" for one in LISTS)
        )
    return kind


@command(app, "list", examples=["aitbc trade list offers", "aitbc trade list agreements"], lists=True)
def list_trades(
    call: Call, what: Annotated[str, typer.Argument(help=f"One of {', '.join(LISTS.values())}.")] = "agreements"
) -> None:
    """List everybody's open offers, or your part of trades, from the newest on."""
    kind = next((kind for kind, name in LISTS.items() if name == what), None)
    if kind is None:
        raise usage(f"{what!r} is no list of trades", hint=f"one of {', '.join(LISTS.values())}")
    call.list(f"{PATH}/{what}", SHOWN[kind])


@command(app, "show", examples=["aitbc trade show tset_01…", "aitbc trade show tmat_01… --json"], ends=[NOT_FOUND])
def show(call: Call, identity: Annotated[str, typer.Argument(metavar="ID", help="Of any part of a trade.")]) -> None:
    """Show an offer, a request, a match, a negotiation, an agreement or a settlement."""
    kind = _kind(identity)
    call.out.one(call.api.get(f"{PATH}/{LISTS[kind]}/{part(identity)}"), SHOWN[kind])


@command(app, "offer", examples=["aitbc trade offer compute_resources 'An H100' 12.5 --spec vram_gb=80"], changes=True)
def offer(
    call: Call,
    trade_type: Annotated[str, typer.Argument(metavar="TYPE", help="For instance compute_resources.")],
    title: Annotated[str, typer.Argument(help="In a few words.")],
    price: Annotated[str, typer.Argument(help="For one agreement, in AITBC.")],
    spec: Specs = None,
    region: Annotated[list[str] | None, typer.Option("--region", help="Where it is; repeatable.")] = None,
    capacity: Annotated[int, typer.Option("--capacity", help="How many agreements it is good for.")] = 1,
) -> None:
    """Offer something at a price. Whoever takes it has an agreement with you."""
    body: dict[str, Any] = {"trade_type": trade_type, "title": title, "price": price, "specifications": _specs(spec)}
    body |= {"regions": region or [], "capacity": capacity}
    call.out.one(call.change("POST", f"{PATH}/offers", body), OFFER)


def _work(kind: str | None, model: str | None, units: int | None, given: list[str] | None) -> dict[str, Any]:
    """The jobs of a request for work; nothing of one for something else."""
    if kind is None:
        if model is not None or units is not None or given:
            raise usage("--model, --units and --input say what work of a --kind is")
        return {}
    if units is None or not given:
        raise usage("work needs --units and at least one --input")
    inputs = [given_json("--input", one, example='{"texts": ["one"]}') for one in given]
    return {"work": {"job_kind": kind, "model": model, "units": units, "inputs": inputs}}


@command(
    app,
    "request",
    examples=[
        "aitbc trade request compute_resources 'A night' --budget-max 20",
        """aitbc trade request inference_tasks 'A text' --kind embed --units 400 --input '{"texts": ["one"]}'""",
    ],
    changes=True,
)
def request(
    call: Call,
    trade_type: Annotated[str, typer.Argument(metavar="TYPE", help="For instance compute_resources.")],
    title: Annotated[str, typer.Argument(help="In a few words.")],
    budget_max: Annotated[str | None, typer.Option("--budget-max", help="The most that it may cost, in AITBC.")] = None,
    budget_min: Annotated[str, typer.Option("--budget-min", help="The least that it may cost, in AITBC.")] = "0",
    spec: Specs = None,
    region: Annotated[list[str] | None, typer.Option("--region", help="Where it should be; repeatable.")] = None,
    kind: Annotated[str | None, typer.Option("--kind", help="Of inference_tasks: the kind of its jobs.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="The model that the offer must be for.")] = None,
    units: Annotated[int | None, typer.Option("--units", min=1, help="How many units one job may have.")] = None,
    job_input: Annotated[
        list[str] | None, typer.Option("--input", help="What a job is asked, JSON; repeatable.")
    ] = None,
) -> None:
    """Ask for something; `aitbc trade match` then finds the offers that fit. A dry run shows them beforehand."""
    body: dict[str, Any] = {"trade_type": trade_type, "title": title, "budget_min": budget_min}
    body |= {"specifications": _specs(spec), "preferred_regions": region or []}
    body |= _work(kind, model, units, job_input)
    if budget_max is not None:
        body["budget_max"] = budget_max
    if call.dry_run:
        call.out.rows(call.api.post(f"{PATH}/requests/preview", body, natural=True)["data"], PREVIEW, name="offer")
    else:
        call.out.one(call.change("POST", f"{PATH}/requests", body), REQUEST)


@command(app, "match", examples=["aitbc trade match treq_01…"], changes=True, ends=[NOT_FOUND])
def match(
    call: Call, wanted: Annotated[str, typer.Argument(metavar="REQUEST", help="Which, treq_…", autocompletion=REQUESTS)]
) -> None:
    """Find the ten offers that fit a request of yours best."""
    path = f"{PATH}/requests/{part(wanted)}"
    call.out.rows(call.change("POST", f"{path}/matches", look=path)["data"], MATCH, name="id")


@command(
    app,
    "accept",
    examples=[
        "aitbc trade accept tmat_01…",
        "aitbc trade accept tmat_01… --settle milestone --milestone half=1 --milestone rest=1",
        "aitbc trade accept tmat_01… --settle subscription --periods 12 --period-hours 720",
        "aitbc trade accept tneg_01…",
    ],
    changes=True,
    ends=[NOT_FOUND],
)
def accept(
    call: Call,
    identity: Annotated[str, typer.Argument(metavar="ID", help="A match, tmat_…, or a negotiation, tneg_…")],
    settle: Annotated[
        str | None, typer.Option("--settle", help="immediate, escrow, milestone or subscription; else what fits.")
    ] = None,
    milestone: Annotated[list[str] | None, typer.Option("--milestone", help="NAME=SHARE; repeatable.")] = None,
    periods: Annotated[int | None, typer.Option("--periods", help="Of a subscription: 2 to 20.")] = None,
    period_hours: Annotated[int | None, typer.Option("--period-hours", help="How long each of them is.")] = None,
) -> None:
    """Take a match at its price, or the price that the other side of a negotiation named."""
    kind = _kind(identity)
    path = f"{PATH}/{LISTS[kind]}/{part(identity)}"
    shares = [{"name": name, "share": round(share)} for name, share in _specs(milestone).items()]
    chosen = {} if settle is None else {"settlement_type": settle}
    terms = chosen | {"milestones": shares, "periods": periods, "period_hours": period_hours}
    body = terms if kind == "tmat" else None
    call.out.one(call.change("POST", f"{path}/accept", body, look=path), AGREEMENT)


@command(app, "negotiate", examples=["aitbc trade negotiate tmat_01… --price 9"], changes=True, ends=[NOT_FOUND])
def negotiate(
    call: Call,
    wanted: Annotated[str, typer.Argument(metavar="MATCH", help="Which, tmat_…", autocompletion=MATCHES)],
    price: Annotated[
        str | None, typer.Option("--price", help="In AITBC; the mean of budget and offer if none.")
    ] = None,
    strategy: Annotated[str, typer.Option("--strategy", help="aggressive, balanced or cooperative.")] = "balanced",
) -> None:
    """Name a first price for a match."""
    path = f"{PATH}/matches/{part(wanted)}"
    body = {"strategy": strategy} | ({} if price is None else {"price": price})
    call.out.one(call.change("POST", f"{path}/negotiations", body, look=path), NEGOTIATION)


@command(app, "counter", examples=["aitbc trade counter tneg_01… 9.5"], changes=True, ends=[NOT_FOUND])
def counter(
    call: Call,
    negotiation: Annotated[str, typer.Argument(help="Which, tneg_…", autocompletion=NEGOTIATIONS)],
    price: Annotated[str, typer.Argument(help="In AITBC.")],
) -> None:
    """Name another price, nearer to the other side's."""
    path = f"{PATH}/negotiations/{part(negotiation)}"
    call.out.one(call.change("POST", f"{path}/counter", {"price": price}, look=path), NEGOTIATION)


@command(
    app,
    "cancel",
    examples=["aitbc trade cancel treq_01…", "aitbc trade cancel tagr_01…"],
    changes=True,
    ends=[NOT_FOUND],
)
def cancel(call: Call, identity: Annotated[str, typer.Argument(metavar="ID", help="What to end.")]) -> None:
    """End a request, an offer, a negotiation, or an agreement that is not settled yet."""
    kind = _kind(identity)
    verb = {"toff": "close", "tneg": "reject", "treq": "cancel", "tagr": "cancel"}.get(kind)
    if verb is None:
        raise usage("only offers, requests, negotiations and agreements are cancelled")
    path = f"{PATH}/{LISTS[kind]}/{part(identity)}"
    call.out.one(call.change("POST", f"{path}/{verb}", look=path), SHOWN[kind])


@command(app, "settle", examples=["aitbc trade settle tagr_01…"], changes=True, ends=[NOT_FOUND])
def settle(
    call: Call, agreement: Annotated[str, typer.Argument(help="Which, tagr_…", autocompletion=AGREEMENTS)]
) -> None:
    """Set the price of an agreement aside; an immediate one is paid at once."""
    path = f"{PATH}/agreements/{part(agreement)}"
    call.out.one(call.change("POST", f"{path}/settlement", look=path), SETTLEMENT)


@command(app, "deliver", examples=["aitbc trade deliver tset_01…"], changes=True, ends=[NOT_FOUND])
def deliver(call: Call, settlement: Settled, payment: Payment = 1) -> None:
    """Say, as the seller, that what a payment pays is delivered."""
    _on_payment(call, settlement, "deliver", payment)


@command(app, "confirm", examples=["aitbc trade confirm tset_01… --payment 2"], changes=True, ends=[NOT_FOUND])
def confirm(call: Call, settlement: Settled, payment: Payment = 1) -> None:
    """Release a payment, as the buyer."""
    _on_payment(call, settlement, "confirm", payment)


@command(app, "refund", examples=["aitbc trade refund tset_01…"], changes=True, ends=[NOT_FOUND])
def refund(call: Call, settlement: Settled, payment: Payment = 1) -> None:
    """Give a payment back, as the seller."""
    _on_payment(call, settlement, "refund", payment)


@command(app, "stop", examples=["aitbc trade stop tset_01…"], changes=True, ends=[NOT_FOUND])
def stop(call: Call, settlement: Settled) -> None:
    """End a subscription after the period that goes on; either side may."""
    path = f"{PATH}/settlements/{part(settlement)}"
    call.out.one(call.change("POST", f"{path}/stop", look=path), SETTLEMENT)


@command(app, "dispute", examples=["aitbc trade dispute tset_01… 'Only half of it.'"], changes=True, ends=[NOT_FOUND])
def dispute(call: Call, settlement: Settled, reason: Annotated[str, typer.Argument(help="Why.")]) -> None:
    """Stop all payments of a settlement until the operator decides, or 7 days are over."""
    path = f"{PATH}/settlements/{part(settlement)}"
    call.out.one(call.change("POST", f"{path}/dispute", {"reason": reason}, look=path), SETTLEMENT)


@command(app, "rate", examples=["aitbc trade rate tagr_01… 5"], changes=True, ends=[NOT_FOUND])
def rate(
    call: Call,
    agreement: Annotated[str, typer.Argument(help="Which, tagr_…", autocompletion=AGREEMENTS)],
    rating: Annotated[int, typer.Argument(help="1 to 5.")],
    text: Annotated[str, typer.Option("--text", help="In words.")] = "",
) -> None:
    """Rate the other side of a completed trade, once."""
    path = f"{PATH}/agreements/{part(agreement)}"
    body = {"rating": rating, "text": text}
    call.out.one(
        call.change("POST", f"{path}/feedback", body, look=path), columns("agreement", "role", "rating", "text")
    )


def _on_payment(call: Call, settlement: str, verb: str, payment: int) -> None:
    path = f"{PATH}/settlements/{part(settlement)}"
    call.out.one(call.change("POST", f"{path}/{verb}", {"payment": payment}, look=path), SETTLEMENT)
