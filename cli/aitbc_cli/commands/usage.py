"""Usage: what was paid for work."""

from typing import Annotated
from urllib.parse import urlencode

import typer

from aitbc_cli.command import Call, command, noun
from aitbc_cli.output import columns

app = noun("usage", "What was paid for work, by day, account, kind, model, miner or key.", alone=True)


@command(
    app, "usage", examples=["aitbc usage", "aitbc usage --by kind --by day -o csv", "aitbc usage --from 2030-01-01"]
)
def usage(
    call: Call,
    by: Annotated[
        list[str] | None, typer.Option("--by", help="day, account, kind, model, miner or key; several times.")
    ] = None,
    account: Annotated[str | None, typer.Option("--account", help="Only of this account (admins).")] = None,
    first: Annotated[str | None, typer.Option("--from", metavar="DAY", help="From this day (UTC) on.")] = None,
    last: Annotated[str | None, typer.Option("--to", metavar="DAY", help="Until this day.")] = None,
) -> None:
    """Add up what was paid for work: your own account's, for admins everybody's. The sums are those of the ledger.

    What disputes and corrections gave back stands beside it, on the day on which it went back.
    """
    wanted = by or ["day"]
    query = [("by", one) for one in wanted]
    query += [(name, day) for name, day in (("account", account), ("from_day", first), ("to_day", last)) if day]
    found = call.api.get(f"/api/v1/monitoring/usage?{urlencode(query)}")["data"]
    numbers = columns("jobs", "price", "fee", "earned", "refunded", kind="number")
    call.out.rows(found, (*columns(*wanted), *numbers), name=wanted[0])
