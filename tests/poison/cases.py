"""Poison for every request: what is changed in a right one, and how that must be answered."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.poison.operations import Call, Operation
from tests.scale import FULL

OF_THE_WALL = frozenset({400, 404, 405, 413, 414, 415, 421, 431})
"""What the boundary itself answers, whatever the operation: described once, as any other failure."""


@dataclass(frozen=True)
class Case:
    """One poisoned request, and the statuses that are right for it."""

    name: str
    call: Call
    statuses: frozenset[int]
    codes: frozenset[str] = frozenset()
    """The codes that are right for it; any where there are none."""
    of_the_wall: bool = False
    """Refused before the operation is known, so its description need not name the status."""


Poison = Callable[[Operation, Call], Iterator[Case]]
"""All the cases of one kind that fit an operation, made from its right request."""


def refused(name: str, call: Call, *statuses: int, code: str | None = None, of_the_wall: bool = False) -> Case:
    """A case with these right statuses."""
    return Case(name, call, frozenset(statuses), frozenset({code} if code else ()), of_the_wall)


def chosen(cases: Iterator[Case], turn: int) -> list[Case]:
    """The cases of one kind for one operation: all of them by `make test-all`; else every sixth, another sixth each turn."""
    every = list(cases)
    return every if FULL else every[turn % 6 :: 6] or every[turn % (len(every) or 1) :][:1]
