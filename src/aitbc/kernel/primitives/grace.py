"""The grace of deadlines: for how long none is enforced after a start, a freeze, or a jump of the clock."""

from datetime import datetime, timedelta

from aitbc.kernel.primitives.clock import elapsed, now


class Grace:
    """Whether deadlines are left alone for now, since nobody could meet them.

    A periodic task asks it at the beginning of each round. The grace begins with the first round, with one that comes
    much later than the round before (this process was frozen, or the machine slept), and with one before which wall
    time ran ahead of elapsed time (the clock was set).
    """

    def __init__(self, seconds: float, *, gap_seconds: float) -> None:
        self._seconds = seconds
        self._gap_seconds = gap_seconds
        self._asked: tuple[float, datetime] | None = None
        self._until = 0.0
        self.began_at: datetime | None = None
        """When the present or last grace began, by the wall clock."""

    def holds(self) -> bool:
        """Whether it holds now; to be asked once a round."""
        moment, at = elapsed(), now()
        if self._asked is None or self._is_gap(moment - self._asked[0], at - self._asked[1]):
            self._until, self.began_at = moment + self._seconds, at
        self._asked = moment, at
        return moment < self._until

    def _is_gap(self, passed: float, wall: timedelta) -> bool:
        return max(passed, wall.total_seconds() - passed) > self._gap_seconds
