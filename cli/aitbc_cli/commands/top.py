"""One live screen: what is wrong, the parts of the installation, and the miners; plain, or with Textual where it is."""

import time
from typing import Annotated, Any

import typer

from aitbc_cli.command import Call, command, noun
from aitbc_cli.output import Column, columns
from aitbc_cli.terminal import is_lively
from aitbc_cli.times import seconds_of

PATH = "/api/v1/monitoring"
CLEAR = "\x1b[H\x1b[2J"
SHOWN = (*columns("name", "state"), Column("SECONDS", "response_seconds", "number"), *columns("reason", "silenced_by"))
ALERTS = columns("severity", "rule", "reason", "fired_at")
app = noun("top", "A live screen: what is wrong, and how everything stands (admins).", alone=True)


@command(app, "top", examples=["aitbc top", "aitbc top --every 5s", "aitbc top --once --json"])
def top(
    call: Call,
    every: Annotated[str, typer.Option("--every", help="How often it looks: 2s.")] = "2s",
    once: Annotated[bool, typer.Option("--once", help="Look once, and end.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Without Textual, also where it is installed.")] = False,
) -> None:
    """Show what is wrong and how every part stands, again and again; Ctrl-C ends it.

    Where its output is no terminal it looks once. With Textual (`pip install 'aitbc[top]'`) it is a screen with keys:
    `q` ends it, `w` leaves out what is up.
    """
    pause = max(0.5, seconds_of(every))
    if once or not call.out.is_for_people or not is_lively(call.out.stream):
        _show(call, _read(call))
        return
    if not plain and (screen := _screen()) is not None:
        _read(call)  # what is wrong from the beginning ends the command as ever
        screen(lambda: _read(call), pause).run()
        return
    _repeat(call, pause)


def _screen() -> Any:
    """The screen of Textual, or none where it is not installed."""
    try:
        from aitbc_cli.top_screen import TopScreen
    except ImportError:
        return None
    return TopScreen


def _repeat(call: Call, pause: float) -> None:
    """The plain screen: written anew each time."""
    try:
        while True:
            seen = _read(call)
            call.out.stream.write(CLEAR)
            _show(call, seen)
            call.out.stream.flush()
            time.sleep(pause)
    except KeyboardInterrupt:
        return


def _read(call: Call) -> dict[str, Any]:
    overview = call.api.get(f"{PATH}/overview")
    return {"overview": overview, "monitors": call.api.get(f"{PATH}/monitors")["data"]}


def _show(call: Call, seen: dict[str, Any]) -> None:
    overview = seen["overview"]
    if not call.out.is_for_people:
        call.out.value({**overview, "monitors": seen["monitors"]}, overview["state"])
        return
    counts = ", ".join(f"{count} {state}" for state, count in overview["counts"].items() if count)
    call.out.text(f"{overview['state'].upper()}   {counts}   {overview['at']}\n")
    if overview["alerts"]:
        call.out.rows(overview["alerts"], ALERTS)
        call.out.text("")
    call.out.rows(seen["monitors"], SHOWN, name="name")
