"""Which of the offers that fit a job its payer prefers, and for how long the job is kept for those; pure."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

from msgspec import Struct

from aitbc.modules.ai.models.asks import Ask

Prefer = Literal["cheapest", "fastest", "balanced"]
PREFERENCES: tuple[Prefer, ...] = ("cheapest", "fastest", "balanced")
KEPT_FOR = timedelta(seconds=3)
"""How long a new job is kept for the miners that its payer prefers; then whoever fits takes it."""
KEPT_FOR_MAX = 8
"""For so many miners at most, where several are equally good."""
JOBS_MEASURED_MIN = 3
"""Of fewer paid jobs no speed is stated."""


class Speed(Struct, frozen=True):
    """How fast a miner did work of one sort: half its jobs made so many units a second, or more."""

    units_per_second: float
    jobs: int


class Candidate(Struct, frozen=True, kw_only=True):
    """A miner that fits a job, what one unit costs there, and how fast it was."""

    miner: str
    ask: Ask | None
    """None where the platform's price holds."""
    unit_price_units: int
    speed: Speed | None
    is_free: bool
    """Whether a slot of it is free, as far as the database knows."""

    @property
    def units_per_second(self) -> float | None:
        """Its measured speed; none while too few jobs say it."""
        known = self.speed is not None and self.speed.jobs >= JOBS_MEASURED_MIN
        return self.speed.units_per_second if known and self.speed is not None else None


def ranked(candidates: Sequence[Candidate], prefer: Prefer) -> list[Candidate]:
    """The candidates, the best first; those that are equally good by their speed, then in the order of ids."""
    slowest = _slowest(candidates)
    return sorted(
        candidates,
        key=lambda one: (_score(one, prefer, slowest), -(one.units_per_second or 0.0), one.unit_price_units, one.miner),
    )


def kept_for(candidates: Sequence[Candidate], prefer: Prefer) -> tuple[str, ...]:
    """The miners for which a job is kept at first: the best of those that have a slot free, and what equals it."""
    slowest = _slowest(candidates)
    free = [one for one in ranked(candidates, prefer) if one.is_free]
    best = [one.miner for one in free if _score(one, prefer, slowest) == _score(free[0], prefer, slowest)]
    return tuple(best[:KEPT_FOR_MAX])


def first_free(candidates: Sequence[Candidate]) -> tuple[str, ...]:
    """The miner for which a job is kept at first where others than its payer ranked them: the best with a slot free."""
    return next(((one.miner,) for one in candidates if one.is_free), ())


def is_kept_from(preferred: str, miner: str, created_at: datetime, at: datetime) -> bool:
    """Whether a job is still kept for other miners than this one."""
    return bool(preferred) and at < created_at + KEPT_FOR and miner not in preferred


def _slowest(candidates: Sequence[Candidate]) -> float:
    """What an unknown speed counts as: the slowest known one."""
    return min((one.units_per_second for one in candidates if one.units_per_second), default=1.0)


def _score(one: Candidate, prefer: Prefer, slowest: float) -> float:
    """Lower is better: the price of a unit, the seconds of a unit, or both multiplied."""
    seconds = 1.0 / (one.units_per_second or slowest)
    if prefer == "cheapest":
        return float(one.unit_price_units)
    if prefer == "fastest":
        return seconds if one.units_per_second else float("inf")
    return one.unit_price_units * seconds
