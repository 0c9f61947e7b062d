"""Alerts: what fires, and when somebody is told."""

from typing import Annotated, Any

import typer

from aitbc_cli.client import part
from aitbc_cli.command import Call, command, noun
from aitbc_cli.exits import NOT_FOUND, usage
from aitbc_cli.id_completion import RULES
from aitbc_cli.output import Column, columns
from aitbc_cli.times import seconds_of

ALERTS = "/api/v1/monitoring/alerts"
PATH = "/api/v1/monitoring/alert-rules"
SHOWN = columns("id", "state", "severity", "rule", "series", "reason", "fired_at", "cleared_at")
RULE = (
    *columns("name", "source", "target", "direction"),
    Column("FIRES AT", "fire_at", "number"),
    Column("CLEARS AT", "clear_at", "number"),
    *columns("for_seconds", "clear_seconds", "severity", "group", "origin", "id"),
)
app = noun("alert", "What fires, and when somebody is told (admins).")


@command(app, "list", examples=["aitbc alert list", "aitbc alert list --firing"], lists=True)
def list_alerts(
    call: Call, firing: Annotated[bool, typer.Option("--firing", help="Only those that are not cleared.")] = False
) -> None:
    """List alerts, newest first."""
    call.list(ALERTS, SHOWN, firing="true" if firing else None)


@command(app, "rules", examples=["aitbc alert rules"])
def rules(call: Call) -> None:
    """List every rule with where it was declared."""
    call.out.rows(call.api.get(PATH)["data"], RULE, name="name")


@command(
    app,
    "create",
    examples=[
        "aitbc alert create site-down --monitor site --severity critical",
        "aitbc alert create queue --figure 'aitbc_jobs{state=\"queued\"}' --above 100 --clear 50 --for 5m",
    ],
    changes=True,
)
def create(
    call: Call,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name, in lower case.")],
    monitor: Annotated[str | None, typer.Option("--monitor", help="A monitor by its name, or '*' for each.")] = None,
    figure: Annotated[str | None, typer.Option("--figure", help="A metric, as /metrics shows it.")] = None,
    event: Annotated[str | None, typer.Option("--event", help="A type of event.")] = None,
    objective: Annotated[str | None, typer.Option("--objective", help="An objective whose budget burns.")] = None,
    above: Annotated[float | None, typer.Option("--above", help="Values above this are bad.")] = None,
    below: Annotated[float | None, typer.Option("--below", help="Values below this are bad.")] = None,
    clear: Annotated[float | None, typer.Option("--clear", help="From here on it is good again.")] = None,
    lasting: Annotated[str, typer.Option("--for", help="How long it must be bad: 60s.")] = "60s",
    severity: Annotated[str, typer.Option("--severity", help="info, warning or critical.")] = "warning",
) -> None:
    """Declare when somebody is to be told; it holds at once."""
    sources = {"monitor": monitor, "figure": figure, "event": event, "objective": objective}
    chosen = {source: target for source, target in sources.items() if target is not None}
    if len(chosen) != 1 or (above is not None and below is not None):
        raise usage("say one of --monitor, --figure, --event and --objective, and --above or --below")
    ((source, target),) = chosen.items()
    body: dict[str, Any] = {"name": name, "source": source, "target": target, "severity": severity}
    body["for_seconds"] = seconds_of(lasting)
    usual = {"objective": 0.5, "monitor": 1.5}.get(source)
    threshold = above if above is not None else below if below is not None else usual
    if threshold is None:
        raise usage("say --above or --below")
    body |= {"direction": "above" if below is None else "below", "fire_at": threshold}
    if clear is not None:
        body["clear_at"] = clear
    call.out.one(call.change("POST", PATH, body), RULE)


@command(app, "delete", examples=["aitbc alert delete arul_01…"], changes=True, ends=[NOT_FOUND])
def delete(
    call: Call, rule: Annotated[str, typer.Argument(metavar="RULE", help="Its id, arul_…", autocompletion=RULES)]
) -> None:
    """Delete a rule that was declared over the API; its alerts are cleared."""
    call.confirm(f"Delete the rule {rule}?")
    call.out.one(call.change("DELETE", f"{PATH}/{part(rule)}"), RULE)
