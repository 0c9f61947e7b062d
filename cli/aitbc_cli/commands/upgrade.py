"""A newer program over the installation that is there."""

from typing import Annotated

import typer

from aitbc_cli.command import Call, command, noun
from aitbc_cli.exits import NOT_FOUND, REFUSED, Stop, usage
from aitbc_cli.output import columns
from aitbc_cli.terminal import progress, say

app = noun("upgrade", "See what this program would change in an installation.", alone=True)


@command(
    app,
    "upgrade",
    examples=["aitbc upgrade --check", "aitbc upgrade --check --json"],
    server=False,
    ends=[NOT_FOUND, REFUSED],
)
def upgrade(
    call: Call,
    check: Annotated[bool, typer.Option("--check", help="Look, and change nothing.")] = False,
) -> None:
    """Say whether this program can take over the configured installation, and which migrations would run.

    Nothing is changed: `aitbc serve` migrates when it starts. Exit code 5 when this program cannot take it over.
    """
    if not check:
        raise usage("say --check: `aitbc serve` brings the installation up to date when it starts; back it up before")
    from aitbc.app import upgrade_plan

    with progress("comparing"):
        plan = upgrade_plan()
    if plan.obstacles:
        raise Stop(
            f"version {plan.version} cannot take this installation over:\n  " + "\n  ".join(plan.obstacles),
            exit_code=REFUSED,
            code="cannot_upgrade",
            obstacles=list(plan.obstacles),
        )
    rows = [{"part": each.part, "at": each.at, "to": each.to, "pending": list(each.pending)} for each in plan.parts]
    call.out.rows(rows, columns("part", "at", "to", "pending"), name="part")
    if any(part.pending for part in plan.parts):
        say("back it up first with: aitbc backup FILE; then `aitbc serve` runs these migrations when it starts")
    else:
        say(f"nothing to do: the database is what version {plan.version} expects")
