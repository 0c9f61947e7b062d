"""What a kind of work is: the shape of its input and output, its meter, its price and its limits."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec
from msgspec import Struct

from aitbc.kernel.primitives.errors import FieldError, Invalid

INPUT_BYTES_MAX = 1024 * 1024
"""The most an input may weigh as JSON; larger things are artifacts."""


EXCESS_SHARE = 1.25
EXCESS_COUNT = 16
"""A miner that counted more than this share of what the platform counted, and so many units above it, counted too
much."""


class InvalidInput(Invalid):
    """The input does not fit this kind of work."""

    code = "invalid_input"


class OutputRefused(Exception):
    """A miner's output has not the shape that its kind promises; the message says where."""


class Reference(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A file that was uploaded before, in place of a value."""

    artifact: str
    """The uploaded file. For example `art_01k0000000000000000000000a`."""
    digest: str | None = None
    """SHA-256 of its content, to be checked; may be left out. For example
    `sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08`."""
    bytes: int | None = None
    """Its size in bytes, to be checked; may be left out. For example `48213`."""


class FileFacts(Struct, frozen=True, kw_only=True):
    """What the platform knows of a file that an input refers to."""

    artifact: str
    digest: str
    size: int
    head: bytes
    """Its beginning: enough for the header of a picture."""


class Measure(Struct, frozen=True, kw_only=True):
    """What the platform counted of an input, and what it therefore expects."""

    units: int
    """What the input alone is metered at."""
    units_max: int
    """The most that input and output together can be metered at."""
    model: str | None = None
    program: str | None = None
    context: int = 0
    """How many tokens the model must take at least."""
    pictures: bool = False
    """Whether the model must take pictures."""
    expects: dict[str, int] = {}
    """Numbers that the output is held against."""


class Kind:
    """One kind of work.

    Its meter counts what the platform itself sees: a miner's count is evidence, never the price.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    unit: ClassVar[str]
    metering: ClassVar[str]
    """The metering rule in one sentence, for people."""
    unit_price_units: ClassVar[int]
    """The price of one unit in minor units of money, unless the settings say otherwise."""
    input: ClassVar[type[Struct]]
    output: ClassVar[type[Struct]]
    miner_may_blame: ClassVar[bool] = False
    """Whether one miner is believed when it blames the request; else a second one, of another account, must agree."""
    fastest: ClassVar[float | None] = None
    """How many units a second are believed at most of one job, whatever was measured; none for what is paid by time."""
    takes_devices: ClassVar[bool] = False
    """Whether its work runs on GPUs of its own, which a lease binds; else on whatever its miner serves it with."""
    equality: ClassVar[str | None] = None
    """When two outputs agree, in one sentence; none for a kind whose honest outputs cannot be compared."""
    is_evaluated: ClassVar[bool] = False
    """Whether a trusted miner checks an output by evaluating it, as honest outputs differ, not by one of its own."""
    streams: ClassVar[bool] = False
    """Whether the output may be streamed in parts, as text; such work can be finished early."""

    def read(self, value: Any) -> Any:
        """The input as its struct. Raises `InvalidInput` with the place of what is wrong."""
        try:
            return msgspec.convert(value, self.input, strict=True)
        except msgspec.ValidationError as error:
            raise _refusal(error) from None

    def references(self, given: Any) -> Mapping[str, Reference]:
        """The files that an input refers to, by field."""
        return {}

    def is_impossible(self, given: Any, files: Mapping[str, bytes]) -> bool:
        """Whether a closer look than submission takes finds that nobody can do this.

        For an input that a miner blames.
        """
        return False

    def measure(self, given: Any, files: Mapping[str, FileFacts], *, run_seconds: int) -> Measure:
        """Count an input. Raises `InvalidInput` for what the struct cannot say."""
        raise NotImplementedError

    def read_output(self, value: Any) -> Any:
        """The output as its struct. Raises `OutputRefused`."""
        try:
            return msgspec.convert(value, self.output, strict=True)
        except (msgspec.ValidationError, RecursionError) as error:
            raise OutputRefused(str(error)) from None

    def meter(self, output: Any, *, input_units: int, expects: Mapping[str, int], seconds: float) -> int:
        """The units of a finished job. Raises `OutputRefused` for an output that cannot belong to the input."""
        raise NotImplementedError

    def evidence(self, usage: Mapping[str, int], units: int, expects: Mapping[str, int]) -> str | None:
        """Where the miner's count differs from the platform's, in one sentence; none where they agree."""
        return None

    def counts(self, usage: Mapping[str, int], units: int, expects: Mapping[str, int]) -> tuple[int, int] | None:
        """What the miner counted and the most that the platform can make of it.

        None where there is nothing to compare.
        """
        return None

    def is_overcounted(self, usage: Mapping[str, int], units: int, expects: Mapping[str, int]) -> bool:
        """Whether the miner counted so much more than the platform that no rounding explains it."""
        pair = self.counts(usage, units, expects)
        return pair is not None and pair[0] > pair[1] * EXCESS_SHARE + EXCESS_COUNT

    def made(self, units: int, expects: Mapping[str, int]) -> int:
        """How many of the units a miner worked for: all, unless some are counted of the input alone."""
        return units

    def agrees(self, one: Any, other: Any) -> bool:
        """Whether two outputs for one input are equal, as far as those of honest miners are; see `equality`."""
        raise NotImplementedError

    def model_of(self, output: Any) -> str | None:
        """The model that made an output, as its miner says; none where that is not said."""
        return None

    def text_of(self, output: Any) -> str:
        """The text of an output that may be streamed in parts."""
        raise NotImplementedError


class TimedKind(Kind):
    """A kind that is paid by time: by that of the lease as the platform sees it."""

    unit = "second"
    metering = "One unit for each second begun between lease and result by the platform's clock, at most run_seconds."
    unit_price_units = 10_000
    takes_devices = True
    miner_may_blame = True  # its program's exit code is the work; to run it twice may do harm

    def meter(self, output: Any, *, input_units: int, expects: Mapping[str, int], seconds: float) -> int:
        """Seconds begun, within the run clock."""
        return min(max(math.ceil(seconds), 1), expects["run_seconds"])

    def evidence(self, usage: Mapping[str, int], units: int, expects: Mapping[str, int]) -> str | None:
        """The miner cannot have run for longer than it had the lease."""
        pair = self.counts(usage, units, expects)
        if pair is None or pair[0] <= pair[1]:
            return None
        return f"The miner counted {pair[0]} milliseconds within a lease of {units} seconds."

    def counts(self, usage: Mapping[str, int], units: int, expects: Mapping[str, int]) -> tuple[int, int] | None:
        """Milliseconds, the second that was begun included."""
        return (usage["milliseconds"], (units + 1) * 1000) if "milliseconds" in usage else None


def is_same_model(one: str, other: str) -> bool:
    """Whether two names are of one model: equal, but for the tag that some servers add where none is named."""
    return one.removesuffix(":latest") == other.removesuffix(":latest")


def _refusal(error: msgspec.ValidationError) -> InvalidInput:
    message, _, path = str(error).partition(" - at `$")
    pointer = "/input" + path.rstrip("`").replace("[...]", "/*").replace(".", "/").replace("[", "/").replace("]", "")
    return InvalidInput(f"{message} (at {pointer})", fields=(FieldError(pointer, message),))
