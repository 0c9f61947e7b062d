"""The devices of a miner as a table, with their newest readings."""

import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from aitbc_cli.command import Call
from aitbc_cli.output import Column, columns

WATCH_SECONDS = 5.0
Watch = Annotated[bool, typer.Option("--watch", help="Show it again every 5 seconds, until Ctrl-C.")]
DEVICES = (
    *columns("type", "index", "name", "driver_version"),
    Column("MIB", "memory_total_mib", "number"),
    Column("SELLABLE", "memory_sellable_mib", "number"),
    Column("USED", "memory_used_mib", "number"),
    Column("LOAD %", "utilization", "number"),
    Column("°C", "temperature_celsius", "number"),
    Column("WATTS", "power_watts", "number"),
    Column("BRAKES", "brake_reasons"),
    *columns("memory_is_shared", "rests", "fault"),
)


def show_devices(call: Call, miner: Mapping[str, Any]) -> None:
    """Show the devices of a miner below what was shown of it, for people that asked for no fields."""
    if call.out.is_for_people and not call.options.fields:
        call.out.text("")
        call.out.rows(miner["inventory"]["devices"], DEVICES)


def repeat(call: Call, show: Callable[[], None], *, again: bool) -> None:
    """Show something once or, where it is watched, again and again until Ctrl-C; on a terminal in the same place."""
    try:
        show()
        while again:
            call.out.stream.flush()
            time.sleep(WATCH_SECONDS)
            if call.out.is_for_people and call.out.stream.isatty():
                call.out.stream.write("\x1b[H\x1b[2J")
            else:
                call.out.text("")
            show()
    except KeyboardInterrupt:
        if not again:
            raise
