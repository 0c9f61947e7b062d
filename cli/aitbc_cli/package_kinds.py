"""Kinds of work that packages of the server add: submitted by their names, with fields as the server describes them."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from aitbc_cli.command import Call, Group, command, noun
from aitbc_cli.exits import NOT_FOUND, Stop, usage

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)+", re.ASCII)
"""With a dash, as no kind of the platform's own has it."""
KINDS = "/api/v1/ai/kinds"


class KindGroup(Group):
    """The kinds of the platform, and for each other name that could be one the command that submits it."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of a kind."""
        found = super().get_command(ctx, cmd_name)
        if found is None and NAME.fullmatch(cmd_name):
            found = typer.main.get_command(_of(cmd_name))
            found.name = cmd_name
        return found


def _of(kind: str) -> typer.Typer:
    """The command that submits a kind, which the server may know or not."""
    from aitbc_cli.commands import job_submit as jobs
    from aitbc_cli.job_inputs import value_of

    app = noun(kind, "", alone=True)

    def submit(
        call: Call,
        field: Annotated[
            list[str] | None,
            typer.Option("--set", metavar="FIELD=VALUE", help="A field of the input; again for more."),
        ] = None,
        input: jobs.Input = None,  # noqa: A002 - the option's name
        max_price: jobs.MaxPrice = None,
        prefer: jobs.Prefer = None,
        verify: jobs.Verify = None,
        wait: jobs.Wait = False,
        out: jobs.Out = None,
        priority: jobs.Priority = None,
        device: jobs.Device = None,
        gpu_model: jobs.GpuModel = None,
        min_vram: jobs.MinVram = None,
        region: jobs.Region = None,
        attempts: jobs.Attempts = None,
        retry_failures: jobs.Retry = False,
        clock: jobs.Clock = None,
    ) -> int:
        terms = jobs.terms_of(locals())
        fields = _fields(call, kind, field) if field else None
        return jobs.submit(call, kind, value_of(input, "--set", fields), terms)

    submit.__doc__ = f"Submit a job of the kind {kind}, which a package of the server adds."
    examples = [
        f"aitbc job submit {kind} --set text=hello --max-price 0.05 --wait",
        f"aitbc job submit {kind} --input input.json --max-price 0.05 --dry-run",
    ]
    command(app, kind, examples=examples, changes=True, ends=[NOT_FOUND])(submit)
    return app


def _fields(call: Call, kind: str, given: Sequence[str]) -> dict[str, Any]:
    """Fields of an input, each of the type that the kind's schema says. Raises `Stop`."""
    known = {one["name"]: one for one in call.api.get(KINDS, public=True)["data"]}
    if kind not in known:
        raise Stop(
            f"there is no kind {kind!r}", exit_code=NOT_FOUND, code="unknown_kind", hint=f"one of {', '.join(known)}"
        )
    schemas = _properties(known[kind]["input_schema"])
    found = {}
    for each in given:
        name, is_there, text = each.partition("=")
        if not is_there or name not in schemas:
            raise usage(f"{each!r} sets no field of {kind}", hint=f"one of {', '.join(f'{one}=…' for one in schemas)}")
        found[name] = _read(name, text, schemas[name])
    return found


def _properties(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields of an input's schema."""
    if "$ref" in schema:
        schema = schema["$defs"][schema["$ref"].rpartition("/")[2]]
    found: Mapping[str, Any] = schema.get("properties", {})
    return found


def _read(name: str, text: str, schema: Mapping[str, Any]) -> Any:
    """A text where the field is one, else JSON. Raises a usage error."""
    if "string" in {schema.get("type"), *(one.get("type") for one in schema.get("anyOf", ()))}:
        return text
    try:
        return json.loads(text)
    except ValueError:
        raise usage(f"{name} takes JSON", hint=f"a {schema.get('type', 'value')}: --set {name}='…'") from None
