"""The audit trail."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from aitbc_cli.command import Call, command, noun
from aitbc_cli.output import columns

PATH = "/api/v1/operations/audit"
PAGE = 200
app = noun("audit", "Who did what to what (admins).")


@command(app, "list", examples=["aitbc audit list", "aitbc audit list --action job.cancel -o csv"], lists=True)
def list_entries(
    call: Call,
    module: Annotated[str | None, typer.Option("--module", help="Only those of this module.")] = None,
    action: Annotated[str | None, typer.Option("--action", help="Only this action, for instance job.cancel.")] = None,
) -> None:
    """List administrative acts from the newest on."""
    shown = columns("at", "module", "account", "action", "object", "details", "request_id")
    call.out.rows(_entries(call, module, action), shown, name="number")


def _entries(call: Call, module: str | None, action: str | None) -> Iterator[dict[str, Any]]:
    """Page by page: each begins before the last entry of the one before."""
    left, before = call.limit, None
    while left is None or left > 0:
        size = PAGE if left is None else min(left, PAGE)
        page = call.api.rows(PATH, module=module, action=action, before=before, limit=size)
        yield from page
        if len(page) < size:
            return
        before = page[-1]["at"]
        left = None if left is None else left - len(page)
