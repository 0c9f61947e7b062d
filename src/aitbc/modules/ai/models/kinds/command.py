"""Programs that operators of miners allow by name."""

import math
from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta, Struct

from aitbc.modules.ai.models.kinds.kind import FileFacts, InvalidInput, Kind, Measure

ARGUMENTS_MAX = 64
STDIN_MAX = 512 * 1024


class CommandInput(Struct, frozen=True, forbid_unknown_fields=True):
    """A program by the name under which operators allow it, with arguments and standard input."""

    program: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,100}\Z", examples=["wc"])]
    """The name under which operators allow it."""
    arguments: Annotated[list[Annotated[str, Meta(max_length=4096)]], Meta(max_length=ARGUMENTS_MAX)] = []
    """Its arguments, without its name. For example `["-l"]`."""
    stdin: Annotated[str, Meta(max_length=STDIN_MAX)] | None = None
    """What it reads from its standard input. For example `one line`."""


class CommandOutput(Struct, frozen=True):
    """How the program ended, and what it wrote."""

    exit_code: int | None
    """How it ended; null where a signal ended it. For example `0`."""
    stdout: str
    """What it wrote. For example `1`."""
    stderr: str
    """What it wrote to its standard error; may be empty. For example `warning: old format`."""
    truncated: bool
    """Whether something of either was cut. For example `false`."""


class Command(Kind):
    """Metered by the time of the lease as the platform sees it."""

    name = "command"
    summary = "Runs a program that the miner's operator allowed, under limits of time, memory and output."
    unit = "second"
    metering = "One unit for each second begun between lease and result by the platform's clock, at most run_seconds."
    unit_price_units = 10_000
    input = CommandInput
    output = CommandOutput
    equality = "The same exit code and the same standard output, byte for byte; what goes to standard error may differ."
    takes_devices = True
    miner_may_blame = True  # its program's exit code is the work; to run it twice may do harm

    def measure(self, given: CommandInput, files: Mapping[str, FileFacts], *, run_seconds: int) -> Measure:
        """Nothing is known before the run but its longest time."""
        if any("\0" in text for text in (*given.arguments, given.stdin or "")):
            raise InvalidInput("Neither arguments nor standard input may hold a NUL character.")
        return Measure(units=0, units_max=run_seconds, program=given.program, expects={"run_seconds": run_seconds})

    def meter(self, output: CommandOutput, *, input_units: int, expects: Mapping[str, int], seconds: float) -> int:
        """Seconds begun, within the run clock."""
        return min(max(math.ceil(seconds), 1), expects["run_seconds"])

    def agrees(self, one: CommandOutput, other: CommandOutput) -> bool:
        """Exactly, but for standard error, where programs write times and paths."""
        return (one.exit_code, one.stdout, one.truncated) == (other.exit_code, other.stdout, other.truncated)

    def evidence(self, usage: Mapping[str, int], units: int, expects: Mapping[str, int]) -> str | None:
        """The miner cannot have run for longer than it had the lease."""
        pair = self.counts(usage, units, expects)
        if pair is None or pair[0] <= pair[1]:
            return None
        return f"The miner counted {pair[0]} milliseconds within a lease of {units} seconds."

    def counts(self, usage: Mapping[str, int], units: int, expects: Mapping[str, int]) -> tuple[int, int] | None:
        """Milliseconds, the second that was begun included."""
        return (usage["milliseconds"], (units + 1) * 1000) if "milliseconds" in usage else None
