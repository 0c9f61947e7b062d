"""The market as tools for language models, over MCP."""

from typing import Annotated

import typer

from aitbc_cli.command import Call, command, noun
from aitbc_cli.exits import CONFIGURATION, Stop, usage

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
"""Where MCP's server also refuses what pages of other sites send by way of a browser."""
TUNNEL = "listen on 127.0.0.1, and let others in by a tunnel that knows them, such as ssh -L"
app = noun("mcp", "The market as tools for language models (MCP).")


@command(
    app,
    "serve",
    examples=["aitbc mcp serve", "aitbc mcp serve --budget 2", "aitbc mcp serve --http 127.0.0.1:8765"],
    output=False,
)
def serve(
    call: Call,
    budget: Annotated[
        str | None,
        typer.Option("--budget", help="What models may spend, in AITBC, until this ends; nothing when left out."),
    ] = None,
    http: Annotated[
        str | None,
        typer.Option("--http", metavar="HOST:PORT", help="Serve HTTP at /mcp, in place of stdin and stdout."),
    ] = None,
) -> int:
    """Offer tools that look: search, quotes, status, explanations and results. With --budget also tools that spend.

    Over HTTP whoever can reach the port acts with your key, so that it listens on this machine only.
    """
    from aitbc_cli.packages import PROGRAM, install, is_installed

    if not is_installed("mcp"):
        raise Stop(
            "this needs the package mcp, which is not installed here",
            exit_code=CONFIGURATION,
            code="mcp_not_installed",
            hint=f"run: {install([f'{PROGRAM}[mcp]'])}",
        )
    from aitbc_cli.mcp_tools import serve_tools

    host, _, port = (http or "").rpartition(":")
    if http is not None and not (host and port.isdigit() and int(port) <= 65_535):
        raise usage(f"--http {http!r} is not HOST:PORT", hint="for instance 127.0.0.1:8765")
    if host and host.strip("[]") not in LOOPBACK:
        raise usage(f"--http {host} can be reached from elsewhere, and who reaches it acts with your key", hint=TUNNEL)
    call.api.get("/api/v1/identity/keys/self")  # a server that is not there, or a wrong key, is said before anything
    serve_tools(call.where, budget, (host.strip("[]"), int(port)) if http is not None else None)
    return 0
