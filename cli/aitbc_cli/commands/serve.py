"""The server, in this process."""

import gc
from pathlib import Path
from typing import Annotated, Any

import typer

from aitbc_cli.command import Call, command, noun
from aitbc_cli.exits import usage

SECRETS = ("url", "secret_key", "password")
app = noun("serve", "Serve the whole platform in this process.", alone=True)


@command(
    app,
    "serve",
    examples=[
        "aitbc serve",
        "aitbc serve --port 9000 --log-level debug",
        "aitbc serve --set server.drain_seconds=5 --set trading.faucet=true",
        "aitbc serve --expose all",
        "aitbc serve --split gpu,ai",
        "aitbc serve gpu",
    ],
    server=False,
    output=False,
)
def serve(
    call: Call,
    module: Annotated[
        str | None,
        typer.Argument(metavar="[MODULE]", help="Only this module, which is split out, under your own supervisor."),
    ] = None,
    host: Annotated[str | None, typer.Option("--host", help="Where to listen; loopback unless set.")] = None,
    port: Annotated[int | None, typer.Option("--port", min=0, max=65_535, help="0 takes any free one.")] = None,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="One more file of settings, before all others.")
    ] = None,
    log_level: Annotated[str | None, typer.Option("--log-level", help="debug, info, warning or error.")] = None,
    plain_http: Annotated[
        bool, typer.Option("--i-accept-plain-http", help="Listen beyond loopback without TLS: keys can be read.")
    ] = False,
    expose: Annotated[
        str | None, typer.Option("--expose", metavar="A,B", help="Modules with a port of their own too; all for all.")
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", metavar="A,B", help="Modules in a process of their own; all for all.")
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any setting; again for more.")
    ] = None,
) -> int:
    """Serve the whole platform until a signal: the API, the embedded database, everything;
    or one module that is split out.

    Settings come from flags, AITBC_* variables, ./aitbc.toml, the user's and the system's file: `aitbc config show
    --origin`. SIGTERM and Ctrl-C let requests end; a second one ends at once.
    """
    flags: dict[str, Any] = {"server.host": host, "server.port": port, "log.level": log_level}
    flags["server.i_accept_plain_http"] = True if plain_http else None
    flags |= _placed("exposed", expose) | _placed("split", split)
    for each in setting or ():
        name, found, value = each.partition("=")
        if not found:
            raise usage(f"{each!r} sets nothing", hint="--set server.drain_seconds=5")
        if name.rpartition(".")[2] in SECRETS:
            raise usage(
                f"{name} is a secret, and arguments can be read by everybody on this machine",
                hint=f"set AITBC_{name.replace('.', '__').upper()}, or {name}_file",
            )
        flags[name] = value
    given: dict[str, Any] = {name: value for name, value in flags.items() if value is not None}
    if config is not None:
        given["config"] = str(config)
    gc.disable()  # nothing of what is loaded now is garbage; the server has it looked for again
    from aitbc.app import serve as serve_all

    return serve_all(given) if module is None else serve_all(given, module)


def _placed(place: str, names: str | None) -> dict[str, Any]:
    """The settings that put these modules in a place."""
    if names is None:
        return {}
    if names == "all":
        from aitbc.app import MODULES

        names = ",".join(module.name for module in MODULES)
    return {f"modules.{name.strip()}.place": place for name in names.split(",")}
