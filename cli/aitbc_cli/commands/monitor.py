"""Monitors: what is watched, how it stands, and when it is maintained."""

from typing import Annotated, Any

import typer

from aitbc_cli.client import part
from aitbc_cli.command import Call, command, noun
from aitbc_cli.exits import NOT_FOUND, usage
from aitbc_cli.id_completion import MONITORS
from aitbc_cli.output import Column, columns
from aitbc_cli.times import seconds_of

PATH = "/api/v1/monitoring"
Which = Annotated[str, typer.Argument(metavar="MONITOR", help="Its id, mon_…", autocompletion=MONITORS)]
BRIEF = (
    *columns("name", "state"),
    Column("SECONDS", "response_seconds", "number"),
    *columns("checked_at", "reason", "silenced_by", "origin", "id"),
)
FULL = columns(
    *("id", "name", "kind", "target", "origin", "state", "since", "checked_at", "response_seconds", "reason"),
    *("silenced_by", "parents", "interval_seconds", "timeout_seconds", "slow_seconds", "fall", "rise", "public"),
)
CREATED = (*FULL, *columns("push_token"))
TIMEOUT_SECONDS = 10.0
"""How long a look may take, where they are not more frequent than that."""
WINDOW = columns("id", "title", "state", "starts_at", "ends_at", "monitors", "origin")
OBJECTIVE = (
    *columns("name", "monitor", "work"),
    *(Column(head, field, "number") for head, field in (("TARGET", "target"), ("SHARE", "share"))),
    Column("BUDGET LEFT", "budget_left", "number"),
    Column("BURN 1H", "burn_rates.hour", "number"),
    Column("BURN 6H", "burn_rates.six_hours", "number"),
    *columns("is_burning"),
)
app = noun("monitor", "What is watched, and how it stands (admins).")


@command(app, "list", examples=["aitbc monitor list", "aitbc monitor list --wrong", "aitbc monitor list --json"])
def list_monitors(
    call: Call, wrong: Annotated[bool, typer.Option("--wrong", help="Only those that are not up.")] = False
) -> None:
    """List every monitor as it stands, with where it was declared."""
    rows = call.api.get(f"{PATH}/monitors")["data"]
    call.out.rows([row for row in rows if not wrong or row["state"] != "up"], BRIEF, name="name")


@command(app, "show", examples=["aitbc monitor show mon_01…"], ends=[NOT_FOUND])
def show(call: Call, monitor: Which) -> None:
    """Show a monitor."""
    call.out.one(call.api.get(f"{PATH}/monitors/{part(monitor)}"), FULL)


@command(
    app,
    "create",
    examples=[
        "aitbc monitor create site --http https://example.org/health --every 30s",
        "aitbc monitor create mail --tcp mail.example.org:443 --parent site",
        "aitbc monitor create nightly --push --every 24h",
    ],
    changes=True,
)
def create(
    call: Call,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name, in lower case.")],
    http: Annotated[str | None, typer.Option("--http", metavar="URL", help="Ask this URL.")] = None,
    tcp: Annotated[str | None, typer.Option("--tcp", metavar="HOST:PORT", help="Connect to this address.")] = None,
    push: Annotated[bool, typer.Option("--push", help="Wait for what is pushed here.")] = False,
    miners: Annotated[
        str | None, typer.Option("--miners", metavar="GROUP", help="Miners of a kind of work, or region:NAME.")
    ] = None,
    every: Annotated[str, typer.Option("--every", help="How often: 30s, 5m.")] = "60s",
    slow: Annotated[str | None, typer.Option("--slow", help="From what time on it is degraded: 2s.")] = None,
    parent: Annotated[list[str] | None, typer.Option("--parent", help="What it depends on; several times.")] = None,
    public: Annotated[bool, typer.Option("--public", help="Show it on the status page.")] = False,
) -> None:
    """Watch a URL, an address, a group of miners, or what is pushed here.

    The token of a push monitor is shown once.
    """
    given = {"http": http, "tcp": tcp, "push": "" if push else None, "miners": miners}
    chosen = {kind: target for kind, target in given.items() if target is not None}
    if len(chosen) != 1:
        raise usage("say one of --http, --tcp, --push and --miners")
    ((kind, target),) = chosen.items()
    body: dict[str, Any] = {"name": name, "kind": kind, "target": target, "interval_seconds": seconds_of(every)}
    body |= {
        "public": public,
        "parents": parent or [],
        "timeout_seconds": min(TIMEOUT_SECONDS, body["interval_seconds"]),
    }
    if slow is not None:
        body["slow_seconds"] = seconds_of(slow)
    call.out.one(call.change("POST", f"{PATH}/monitors", body), CREATED)


