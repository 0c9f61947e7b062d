"""Disputes about what was paid for bookings and jobs: begun, argued, conceded, withdrawn, decided."""

from typing import Annotated, Any

import typer

from aitbc_cli.client import part
from aitbc_cli.command import Call, command
from aitbc_cli.commands.booking import app
from aitbc_cli.exits import NOT_FOUND, usage
from aitbc_cli.id_completion import DISPUTES, RECEIPTS
from aitbc_cli.output import Column, columns

__all__ = ["app"]
PATH = "/api/v1/marketplace/disputes"
BRIEF = (*columns("id", "state", "subject"), Column("CLAIM", "claim", "number"), *columns("decided_by", "decide_by"))
FULL = (
    *columns("id", "state", "subject", "claim", "held", "refunded", "transaction", "reason", "decide_by", "decided_by"),
    *columns("share_basis_points", "resolution", "account", "owner", "miner", "evidence", "created_at", "closed_at"),
)
Which = Annotated[str, typer.Argument(metavar="DISPUTE", help="Its id, dspt_…", autocompletion=DISPUTES)]


@command(
    app,
    "dispute",
    examples=["aitbc booking dispute book_01… 'It was away.'", "aitbc booking dispute rcpt_01… 'Wrong.' --amount 0.01"],
    changes=True,
    ends=[NOT_FOUND],
)
def dispute(
    call: Call,
    subject: Annotated[
        str, typer.Argument(metavar="BOOKING", help="book_…, or a job's receipt, rcpt_…", autocompletion=RECEIPTS)
    ],
    reason: Annotated[str, typer.Argument(help="Why.")],
    amount: Annotated[str | None, typer.Option("--amount", help="How much of what was paid; else all of it.")] = None,
) -> None:
    """Dispute what you paid for a booking or a job, within 72 hours of its end, once."""
    body: dict[str, Any] = {"subject": subject, "reason": reason}
    if amount is not None:
        body["amount"] = amount
    call.out.one(call.change("POST", PATH, body), FULL)


@command(app, "disputes", examples=["aitbc booking disputes", "aitbc booking disputes --state open"], lists=True)
def disputes(
    call: Call, state: Annotated[str | None, typer.Option("--state", help="Only those in this state.")] = None
) -> None:
    """List the disputes of which you are a side, from the newest on."""
    call.list(PATH, BRIEF, state=state)


@command(app, "disputed", examples=["aitbc booking disputed dspt_01…"], ends=[NOT_FOUND])
def disputed(call: Call, dispute: Which) -> None:
    """Show a dispute, with what was said in it."""
    call.out.one(call.api.get(f"{PATH}/{part(dispute)}"), FULL)


@command(
    app, "evidence", examples=["aitbc booking evidence dspt_01… 'As the log says.'"], changes=True, ends=[NOT_FOUND]
)
def evidence(call: Call, dispute: Which, text: Annotated[str, typer.Argument(help="What you have to say.")]) -> None:
    """Say something in an open dispute."""
    path = f"{PATH}/{part(dispute)}"
    call.out.one(call.change("POST", f"{path}/evidence", {"text": text}, look=path), FULL)


@command(app, "concede", examples=["aitbc booking concede dspt_01…"], changes=True, ends=[NOT_FOUND])
def concede(call: Call, dispute: Which) -> None:
    """Give all that is disputed back, as the owner of the miner."""
    path = f"{PATH}/{part(dispute)}"
    call.out.one(call.change("POST", f"{path}/concede", natural=True, look=path), FULL)


@command(app, "withdraw", examples=["aitbc booking withdraw dspt_01…"], changes=True, ends=[NOT_FOUND])
def withdraw(call: Call, dispute: Which) -> None:
    """Want nothing back any more, as the payer."""
    path = f"{PATH}/{part(dispute)}"
    call.out.one(call.change("POST", f"{path}/withdraw", natural=True, look=path), FULL)


@command(
    app,
    "decide",
    examples=["aitbc booking decide dspt_01… 'Half of it was unusable.' --refund 50"],
    changes=True,
    ends=[NOT_FOUND],
)
def decide(
    call: Call,
    dispute: Which,
    reason: Annotated[str, typer.Argument(help="What both sides are told.")],
    refund: Annotated[float, typer.Option("--refund", help="How much of the claim goes back, in percent.")],
) -> None:
    """Decide a dispute (admins)."""
    if not 0 <= refund <= 100:
        raise usage("--refund: a share is between 0 and 100")
    path = f"{PATH}/{part(dispute)}"
    body = {"share_basis_points": round(refund * 100), "reason": reason}
    call.out.one(call.change("POST", f"{path}/decision", body, look=path), FULL)
