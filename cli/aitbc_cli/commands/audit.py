"""The audit trail."""

import time
from typing import Annotated, Any

import typer

from aitbc_cli.command import Call, Group, command, noun
from aitbc_cli.output import columns
from aitbc_cli.terminal import safe
from aitbc_cli.times import seconds_of

PATH = "/api/v1/operations/audit"
SHOWN = columns("at", "module", "account", "action", "object", "details", "request_id")
PAGE = 200
KNOWN_MAX = 5000
"""How many entries are remembered, so that none is shown twice."""


class _Audit(Group):
    """The audit trail's commands; `aitbc audit --watch` is `aitbc audit list --watch`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The arguments, with the command that is meant."""
        return super().parse_args(ctx, ["list", *args] if args and args[0] in ("--watch", "-w") else args)


app = noun("audit", "Who did what to what (admins).")
app.info.cls = _Audit


@command(
    app,
    "list",
    examples=["aitbc audit list", "aitbc audit list --action job.cancel -o csv", "aitbc audit list --watch"],
    lists=True,
)
def list_entries(
    call: Call,
    module: Annotated[str | None, typer.Option("--module", help="Only those of this module.")] = None,
    action: Annotated[str | None, typer.Option("--action", help="Only this action, for instance job.cancel.")] = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Go on with what comes, until Ctrl-C; also aitbc audit --watch.")
    ] = False,
    every: Annotated[str, typer.Option("--every", help="How often --watch looks: 2s.")] = "2s",
) -> None:
    """List administrative acts from the newest on; `details` has what was before and after."""
    if watch:
        _watch(call, max(0.2, seconds_of(every)), module=module, action=action)
        return
    call.list(PATH, SHOWN, module=module, action=action)


def _watch(call: Call, pause: float, **query: Any) -> None:
    """Print what is new, oldest first, a line each."""
    known: dict[tuple[str, int], None] = {}
    is_first = True
    try:
        while True:
            rows = list(call.api.pages(PATH, call.limit if is_first else PAGE, **query))
            fresh = [row for row in reversed(rows) if (row["module"], row["number"]) not in known]
            for row in fresh:
                known[row["module"], row["number"]] = None
                _print(call, row)
            while len(known) > KNOWN_MAX:
                del known[next(iter(known))]
            is_first = False
            time.sleep(pause)
    except KeyboardInterrupt:
        return


def _print(call: Call, row: dict[str, Any]) -> None:
    if not call.out.is_for_people:
        call.out.json_line(row)
        return
    words = (row["at"], row["module"], row["account"], row["action"], row["object"], row["details"])
    call.out.text(safe("  ".join(map(str, words))))
    call.out.stream.flush()
