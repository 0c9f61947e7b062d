"""Models that miners serve."""

from typing import Annotated

import typer

from aitbc_cli.client import part
from aitbc_cli.command import Call, command, noun
from aitbc_cli.exits import NOT_FOUND, Stop
from aitbc_cli.output import columns

PATH = "/api/v1/ai/models"
ALIASES = "/api/v1/ai/model-aliases"
ALIAS = columns("id", "name", "model", "for_all", "account")
BRIEF = columns("name", "kind", "miners", "slots", "context")
SHOWN = ("name", "kind", "unit", "unit_price", "miners", "slots", "context", "modalities", "quantizations", "digest")
app = noun("model", "Models that miners serve.")


@command(app, "list", examples=["aitbc model list", "aitbc model list --kind chat --json"], lists=True)
def list_models(
    call: Call, kind: Annotated[str | None, typer.Option("--kind", help="Only those of this kind of work.")] = None
) -> None:
    """List the models that miners announce: what `--model` can name, and how many miners that are online serve it."""
    call.list(PATH, BRIEF, name="name", kind=kind)


@command(
    app,
    "alias",
    examples=["aitbc model alias default llama-3-8b", "aitbc model alias default llama-3-8b --for-all"],
    changes=True,
)
def alias(
    call: Call,
    name: Annotated[str, typer.Argument(help="The name that you want to say.")],
    model: Annotated[str, typer.Argument(help="The model that it stands for, as it is listed.")],
    *,
    for_all: Annotated[bool, typer.Option("--for-all", help="For everybody (admins).")] = False,
) -> None:
    """Have a name stand for one model wherever you name one; set again it stands for another from then on."""
    body = {"name": name, "model": model, "for_all": for_all}
    call.out.one(call.change("POST", ALIASES, body, natural=True), ALIAS)


@command(app, "aliases", examples=["aitbc model aliases"], lists=True)
def aliases(call: Call) -> None:
    """List your aliases of models, and those that the operator set for all."""
    call.list(ALIASES, ALIAS)


@command(app, "unalias", examples=["aitbc model unalias mals_01…"], changes=True, ends=[NOT_FOUND])
def unalias(call: Call, alias: Annotated[str, typer.Argument(metavar="ALIAS", help="Its id, mals_…")]) -> None:
    """Have an alias stand for nothing any more; jobs that were submitted under it keep their model."""
    call.out.one(call.change("DELETE", f"{ALIASES}/{part(alias)}", natural=True), ALIAS)


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
    call.out.rows(offers, columns(*SHOWN), name="name")
