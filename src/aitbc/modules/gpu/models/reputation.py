"""Reputation: a pure function of what is stored about a miner's attempts, the same whenever it is worked out anew.

Only three things count: an attempt that succeeded in credible time, one that ended by the miner's own fault, and one
that succeeded though its miner counted far more than the platform did, which speaks against it. Attempts at jobs of the
miner's own account never count: anybody could raise a miner by its own work. Events are counted by day (UTC), and a
day's events weigh half as much for each `HALF_LIFE_DAYS` that it lies before the miner's newest counted day; what is
more than `WINDOW_DAYS` before it counts no more. A neutral prior of `PRIOR_WEIGHT` events keeps one lucky or unlucky
start from deciding.
"""

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime

from msgspec import Struct

HALF_LIFE_DAYS = 7
WINDOW_DAYS = 70
PRIOR = 0.5
PRIOR_WEIGHT = 4.0
TOO_FAST = "too_fast"
"""The reason of a success that came faster than is believed of such work: it says nothing for its miner."""
OVERCOUNTED = "overcounted"
"""The reason of a success whose miner counted far more than the platform."""
NEWCOMER_BELOW = 10
"""A miner with fewer counted events than this is a newcomer."""


class Tally(Struct, frozen=True):
    """The events of one day that count."""

    good: int = 0
    bad: int = 0


class Score(Struct, frozen=True):
    """What a miner's tallies amount to."""

    value: float
    good: int
    """How many events within the window spoke for it."""
    bad: int

    @property
    def newcomer(self) -> bool:
        """Whether too little is known."""
        return self.good + self.bad < NEWCOMER_BELOW


UNKNOWN = Score(PRIOR, 0, 0)
"""Of a miner without events."""


def judged(outcome: str, fault: str, reason: str) -> Tally:
    """What one attempt counts: nothing, unless it succeeded or ended by the miner's fault."""
    if outcome == "succeeded":
        return Tally() if reason == TOO_FAST else Tally(bad=1) if reason == OVERCOUNTED else Tally(good=1)
    return Tally(bad=1) if fault == "miner" else Tally()


def day_of(ended_at: datetime) -> date:
    """The day an attempt counts for."""
    return ended_at.astimezone(UTC).date()


def tally(events: Iterable[tuple[datetime, str, str, str]]) -> dict[date, Tally]:
    """The tallies of some attempts, given as (ended at, outcome, fault, reason), in whatever order."""
    days: dict[date, Tally] = {}
    for ended_at, outcome, fault, reason in events:
        one = judged(outcome, fault, reason)
        if one != Tally():
            before = days.get(day_of(ended_at), Tally())
            days[day_of(ended_at)] = Tally(before.good + one.good, before.bad + one.bad)
    return days


def weight(day: date, newest: date) -> float:
    """How much an event of this day weighs beside one of the newest day; nothing outside the window."""
    age = (newest - day).days
    return 2.0 ** (-age / HALF_LIFE_DAYS) if age <= WINDOW_DAYS else 0.0


def score(days: Mapping[date, Tally]) -> Score:
    """The reputation that these tallies amount to."""
    if not days:
        return UNKNOWN
    newest = max(days)
    counted = [(weight(day, newest), days[day]) for day in sorted(days) if weight(day, newest)]
    good = math.fsum(share * one.good for share, one in counted)
    bad = math.fsum(share * one.bad for share, one in counted)
    value = (PRIOR * PRIOR_WEIGHT + good) / (PRIOR_WEIGHT + good + bad)
    return Score(value, sum(one.good for _, one in counted), sum(one.bad for _, one in counted))
