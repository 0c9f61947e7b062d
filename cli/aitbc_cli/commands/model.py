"""Models that miners serve."""

from typing import Annotated

import typer

from aitbc_cli.command import Call, command, noun
from aitbc_cli.output import columns

PATH = "/api/v1/ai/models"
BRIEF = columns("name", "kind", "miners", "slots")
app = noun("model", "Models that miners serve.")


@command(app, "list", examples=["aitbc model list", "aitbc model list --kind chat --json"], lists=True)
def list_models(
    call: Call, kind: Annotated[str | None, typer.Option("--kind", help="Only those of this kind of work.")] = None
) -> None:
    """List the models that miners announce: what `--model` can name, and how many miners that are online serve it."""
    call.list(PATH, BRIEF, name="name", kind=kind)
