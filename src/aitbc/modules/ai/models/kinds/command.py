"""Programs that operators of miners allow by name."""

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta, Struct

from aitbc.modules.ai.models.kinds.kind import FileFacts, InvalidInput, Measure, TimedKind

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


class Command(TimedKind):
    """Metered by the time of the lease as the platform sees it."""

    name = "command"
    summary = "Runs a program that the miner's operator allowed, under limits of time, memory and output."
    input = CommandInput
    output = CommandOutput
    equality = "The same exit code and the same standard output, byte for byte; what goes to standard error may differ."

    def measure(self, given: CommandInput, files: Mapping[str, FileFacts], *, run_seconds: int) -> Measure:
        """Nothing is known before the run but its longest time."""
        if any("\0" in text for text in (*given.arguments, given.stdin or "")):
            raise InvalidInput("Neither arguments nor standard input may hold a NUL character.")
        return Measure(units=0, units_max=run_seconds, program=given.program, expects={"run_seconds": run_seconds})

    def agrees(self, one: CommandOutput, other: CommandOutput) -> bool:
        """Exactly, but for standard error, where programs write times and paths."""
        return (one.exit_code, one.stdout, one.truncated) == (other.exit_code, other.stdout, other.truncated)
