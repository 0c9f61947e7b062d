"""The devices of a miner as a table, with their newest readings."""

from collections.abc import Mapping
from typing import Any

from aitbc_cli.command import Call
from aitbc_cli.output import Column, columns

DEVICES = (
    *columns("type", "index", "name", "driver_version"),
    Column("MIB", "memory_total_mib", "number"),
    Column("SELLABLE", "memory_sellable_mib", "number"),
    Column("USED", "memory_used_mib", "number"),
    Column("LOAD %", "utilization", "number"),
    Column("°C", "temperature_celsius", "number"),
    Column("WATTS", "power_watts", "number"),
    Column("BRAKES", "brake_reasons"),
    *columns("memory_is_shared", "fault"),
)


def show_devices(call: Call, miner: Mapping[str, Any]) -> None:
    """Show the devices of a miner below what was shown of it, for people that asked for no fields."""
    if call.out.is_for_people and not call.options.fields:
        call.out.text("")
        call.out.rows(miner["inventory"]["devices"], DEVICES)
