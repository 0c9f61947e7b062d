"""Events between modules."""

from typing import Annotated

import typer

from aitbc_cli.client import part
from aitbc_cli.command import Call, command, noun
from aitbc_cli.exits import NOT_FOUND, REFUSED
from aitbc_cli.id_completion import EVENTS
from aitbc_cli.output import Column, columns

PATH = "/api/v1/operations/events"
SHOWN = (
    *columns("id", "module", "kind", "state"),
    Column("TRIES", "attempts", "number"),
    *columns("created_at", "last_error"),
)
app = noun("events", "Events between modules; dead ones wait for a replay (admins).")


@command(app, "list", examples=["aitbc events list --state dead", "aitbc events list --module ai --json"], lists=True)
def list_events(
    call: Call,
    state: Annotated[str | None, typer.Option("--state", "--status", help="pending, stuck, delivered or dead.")] = None,
    module: Annotated[str | None, typer.Option("--module", help="Only those that this module published.")] = None,
) -> None:
    """List events from the newest on."""
    call.list(PATH, SHOWN, state=state, module=module)


@command(app, "replay", examples=["aitbc events replay evt_01…"], changes=True, ends=[NOT_FOUND])
def replay(
    call: Call, event: Annotated[str, typer.Argument(metavar="EVENT", help="Its id, evt_…", autocompletion=EVENTS)]
) -> None:
    """Try a dead event again from its first attempt. It has no effect twice."""
    call.out.one(call.change("POST", f"{PATH}/{part(event)}/replay", natural=True), SHOWN)


@command(
    app, "end", examples=['aitbc events end evt_01… --reason "paid by hand"'], changes=True, ends=[NOT_FOUND, REFUSED]
)
def end(
    call: Call,
    event: Annotated[str, typer.Argument(metavar="EVENT", help="Its id, evt_…", autocompletion=EVENTS)],
    reason: Annotated[str, typer.Option("--reason", help="Why; the audit trail keeps it.")],
) -> None:
    """Give up a stuck event: it is dead, and tried no more unless it is replayed.

    What it should have done is not done.
    """
    body = {"reason": reason}
    call.out.one(call.change("POST", f"{PATH}/{part(event)}/end", body, natural=True), SHOWN)
