"""How fast miners work, in the face of ai."""

from msgspec import Struct


class MeasuredSpeed(Struct, frozen=True, kw_only=True):
    """How fast a miner does a kind of work, by its paid jobs of the last days."""

    miner: str
    per_second: float
    """The median of the metered units that it made a second."""
    jobs: int
    """By how many jobs it was measured."""


class MeasuredSpeeds(Struct, frozen=True, kw_only=True):
    """What a kind of work is metered in, and how fast miners do it."""

    kind: str
    model: str | None
    """The model that the jobs named; none for all jobs of the kind."""
    unit: str
    """What is metered: `token`."""
    miners: tuple[MeasuredSpeed, ...]
