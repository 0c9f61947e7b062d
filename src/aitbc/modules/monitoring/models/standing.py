"""What a monitor is judged to be: one look after the other, with hysteresis, and what is shown of that."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from msgspec import Struct, structs

UP, DEGRADED, DOWN, UNKNOWN, MAINTENANCE = "up", "degraded", "down", "unknown", "maintenance"
STATES = (UP, DEGRADED, DOWN, UNKNOWN, MAINTENANCE)
BADNESS = {UP: 0, DEGRADED: 1, UNKNOWN: 2, DOWN: 3}
"""How bad a state is; what is not known is worse than slow."""
MISSED_MAX = 3
"""After so many looks that did not happen, what was seen last says nothing any more."""


class Look(Struct, frozen=True, kw_only=True):
    """What one look at something found."""

    at: datetime
    """When it began."""
    seconds: float | None
    """How long it took; none where nothing could be measured."""
    works: bool
    reason: str = ""
    """What is wrong; of what works, what it does not do as it should."""

    def state(self, slow_seconds: float | None) -> str:
        """Up only with success in time, degraded when slow or with a reason, down when it failed."""
        if not self.works:
            return DOWN
        is_slow = slow_seconds is not None and self.seconds is not None and self.seconds > slow_seconds
        return DEGRADED if is_slow or self.reason else UP


class Standing(Struct, frozen=True, kw_only=True):
    """The state of a monitor, and what seems to be about to replace it."""

    state: str = UNKNOWN
    since: datetime
    candidate: str | None = None
    streak: int = 0
    """How many looks in a row wanted to leave the state in the candidate's direction."""

    def after(self, seen: str, at: datetime, *, fall: int, rise: int) -> "Standing":
        """The standing after one more look.

        The state worsens after `fall` looks in a row that were worse, and improves after `rise` that were better; the
        mildest of them counts. From `unknown` the first look decides.
        """
        if self.state == UNKNOWN:
            return Standing(state=seen, since=at)
        if seen == self.state:
            return structs.replace(self, candidate=None, streak=0)
        worse = BADNESS[seen] > BADNESS[self.state]
        goes_on = self.candidate is not None and (BADNESS[self.candidate] > BADNESS[self.state]) is worse
        candidate, streak = seen, 1
        if goes_on:
            assert self.candidate is not None
            nearest = min if worse else max
            candidate, streak = nearest(seen, self.candidate, key=BADNESS.__getitem__), self.streak + 1
        if streak >= (fall if worse else rise):
            return Standing(state=candidate, since=at)
        return structs.replace(self, candidate=candidate, streak=streak)


def is_stale(checked_at: datetime | None, interval_seconds: float, timeout_seconds: float, at: datetime) -> bool:
    """Whether the last look is so long ago that it says nothing about now."""
    if checked_at is None:
        return True
    return at - checked_at > timedelta(seconds=MISSED_MAX * interval_seconds + timeout_seconds)


def shown_state(state: str, *, is_stale: bool, in_maintenance: bool) -> str:
    """The state that is shown: maintenance hides everything, and what is stale is unknown."""
    return MAINTENANCE if in_maintenance else UNKNOWN if is_stale else state


def worst(states: Sequence[str]) -> str:
    """The worst of some states; those in maintenance count as up. Unknown where there are none."""
    if not states:
        return UNKNOWN
    found = max((UP if state == MAINTENANCE else state for state in states), key=BADNESS.__getitem__)
    return MAINTENANCE if found == UP and all(state == MAINTENANCE for state in states) else found
