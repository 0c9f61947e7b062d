"""The audit trail."""

from typing import Annotated

import typer

from aitbc_cli.command import Call, command, noun
from aitbc_cli.output import columns

PATH = "/api/v1/operations/audit"
app = noun("audit", "Who did what to what (admins).")


@command(app, "list", examples=["aitbc audit list", "aitbc audit list --action job.cancel -o csv"], lists=True)
def list_entries(
    call: Call,
    module: Annotated[str | None, typer.Option("--module", help="Only those of this module.")] = None,
    action: Annotated[str | None, typer.Option("--action", help="Only this action, for instance job.cancel.")] = None,
) -> None:
    """List administrative acts from the newest on."""
    shown = columns("at", "module", "account", "action", "object", "details", "request_id")
    call.list(PATH, shown, module=module, action=action)
