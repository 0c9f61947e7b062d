"""Which trials are stopped at a rung: successive halving and Hyperband, worked out from the reports alone.

A rung is a step at which trials are compared: the first one times powers of a factor. Of those that came to a rung the
best of every `factor` go on (L. Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020).
Hyperband lets some trials, a bracket, skip the first rungs (L. Li et al., JMLR 18, 2018).
"""

import itertools
import math
import zlib
from collections.abc import Sequence

from msgspec import Struct

from aitbc.modules.ai.models.studies.shapes import TrialState
from aitbc.modules.ai.models.studies.values import Trial


class Ladder(Struct, frozen=True, kw_only=True):
    """How trials are compared."""

    factor: int
    """Of so many that came to a rung one goes on; so many times further is the next rung."""
    has_brackets: bool
    """Whether some trials skip the first rungs."""
    is_most_best: bool
    """Whether more is better."""


HALVING_FACTOR = 4
HYPERBAND_FACTOR = 3
"""The factors of optuna's pruners of these names."""


def behind(trials: Sequence[Trial], looked_at: Sequence[int], ladder: Ladder) -> list[int]:
    """Those of the trials looked at that are not among the best at the last rung they came to.

    How far a trial goes is known from those that are complete; before that nobody is stopped.
    """
    ends = [one.reports[-1][0] for one in trials if one.state == TrialState.COMPLETE and one.reports]
    if not ends:
        return []
    first, last = max(1, max(ends) // 100), max(ends)
    weights = _bracket_weights(first, last, ladder)
    found = []
    for number in looked_at:
        bracket = _bracket(number, weights)
        rung = _last_rung(trials[number], first * ladder.factor**bracket, ladder.factor)
        if rung is None:
            continue
        rivals = [one for one in trials if _bracket(one.number, weights) == bracket]
        came = sorted(
            (value for one in rivals if (value := _value_at(one, rung)) is not None), reverse=ladder.is_most_best
        )
        worst_to_go_on = came[max(1, len(came) // ladder.factor) - 1]
        own = _value_at(trials[number], rung)
        assert own is not None, "it came to this rung"
        if own < worst_to_go_on if ladder.is_most_best else own > worst_to_go_on:
            found.append(number)
    return found


def _last_rung(trial: Trial, first: int, factor: int) -> int | None:
    """The last rung that a trial has come to; none before the first."""
    came, rung = trial.reports[-1][0] if trial.reports else 0, first
    if came < first:
        return None
    while rung * factor <= came:
        rung *= factor
    return rung


def _value_at(trial: Trial, rung: int) -> float | None:
    """What a trial reported when it came to a rung; none where it has not, or failed."""
    if trial.state in (TrialState.FAILED, TrialState.CANCELED):
        return None
    return next((value for step, value in trial.reports if step >= rung), None)


def _bracket_weights(first: int, last: int, ladder: Ladder) -> list[int]:
    """How many trials each bracket gets, in proportion: more the earlier its first rung is."""
    count = 1
    while ladder.has_brackets and first * ladder.factor**count <= last:
        count += 1
    return [math.ceil(count * ladder.factor**further / (further + 1)) for further in reversed(range(count))]


def _bracket(number: int, weights: Sequence[int]) -> int:
    """The bracket of a trial, by its number alone."""
    place = zlib.crc32(str(number).encode()) % sum(weights)
    ends = itertools.accumulate(weights)
    return next(bracket for bracket, end in enumerate(ends) if place < end)
