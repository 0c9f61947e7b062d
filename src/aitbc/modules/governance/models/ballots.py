"""How votes are counted, by kind of ballot. Pure, in integers: each kind has an oracle of its own in the tests.

| ballot | a vote is | what counts | who wins |
| --- | --- | --- | --- |
| basic | `for`, `against` or `abstain` | all power of the vote | see `models/life.py` |
| single | one option | all power | the option with most |
| approval | one or more options | all power for each of them | the option with most |
| weighted | a weight for options | power in proportion to the weights, rounded down | the option with most |
| quadratic | a weight for options | the integer square root of that power | the option with most |
| ranked | options, the best first | instant run-off | who has more than half of the power that still counts |

A tie for the first place has no winner, and such a proposal is defeated. In a run-off the option with the least power
is out; of several with the least it is the one that had less in the round before, then in the round before that, and
so on back to the first; of those that were equal in all rounds it is the one that is listed last. A run-off whose
last two are equal has no winner.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import isqrt

from msgspec import Struct

from aitbc.kernel.primitives.errors import FieldError, Invalid

BASIC = ("for", "against", "abstain")
OPTIONS_MAX = 20
WEIGHT_MOST = 1_000_000


class Choice(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a voter says, as it is stored; which field is set depends on the ballot."""

    choice: str | None = None
    """Of a basic ballot."""
    options: tuple[int, ...] = ()
    """The options by their number from 0: the one, those approved, or those ranked."""
    weights: tuple[int, ...] = ()
    """Beside each of `options`, of a weighted or quadratic ballot."""

    def check(self, ballot: str, options: int) -> None:
        """Raises `Invalid` where it does not fit the ballot."""
        if ballot == "basic":
            holds = self.choice in BASIC and not self.options and not self.weights
            _require("/choice", "for, against or abstain", holds=holds)
            return
        _require("/choice", "nothing: this ballot has options", holds=self.choice is None)
        known = all(0 <= one < options for one in self.options)
        _require("/options", f"numbers from 0 to {options - 1}", holds=known)
        _require("/options", "each option once", holds=len(set(self.options)) == len(self.options))
        count = len(self.options)
        _require(
            "/options", "as many options as the ballot takes", holds=count == 1 if ballot == "single" else count > 0
        )
        if ballot in ("weighted", "quadratic"):
            right = len(self.weights) == count and all(0 < one <= WEIGHT_MOST for one in self.weights)
            _require("/weights", f"a weight from 1 to {WEIGHT_MOST} for each option", holds=right)
        else:
            _require("/weights", "no weights: this ballot has none", holds=not self.weights)


def _require(field: str, expected: str, *, holds: bool) -> None:
    if not holds:
        raise Invalid(fields=(FieldError(field, f"Expected {expected}"),))


class Tally(Struct, frozen=True, kw_only=True):
    """What the votes on options came to."""

    scores: tuple[int, ...]
    """By option; of a run-off those of its last round."""
    winner: int | None
    """The option that won; none for a tie, and where nobody voted."""
    rounds: tuple[tuple[int, ...], ...] = ()
    """Of a run-off, the power of each option in each round."""


def tally(ballot: str, options: int, votes: Iterable[tuple[Choice, int]]) -> Tally:
    """Count votes with their power, in minor units."""
    if ballot == "ranked":
        return _run_off(options, votes)
    scores = [0] * options
    for choice, power in votes:
        for option, part in _parts(ballot, choice, power):
            scores[option] += part
    return Tally(scores=tuple(scores), winner=_first(scores))


def _parts(ballot: str, choice: Choice, power: int) -> Iterable[tuple[int, int]]:
    if ballot in ("single", "approval"):
        return ((option, power) for option in choice.options)
    total = sum(choice.weights)
    parts = [power * weight // total for weight in choice.weights]
    if ballot == "quadratic":
        parts = [isqrt(part) for part in parts]
    return zip(choice.options, parts, strict=True)


def _first(scores: Sequence[int]) -> int | None:
    """The option with the highest score, unless nobody has any or several have it."""
    most = max(scores)
    return scores.index(most) if most > 0 and scores.count(most) == 1 else None


def _run_off(options: int, votes: Iterable[tuple[Choice, int]]) -> Tally:
    by_ranking: dict[tuple[int, ...], int] = {}
    for choice, power in votes:  # few rankings are many votes: the rounds then cost little
        by_ranking[choice.options] = by_ranking.get(choice.options, 0) + power
    standing, rounds = list(range(options)), list[tuple[int, ...]]()
    while True:
        scores = _round(options, standing, by_ranking)
        rounds.append(tuple(scores))
        counted = sum(scores)
        leader = max(standing, key=lambda one: scores[one])
        if counted == 0:
            return Tally(scores=tuple(scores), winner=None, rounds=tuple(rounds))
        if scores[leader] * 2 > counted:
            return Tally(scores=tuple(scores), winner=leader, rounds=tuple(rounds))
        if len(standing) == 2:
            return Tally(scores=tuple(scores), winner=None, rounds=tuple(rounds))
        standing.remove(_out(standing, rounds))


def _round(options: int, standing: Sequence[int], by_ranking: Mapping[tuple[int, ...], int]) -> list[int]:
    scores, stands = [0] * options, set(standing)
    for ranking, power in by_ranking.items():
        best = next((option for option in ranking if option in stands), None)
        if best is not None:
            scores[best] += power
    return scores


def _out(standing: Sequence[int], rounds: Sequence[Sequence[int]]) -> int:
    """Who leaves: least power now, then in the rounds before, newest first; at last who is listed last."""
    return min(standing, key=lambda one: ([scores[one] for scores in reversed(rounds)], -one))
