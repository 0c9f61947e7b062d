"""The ledger, verified by the server itself."""

from collections.abc import Mapping
from typing import Any

from aitbc_cli.command import Call, command, noun
from aitbc_cli.exits import Stop
from aitbc_cli.output import columns

SHOWN = columns("ok", "height", "head", "transactions", "entries", "receipts", "unsealed", "accounts", "paid_jobs")
app = noun("ledger", "Verify the ledger on the server.")


@command(app, "verify", examples=["aitbc ledger verify", "aitbc ledger verify --json"])
def verify(call: Call) -> None:
    """Let the server recompute the ledger from its first record on (admins); exit code 1 when something does not hold.

    Every job that succeeded must also have its receipt: one that has none is named.
    `aitbc chain export` and `aitbc chain verify` do the same without trusting the server.
    """
    report = call.api.post("/api/v1/trading/ledger/verify", natural=True)
    if not report["ok"]:
        first = report["divergence"] or {}
        raise Stop(f"the ledger does not hold: {_place(first)}", code="not_verified", report=report)
    payments = call.api.post("/api/v1/ai/payments/verify", natural=True)
    report["paid_jobs"], report["unpaid_jobs"] = payments["jobs"] - payments["unpaid"], payments["unpaid_jobs"]
    if not payments["ok"]:
        first = payments["unpaid_jobs"][0]
        message = (
            f"{payments['unpaid']} of {payments['jobs']} jobs that succeeded have no receipt, the first is {first}"
        )
        raise Stop(message, code="not_verified", report=report)
    call.out.one(report, SHOWN, name="head")
    call.out.text("ledger verified")


def _place(divergence: Mapping[str, Any]) -> str:
    """Where it does not hold and why, without the parts that are not known: an account is in no block."""
    named = (("block", "height"), ("record", "record"), ("", "field"))
    known = [f"{word} {divergence[key]}".strip() for word, key in named if divergence.get(key) is not None]
    return ": ".join([*([", ".join(known)] if known else []), divergence.get("message") or "no reason is given"])
