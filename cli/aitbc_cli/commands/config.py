"""Settings of server and command line."""

import os
from typing import Annotated, Any

import typer

from aitbc_cli.command import Call, command, noun
from aitbc_cli.exits import Stop
from aitbc_cli.output import columns

MASK = "********"
app = noun("config", "Settings, and where each comes from.")


@command(app, "show", examples=["aitbc config show --origin", "aitbc config show --live --origin"], server=True)
def show(
    call: Call,
    origin: Annotated[bool, typer.Option("--origin", help="With where each value comes from.")] = False,
    live: Annotated[bool, typer.Option("--live", help="What governance may change, as the server has it now.")] = False,
) -> None:
    """Show every setting of server and command line as they hold here; secrets are masked.

    Where the server is not installed, those of the command line. With --live it asks the server.
    """
    rows: list[dict[str, Any]] = [] if live else _client_rows(call)
    if live:
        found = call.api.get("/api/v1/governance/parameters")["data"]
        rows += [{"key": one["name"], "value": one["value"], "origin": one["origin"]} for one in found]
    elif _serves():
        from aitbc.server.config.loading import describe

        rows += [{"key": row.key, "value": row.value, "origin": row.origin} for row in describe(_loaded())]
    if not origin:
        rows = [{"key": row["key"], "value": row["value"]} for row in rows]
    call.out.rows(rows, columns("key", "value", "origin") if origin else columns("key", "value"), name="key")


@command(app, "validate", examples=["aitbc config validate"], server=True)
def validate(call: Call) -> None:
    """Check every source of settings; exit code 78 with source, setting and remedy where one cannot be used."""
    _client_rows(call)
    if _serves():
        _loaded()
    call.out.value({"ok": True}, "the configuration can be used", name="ok")


@command(app, "schema", examples=["aitbc config schema > aitbc.schema.json"], server=False, output=False)
def schema(call: Call) -> None:
    """Print the JSON Schema of a file of settings, for editors."""
    import json

    from aitbc.app import MODULES
    from aitbc.server.config.loading import schema as schema_of

    tables = {module.name: module.settings for module in MODULES if module.settings is not None}
    call.out.text(json.dumps(schema_of(tables, [module.name for module in MODULES]), indent=2))


def _client_rows(call: Call) -> list[dict[str, Any]]:
    where = call.where
    return [
        {"key": "client.url", "value": where.url, "origin": where.url_origin},
        {"key": "client.api_key", "value": MASK if where.key else "", "origin": where.key_origin},
        {"key": "client.profile", "value": where.profile or "", "origin": _profile_origin(call, where.profile)},
        {"key": "client.output", "value": os.environ.get("AITBC_OUTPUT") or "table", "origin": _origin("AITBC_OUTPUT")},
    ]


def _profile_origin(call: Call, profile: str | None) -> str:
    if call.options.profile is not None:
        return "flag"
    return "default" if profile is None else _origin("AITBC_PROFILE", otherwise="the user's file")


def _origin(variable: str, *, otherwise: str = "default") -> str:
    return variable if os.environ.get(variable) else otherwise


def _serves() -> bool:
    """Whether there are settings of a server to look at; says so where there are none."""
    from aitbc_cli.packages import has_server
    from aitbc_cli.terminal import say

    if has_server():
        return True
    say("the server is not installed here: these are the settings of the command line alone")
    return False


def _loaded() -> Any:
    """The server's settings. Raises `Stop` with exit code 78."""
    from aitbc.app import MODULES
    from aitbc.kernel.primitives.errors import ConfigError
    from aitbc.server.config.installation import settings_of

    try:
        return settings_of(MODULES, {})
    except ConfigError as error:
        raise Stop(error.message, exit_code=error.exit_code, code=error.code) from None
