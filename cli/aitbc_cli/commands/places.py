"""Which process serves which module."""

from aitbc_cli.command import Call, command, noun
from aitbc_cli.output import columns

app = noun("places", "Which process serves which module, and on which ports.", alone=True)


@command(app, "places", examples=["aitbc places", "aitbc places --json"])
def places(call: Call) -> None:
    """Show for every module the process that serves it and its ports beside the gateway's, asked of the
    processes now."""
    call.out.rows(
        call.api.get("/api/v1/operations/places")["data"],
        columns("module", "process", "answers", "pid", "ports", "trusting", "version", "started_at", "reason"),
        name="module",
    )
