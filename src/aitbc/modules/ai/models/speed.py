"""Speed: how fast work was done, and how much of what is said to be done in a time is believed; pure."""

import heapq
from collections.abc import Collection

from msgspec import Struct

MADE_MIN = 256
"""Of less than so many units nothing is said: how long they took is mostly the way there and back."""
SAMPLE_SECONDS = 1.0
"""Work that took less measures no speed."""
SECONDS_MIN = 0.05
"""What less time than this counts as."""
ACCOUNTS_MIN = 3
"""A class is measured once so many accounts have worked in it: fewer could say of themselves what they like."""
MARGIN = 10
"""How much faster than the class a miner is believed to be: hardware differs, and longer work is faster."""


class Work(Struct, frozen=True):
    """Units that a miner made, and the seconds between its lease and its result."""

    made: int
    seconds: float

    @property
    def speed(self) -> float:
        """Units a second."""
        return self.made / max(self.seconds, SECONDS_MIN)


def is_sample(work: Work) -> bool:
    """Whether it says something of the speed of its class."""
    return work.made >= MADE_MIN and work.seconds >= SAMPLE_SECONDS


def ceiling_of(fastest: Collection[float], believed_at_most: float | None) -> float | None:
    """The units a second that are believed of a class in which accounts were so fast.

    `MARGIN` times the third-fastest account, so that two that lie raise nothing; until so many have worked, what is
    believed of the kind at most. None where the kind is paid by time.
    """
    if believed_at_most is None or len(fastest) < ACCOUNTS_MIN:
        return believed_at_most
    return min(believed_at_most, MARGIN * heapq.nlargest(ACCOUNTS_MIN, fastest)[-1])


def believed(work: Work, ceiling: float | None) -> int:
    """How many of the units are believed: all, or what the ceiling allows for the time."""
    if ceiling is None or work.made < MADE_MIN or work.speed <= ceiling:
        return work.made
    return max(MADE_MIN, int(ceiling * max(work.seconds, SECONDS_MIN)))
