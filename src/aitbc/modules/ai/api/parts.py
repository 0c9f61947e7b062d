"""What a miner tells of a job while it works on it: log lines, and pieces of the output."""

from datetime import datetime
from typing import Annotated

from msgspec import Struct

from aitbc.kernel.primitives.json_schema import one_of

Liveness = Annotated[str, one_of(("live", "stop", "canceled", "lost"))]


class LogLine(Struct, frozen=True, kw_only=True):
    """One line of a job's log; `sequence` counts from 1 within an attempt, so that a repeated line is known."""

    sequence: int
    at: datetime
    text: str


class Part(Struct, frozen=True, kw_only=True):
    """A piece of an output's text; `sequence` counts from 1 within an attempt, so that a repeated piece is known."""

    sequence: int
    text: str


class Parts(Struct, frozen=True, kw_only=True):
    """What a miner streams of an output while it is made; without any part it only asks whether to go on."""

    miner: str
    attempt: str
    token: int
    parts: tuple[Part, ...] = ()
    may_wait: bool = False
    """Whether they may be stored a moment later, with what follows; the miner holds on to them until it hears that they
    are."""


class PartsKept(Struct, frozen=True, kw_only=True):
    """How far the parts of an attempt are kept, and whether the work should go on."""

    status: Liveness
    """`live`; `stop` (nothing more is kept: deliver the parts up to `kept` as the result); `canceled`; or `lost`."""
    kept: int
    """The highest sequence that is stored."""
    heard: int
    """The highest sequence that came, stored or soon to be: send what follows, and hold on to what is not `kept`."""


class ManyPartsKept(PartsKept, frozen=True, kw_only=True):
    """The same for one of several outputs that were told of together."""

    refused: str | None = None
    """The code of the error that the parts of this one were refused with."""
