"""From which level on the server logs, while it runs."""

from typing import Annotated

import typer

from aitbc_cli.command import Call, command, noun
from aitbc_cli.output import columns

PATH = "/api/v1/operations/log-levels"
SHOWN = columns("process", "levels")
app = noun("log-level", "From which level on the server logs, while it runs (admins).")


@command(app, "list", examples=["aitbc log-level list", "aitbc log-level list --json"])
def list_levels(call: Call) -> None:
    """List the levels of every process; `*` is all modules without a level of their own."""
    call.out.rows(call.api.get(PATH)["data"], SHOWN, name="process")


@command(
    app,
    "set",
    examples=["aitbc log-level set debug --logger gpu", "aitbc log-level set info"],
    changes=True,
)
def set_level(
    call: Call,
    level: Annotated[str, typer.Argument(help="debug, info, warning or error.")],
    logger: Annotated[
        str, typer.Option("--logger", help="A module or library; all without a level of their own when left out.")
    ] = "*",
) -> None:
    """Log from this level on in every process, until it is started again; what lasts is the setting log.level."""
    found = call.change("PUT", PATH, {"level": level, "logger": logger}, natural=True)
    call.out.rows(found["data"], SHOWN, name="process")
