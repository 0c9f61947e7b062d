"""What came of a step: every kind of step is done by a worker that answers one of these."""

from datetime import datetime
from typing import Protocol

from msgspec import Struct

from aitbc.kernel.primitives.errors import AppError, TooMany, Unavailable
from aitbc.modules.hermes.models.tables import RunRow, StepRow

AGAIN_SECONDS = 5.0
"""When something that others cannot do now is tried again."""


PAUSE_SECONDS = 0.5
PAUSE_SECONDS_MAX = 15.0


class Going(Struct, frozen=True, kw_only=True):
    """It is under way."""

    seconds: float = AGAIN_SECONDS
    """When to look again, unless something is heard of it before."""
    reference: str | None = None
    remote: str | None = None
    drives: str | None = None
    """A run that is to be driven on for it."""


class Asks(Struct, frozen=True, kw_only=True):
    """It waits for a person until then."""

    until: datetime


class Done(Struct, frozen=True, kw_only=True):
    """It is done."""

    spent_units: int
    output: str | None


class Broken(Struct, frozen=True, kw_only=True):
    """It failed."""

    reason: str
    spent_units: int = 0


class Halted(Struct, frozen=True, kw_only=True):
    """It was stopped."""

    spent_units: int


Outcome = Going | Asks | Done | Broken


class Worker(Protocol):
    """Does the steps of one kind. Every method may be called again, and then finds what it did before."""

    async def do(self, run: RunRow, step: StepRow, outputs: dict[str, str]) -> Outcome:
        """Have a step done that has begun, or look how far it is; `outputs` has the texts of earlier steps by name."""
        ...

    async def stop(self, run: RunRow, step: StepRow) -> Halted | Going:
        """Stop a step; `Going` while it has not come to its end."""
        ...


def pause(step: StepRow) -> float:
    """How long to wait until the next look, in seconds: the longer, the more often one has looked."""
    return float(min(PAUSE_SECONDS * 1.4 ** min(step.looks, 20), PAUSE_SECONDS_MAX))


def refused(error: AppError) -> Outcome:
    """What a refusal means for a step: later, where the other side is busy or away; else it failed."""
    return Going() if isinstance(error, (Unavailable, TooMany)) else Broken(reason=error.code)
