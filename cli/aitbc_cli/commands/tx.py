"""Transactions of the ledger."""

from typing import Annotated

import typer

from aitbc_cli.client import part
from aitbc_cli.command import Call, command, noun
from aitbc_cli.exits import NOT_FOUND
from aitbc_cli.id_completion import TRANSACTIONS
from aitbc_cli.output import columns

PATH = "/api/v1/trading/transactions"
Which = Annotated[str, typer.Argument(metavar="TX", help="Its id, txn_…", autocompletion=TRANSACTIONS)]
FULL = columns("id", "kind", "hold", "reference", "reason", "at", "receipt", "digest", "sealed.height")
ENTRIES = (
    *columns("account"),
    *columns("amount", "before", "after", "version", kind="number"),
    *columns("asset"),
)
app = noun("tx", "Transactions of the ledger.")


@command(app, "list", examples=["aitbc tx list", "aitbc tx list --reference job_01…"], lists=True)
def list_transactions(
    call: Call,
    reference: Annotated[str | None, typer.Option("--reference", help="Only those of this job or hold.")] = None,
) -> None:
    """List transactions from the newest on."""
    call.list(PATH, columns("id", "kind", "at", "reference", "receipt", "sealed.height"), reference=reference)


@command(app, "show", examples=["aitbc tx show txn_01…", "aitbc tx show txn_01… --json"], ends=[NOT_FOUND])
def show(call: Call, transaction: Which) -> None:
    """Show a transaction with the balances before and after it, and its place in the chain."""
    _show(call, call.api.get(f"{PATH}/{part(transaction)}"))


@command(app, "correct", examples=['aitbc tx correct txn_01… --reason "wrong account"'], changes=True, ends=[NOT_FOUND])
def correct(
    call: Call,
    transaction: Which,
    reason: Annotated[str, typer.Option("--reason", help="Why; the statement shows it.")],
) -> None:
    """Undo a deposit, a faucet grant or a settlement by a transaction of its own (admins)."""
    path = f"{PATH}/{part(transaction)}"
    call.confirm(f"Undo {transaction}?")
    _show(call, call.change("POST", f"{path}/correction", {"reason": reason}, look=path))


def _show(call: Call, answer: dict[str, object]) -> None:
    call.out.one(answer, FULL)
    if call.out.is_for_people and not call.options.fields:
        call.out.text("")
        entries = answer["entries"]
        assert isinstance(entries, list)
        call.out.rows(entries, ENTRIES)
