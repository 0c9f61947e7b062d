"""Webhooks."""

from typing import Annotated, Any

import typer

from aitbc_cli.client import part
from aitbc_cli.command import Call, command, noun
from aitbc_cli.exits import FAILED, NOT_FOUND, REFUSED
from aitbc_cli.id_completion import DELIVERIES, ENDPOINTS
from aitbc_cli.output import Column, columns
from aitbc_cli.terminal import progress, say
from aitbc_cli.times import seconds_of

PATH = "/api/v1/webhooks/endpoints"
LOG = "/api/v1/webhooks/deliveries"
SHOWN = columns("id", "url", "events", "enabled", "disabled_reason", "failing_since", "created_at")
SENT = (
    *columns("id", "endpoint", "type", "state"),
    Column("TRIES", "attempts", "number"),
    *columns("status", "error", "created_at", "next_attempt_at"),
)
TEST_SECONDS = 20.0
"""How long to look whether a test message arrives: a receiver gets 15 seconds."""
LOOK_SECONDS = 0.2
EndpointId = Annotated[
    str, typer.Argument(metavar="ENDPOINT", help="The endpoint's id, hook_…", autocompletion=ENDPOINTS)
]
DeliveryId = Annotated[
    str, typer.Argument(metavar="DELIVERY", help="The delivery's id, dlv_…", autocompletion=DELIVERIES)
]
SaveTo = Annotated[
    str | None, typer.Option("--save", metavar="FILE", help="Write the secret here, readable by you only.")
]
app = noun(
    "webhook", "Webhooks: signed messages about your jobs to a URL of yours; see what was sent, and send it again."
)


@command(
    app,
    "create",
    examples=[
        "aitbc webhook create https://hooks.example/aitbc --save hook.secret",
        "aitbc webhook create https://hooks.example/aitbc --event ai.job_succeeded --description CI",
    ],
    changes=True,
)
def create(
    call: Call,
    receiver: Annotated[str, typer.Argument(metavar="URL", help="Where messages are sent, https://…")],
    event: Annotated[
        list[str] | None,
        typer.Option("--event", metavar="TYPE", help="A type to be sent; again for more. All without."),
    ] = None,
    description: Annotated[str | None, typer.Option("--description", help="What people know it by.")] = None,
    save: SaveTo = None,
) -> None:
    """Send your events to a URL. The secret that signs them is printed this one time, or written to a file."""
    body: dict[str, Any] = {"url": receiver, "events": event or [], "description": description or ""}
    _hand_over(call, call.change("POST", PATH, body), save)


@command(app, "list", examples=["aitbc webhook list", "aitbc webhook list --json --fields id,url,enabled"], lists=True)
def list_endpoints(call: Call) -> None:
    """List endpoints from the newest on."""
    call.list(PATH, SHOWN)


@command(app, "show", examples=["aitbc webhook show hook_01…"], ends=[NOT_FOUND])
def show(call: Call, endpoint: EndpointId) -> None:
    """Show an endpoint: which events it gets, whether it takes them, and why it is disabled if it is."""
    call.out.one(call.api.get(f"{PATH}/{part(endpoint)}"), (*SHOWN, *columns("description", "previous_secret_until")))


@command(app, "enable", examples=["aitbc webhook enable hook_01…"], changes=True, ends=[NOT_FOUND])
def enable(call: Call, endpoint: EndpointId) -> None:
    """Send to an endpoint again, what waited for it too."""
    call.out.one(call.change("POST", f"{PATH}/{part(endpoint)}/enable", natural=True), SHOWN)


@command(app, "disable", examples=["aitbc webhook disable hook_01…"], changes=True, ends=[NOT_FOUND])
def disable(call: Call, endpoint: EndpointId) -> None:
    """Send nothing more to an endpoint, and keep nothing for it, until it is enabled."""
    call.out.one(call.change("POST", f"{PATH}/{part(endpoint)}/disable", natural=True), SHOWN)


@command(app, "delete", examples=["aitbc webhook delete hook_01… --yes"], changes=True, ends=[NOT_FOUND])
def delete(call: Call, endpoint: EndpointId) -> None:
    """Delete an endpoint with its log."""
    call.confirm(f"Delete {endpoint} with its log? What waits for it is not sent.")
    call.out.one(call.change("DELETE", f"{PATH}/{part(endpoint)}"), SHOWN)


@command(
    app,
    "rotate",
    examples=["aitbc webhook rotate hook_01… --save new.secret --overlap 1h"],
    changes=True,
    ends=[NOT_FOUND],
)
def rotate(
    call: Call,
    endpoint: EndpointId,
    overlap: Annotated[str, typer.Option("--overlap", metavar="TIME", help="How long the old one signs too.")] = "24h",
    save: SaveTo = None,
) -> None:
    """Make a new secret for an endpoint; until the overlap ends, messages are signed with both."""
    body = {"overlap_seconds": round(seconds_of(overlap))}
    _hand_over(call, call.change("POST", f"{PATH}/{part(endpoint)}/rotate", body), save)


@command(app, "test", examples=["aitbc webhook test hook_01…"], changes=True, ends=[NOT_FOUND, REFUSED])
def test(call: Call, endpoint: EndpointId) -> int | None:
    """Send a test message to an endpoint, and say whether it was taken."""
    import time

    sent = call.change("POST", f"{PATH}/{part(endpoint)}/test")
    end = time.monotonic() + TEST_SECONDS
    with progress("waiting for the receiver"):
        while sent["attempted_at"] is None and time.monotonic() < end:
            time.sleep(LOOK_SECONDS)
            sent = call.api.get(f"{LOG}/{part(sent['id'])}")
    call.out.one(sent, SENT)
    if sent["state"] == "delivered":
        return None
    say(f"not taken: {sent['error'] or 'nobody has tried yet'}")
    return FAILED


@command(
    app,
    "deliveries",
    examples=["aitbc webhook deliveries --state dead", "aitbc webhook deliveries --endpoint hook_01… --json"],
    lists=True,
)
def deliveries(
    call: Call,
    endpoint: Annotated[
        str | None, typer.Option("--endpoint", help="Only those to this one.", autocompletion=ENDPOINTS)
    ] = None,
    state: Annotated[str | None, typer.Option("--state", "--status", help="pending, delivered or dead.")] = None,
) -> None:
    """List what was sent from the newest on, and what came of it."""
    call.list(LOG, SENT, endpoint=endpoint, state=state)


@command(app, "replay", examples=["aitbc webhook replay dlv_01…"], changes=True, ends=[NOT_FOUND, REFUSED])
def replay(call: Call, delivery: DeliveryId) -> None:
    """Send a message again, under the same id; one that still waits is sent now."""
    call.out.one(call.change("POST", f"{LOG}/{part(delivery)}/replay"), SENT)


def _hand_over(call: Call, issued: dict[str, Any], save: str | None) -> None:
    """Give the secret to its owner: on standard output, or in a file that nobody else can read."""
    if save is not None:
        from aitbc_cli import files

        files.save(save, [f"{issued['secret']}\n".encode()], private=True)
        issued = {name: value for name, value in issued.items() if name != "secret"}
        say(f"the secret is in {save}")
        call.out.one(issued, SHOWN)
        return
    call.out.one(issued, (*SHOWN[:4], *columns("secret")))
    say("this secret is not shown again")
