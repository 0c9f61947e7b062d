"""Models that miners serve."""

from typing import Annotated

import typer

from aitbc_cli.command import Call, command, noun
from aitbc_cli.exits import NOT_FOUND, Stop
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


@command(app, "show", examples=["aitbc model show wordllama-256"], ends=[NOT_FOUND])
def show(call: Call, model: Annotated[str, typer.Argument(help="The model, as it is listed.")]) -> None:
    """Show what a model does, what a unit of it costs, and how many miners that are online serve it now."""
    found = [row for row in call.api.pages(PATH, None) if row["name"] == model]
    if not found:
        hint = "aitbc model list shows those that are served"
        raise Stop(f"no miner serves the model {model!r}", exit_code=NOT_FOUND, code="unknown_model", hint=hint)
    kinds = {kind["name"]: kind for kind in call.api.get("/api/v1/ai/kinds", public=True)["data"]}
    offers = [
        {**row, **{name: kinds[row["kind"]][name] for name in ("unit", "unit_price", "metering")}} for row in found
    ]
    call.out.rows(offers, columns("name", "kind", "unit", "unit_price", "miners", "slots"), name="name")
