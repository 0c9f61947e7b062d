"""Budgets."""

from typing import Annotated, Any

import typer

from aitbc_cli.client import part
from aitbc_cli.command import Call, command, noun
from aitbc_cli.exits import NOT_FOUND
from aitbc_cli.output import columns

PATH = "/api/v1/trading/budgets"
SHOWN = (
    *columns("id", "period", "key", "model"),
    *columns("limit", "held", "spent", "remaining", kind="number"),
    *columns("resets_at"),
)
BudgetId = Annotated[str, typer.Argument(metavar="BUDGET", help="The budget's id, bdgt_…")]
LimitArgument = Annotated[str, typer.Argument(metavar="AITBC", help="The most that may be spent in a period.")]
app = noun("budget", "Budgets: limit what you spend in a day, a month or at all.")


@command(
    app,
    "set",
    examples=[
        "aitbc budget set 10",
        "aitbc budget set 0.5 --period day --key key_01…",
        "aitbc budget set 2 --model llama-3-8b",
    ],
    changes=True,
)
def make(
    call: Call,
    amount: LimitArgument,
    period: Annotated[str, typer.Option("--period", help="day or month (UTC), or total.")] = "month",
    key: Annotated[str | None, typer.Option("--key", metavar="KEY", help="Only what this API key spends.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Only what is spent on this model.")] = None,
) -> None:
    """Limit what your account spends. The most that a job can cost is reserved, so it is never exceeded."""
    body: dict[str, Any] = {"limit": amount, "period": period}
    body |= {name: value for name, value in (("key", key), ("model", model)) if value is not None}
    call.out.one(call.change("POST", PATH, body), SHOWN)


@command(app, "list", examples=["aitbc budget list", "aitbc budget list --json --fields id,remaining"], lists=True)
def list_budgets(call: Call) -> None:
    """List your budgets, with what counts against each now."""
    call.list(PATH, SHOWN)


@command(app, "show", examples=["aitbc budget show bdgt_01…"], ends=[NOT_FOUND])
def show(call: Call, budget: BudgetId) -> None:
    """Show a budget: its limit, what is reserved and spent, and when it is renewed."""
    call.out.one(call.api.get(f"{PATH}/{part(budget)}"), (*SHOWN, *columns("created_at", "ended_at")))


@command(app, "change", examples=["aitbc budget change bdgt_01… 20"], changes=True, ends=[NOT_FOUND])
def change(call: Call, budget: BudgetId, amount: LimitArgument) -> None:
    """Set another limit, from the next job on. A key cannot change what limits itself."""
    call.out.one(call.change("PUT", f"{PATH}/{part(budget)}", {"limit": amount}, natural=True), SHOWN)


@command(app, "remove", examples=["aitbc budget remove bdgt_01…"], changes=True, ends=[NOT_FOUND])
def remove(call: Call, budget: BudgetId) -> None:
    """Limit nothing by a budget any more. A key cannot remove what limits itself."""
    call.out.one(call.change("DELETE", f"{PATH}/{part(budget)}", natural=True), SHOWN)