@command(app, "delete", examples=["aitbc monitor delete mon_01…"], changes=True, ends=[NOT_FOUND])
def delete(call: Call, monitor: Which) -> None:
    """Stop watching something that was declared over the API."""
    path = f"{PATH}/monitors/{part(monitor)}"
    call.confirm(f"Stop watching {monitor}?")
    call.out.one(call.change("DELETE", path, look=path), FULL)


@command(app, "history", examples=["aitbc monitor history mon_01… --by day"], ends=[NOT_FOUND])
def history(
    call: Call, monitor: Which, by: Annotated[str, typer.Option("--by", help="minute, hour or day.")] = "hour"
) -> None:
    """Show what the looks at a monitor found, oldest first."""
    numbers = ("up", "degraded", "down", "maintenance", "uptime", "average_seconds", "longest_seconds")
    shown = (
        Column("START", "start", "time"),
        *columns(*numbers, kind="number"),
    )
    call.out.rows(call.api.get(f"{PATH}/monitors/{part(monitor)}/history", by=by)["data"], shown, name="start")


@command(app, "changes", examples=["aitbc monitor changes", "aitbc monitor changes --monitor site"], lists=True)
def changes(
    call: Call,
    monitor: Annotated[str | None, typer.Option("--monitor", help="Only of this one, by id or name.")] = None,
) -> None:
    """List the changes of states, newest first."""
    call.list(f"{PATH}/changes", columns("at", "monitor", "before", "after", "reason"), monitor=monitor)


@command(app, "objectives", examples=["aitbc monitor objectives"])
def objectives(call: Call) -> None:
    """List the objectives with their error budgets and burn rates."""
    call.out.rows(call.api.get(f"{PATH}/objectives")["data"], OBJECTIVE, name="name")


@command(app, "maintenance", examples=["aitbc monitor maintenance"], lists=True)
def maintenance(call: Call) -> None:
    """List maintenance, the one planned last first."""
    call.list(f"{PATH}/maintenance", WINDOW)


@command(
    app,
    "plan",
    examples=['aitbc monitor plan "New disks" 2030-01-31T22:00:00Z 2030-01-31T23:00:00Z --monitor site'],
    changes=True,
)
def plan(
    call: Call,
    title: Annotated[str, typer.Argument(metavar="TITLE", help="What is done.")],
    starts: Annotated[str, typer.Argument(metavar="FROM", help="From when, as 2030-01-31T22:00:00Z.")],
    ends: Annotated[str, typer.Argument(metavar="UNTIL", help="Until when.")],
    monitor: Annotated[list[str] | None, typer.Option("--monitor", help="Which, by name; all without it.")] = None,
) -> None:
    """Plan maintenance: nobody is alarmed, and nothing counts as an outage."""
    body = {"title": title, "starts_at": starts, "ends_at": ends, "monitors": monitor or []}
    call.out.one(call.change("POST", f"{PATH}/maintenance", body), WINDOW)


@command(app, "cancel", examples=["aitbc monitor cancel mwin_01…"], changes=True, ends=[NOT_FOUND])
def cancel(
    call: Call, window: Annotated[str, typer.Argument(metavar="WINDOW", help="The maintenance, mwin_….")]
) -> None:
    """Call maintenance off, or end it now."""
    call.out.one(call.change("POST", f"{PATH}/maintenance/{part(window)}/cancel", natural=True), WINDOW)


@command(app, "upkeep", examples=["aitbc monitor upkeep cleanup", "aitbc monitor upkeep backup"], changes=True)
def upkeep(
    call: Call, action: Annotated[str, typer.Argument(metavar="ACTION", help="cleanup, reindex or backup.")]
) -> None:
    """Have the server clean up, rebuild its indexes, or back itself up."""
    done = call.change("POST", f"{PATH}/upkeep", {"action": action}, natural=True)
    call.out.one(done, columns("id", "action", "started_at", "ended_at", "result"))
