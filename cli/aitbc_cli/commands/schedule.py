"""Schedules: graphs and jobs that are begun again and again."""

from typing import Annotated, Any

import typer

from aitbc_cli.client import part
from aitbc_cli.command import Call, command, noun
from aitbc_cli.exits import NOT_FOUND, REFUSED
from aitbc_cli.id_completion import SCHEDULES
from aitbc_cli.output import columns
from aitbc_cli.written import read_written

PATH = "/api/v1/ai/schedules"
BRIEF = columns("id", "name", "state", "cron", "time_zone", "next_at", "last_graph", "problem")
FULL = (
    *columns("id", "name", "state", "cron", "time_zone", "missed", "next_at", "last_at", "last_graph", "runs"),
    *columns("problem", "graph", "created_at"),
)
Which = Annotated[str, typer.Argument(metavar="SCHEDULE", help="Its id, sched_…", autocompletion=SCHEDULES)]
app = noun("schedule", "Schedules: graphs and jobs begun again and again.")


@command(
    app,
    "create",
    examples=[
        'aitbc schedule create "30 2 * * *" report.yaml --zone Europe/Berlin --missed once',
        'aitbc schedule create "*/15 * * * *" job.json --job',
    ],
    changes=True,
)
def create(
    call: Call,
    cron: Annotated[str, typer.Argument(metavar="CRON", help="Minute, hour, day of month, month, day of week.")],
    file: Annotated[str, typer.Argument(metavar="FILE", help="The graph as YAML or JSON; - reads JSON.")],
    zone: Annotated[str, typer.Option("--zone", help="The time zone, such as Europe/Berlin.")] = "UTC",
    missed: Annotated[str, typer.Option("--missed", help="What was missed runs: skip, once or all.")] = "skip",
    name: Annotated[str | None, typer.Option("--name", help="What it is called.")] = None,
    job: Annotated[bool, typer.Option("--job", help="The file is a job, not a graph.")] = False,
) -> None:
    """Run a graph, or a job, at the times of a cron expression. Its jobs may name {{inputs.scheduled_at}}."""
    what = read_written(file, hint="docs/graphs.md has an example")
    body: dict[str, Any] = {"cron": cron, "time_zone": zone, "missed": missed, ("job" if job else "graph"): what}
    body |= {} if name is None else {"name": name}
    call.out.one(call.change("POST", PATH, body), BRIEF)


@command(app, "list", examples=["aitbc schedule list"], lists=True)
def list_schedules(call: Call) -> None:
    """List your schedules from the newest on."""
    call.list(PATH, BRIEF)


@command(app, "show", examples=["aitbc schedule show sched_01…"], ends=[NOT_FOUND])
def show(call: Call, schedule: Which) -> None:
    """Show a schedule; aitbc graph list --schedule shows what it began."""
    call.out.one(call.api.get(f"{PATH}/{part(schedule)}"), FULL)


@command(app, "pause", examples=["aitbc schedule pause sched_01…"], changes=True, ends=[NOT_FOUND, REFUSED])
def pause(call: Call, schedule: Which) -> None:
    """Begin nothing until it is resumed."""
    path = f"{PATH}/{part(schedule)}"
    call.out.one(call.change("POST", f"{path}/pause", natural=True, look=path), BRIEF)


@command(app, "resume", examples=["aitbc schedule resume sched_01…"], changes=True, ends=[NOT_FOUND, REFUSED])
def resume(call: Call, schedule: Which) -> None:
    """Go on with the times from now on."""
    path = f"{PATH}/{part(schedule)}"
    call.out.one(call.change("POST", f"{path}/resume", natural=True, look=path), BRIEF)


@command(app, "remove", examples=["aitbc schedule remove sched_01…"], changes=True, ends=[NOT_FOUND])
def remove(call: Call, schedule: Which) -> None:
    """Begin nothing by it any more; what runs goes on."""
    call.out.one(call.change("DELETE", f"{PATH}/{part(schedule)}", natural=True), BRIEF)
