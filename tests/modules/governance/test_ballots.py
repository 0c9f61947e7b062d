"""Ballots: each kind against an oracle that was written for itself, from the words of the table and nothing else."""

from collections.abc import Callable
from fractions import Fraction
from math import floor, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitbc.kernel.primitives.errors import Invalid
from aitbc.modules.governance.models.ballots import Choice, tally

Votes = list[tuple[Choice, int]]
POWERS = st.integers(min_value=0, max_value=10**6)


@st.composite
def elections(draw: Callable[..., object], kind: str) -> tuple[int, Votes]:
    options: int = draw(st.integers(min_value=2, max_value=5))  # type: ignore[assignment]
    votes: Votes = []
    for _ in range(draw(st.integers(min_value=0, max_value=8))):  # type: ignore[call-overload]
        order: list[int] = draw(st.permutations(range(options)))  # type: ignore[assignment]
        count: int = 1 if kind == "single" else draw(st.integers(min_value=1, max_value=options))  # type: ignore[assignment]
        chosen = tuple(order[:count])
        weights: list[int] = []
        if kind in ("weighted", "quadratic"):
            weights = draw(st.lists(st.integers(1, 50), min_size=count, max_size=count))  # type: ignore[assignment]
        power: int = draw(POWERS)  # type: ignore[assignment]
        choice = Choice(options=chosen, weights=tuple(weights))
        choice.check(kind, options)
        votes.append((choice, power))
    return options, votes


def winner_of(scores: list[int]) -> int | None:
    best = [option for option, score in enumerate(scores) if score == max(scores)]
    return best[0] if len(best) == 1 and scores[best[0]] else None


def oracle(kind: str, options: int, votes: Votes) -> list[int]:
    """Option by option, over all votes, with fractions and floats where the rule says so."""
    scores = []
    for option in range(options):
        score = 0
        for choice, power in votes:
            if option not in choice.options:
                continue
            if kind in ("single", "approval"):
                score += power
                continue
            weight = dict(zip(choice.options, choice.weights, strict=True))[option]
            part = floor(Fraction(power) * weight / sum(choice.weights))
            score += part if kind == "weighted" else int(sqrt(part))
        scores.append(score)
    return scores


@pytest.mark.parametrize("kind", ["single", "approval", "weighted", "quadratic"])
def test_scores_are_what_the_rule_says(kind: str) -> None:
    @given(elections(kind))
    def check(election: tuple[int, Votes]) -> None:
        options, votes = election
        expected = oracle(kind, options, votes)
        found = tally(kind, options, votes)
        assert (list(found.scores), found.winner) == (expected, winner_of(expected))

    check()


def run_off(options: int, votes: Votes) -> int | None:
    """The run-off told by recursion over who is left, with the history of each option as a string of scores."""

    def go(left: list[int], history: dict[int, list[int]]) -> int | None:
        scores = dict.fromkeys(left, 0)
        for choice, power in votes:
            ranked = [option for option in choice.options if option in left]
            if ranked:
                scores[ranked[0]] += power
        total = sum(scores.values())
        if not total:
            return None
        majority = [option for option in left if 2 * scores[option] > total]
        if majority:
            return majority[0]
        if len(left) == 2:
            return None
        history = {option: [scores[option], *history[option]] for option in left}
        worst = min(history.values())
        loser = max(option for option in left if history[option] == worst)
        return go([option for option in left if option != loser], history)

    return go(list(range(options)), {option: [] for option in range(options)})


@given(elections("ranked"))
def test_a_run_off_ends_as_told_by_recursion(election: tuple[int, Votes]) -> None:
    options, votes = election
    found = tally("ranked", options, votes)
    assert found.winner == run_off(options, votes)
    assert found.scores == found.rounds[-1]


def test_a_tie_has_no_winner_and_in_a_run_off_the_one_that_had_less_before_leaves() -> None:
    one, two, three = (Choice(options=(number,)) for number in range(3))
    assert tally("single", 2, [(one, 5), (two, 5)]).winner is None
    assert tally("ranked", 2, [(one, 5), (two, 5)]).winner is None
    assert tally("ranked", 3, [(one, 5), (two, 3), (Choice(options=(2, 1)), 3)]).winner == 1
    assert tally("ranked", 3, [(three, 2), (one, 1), (Choice(options=(1, 0)), 1)]).winner is None
    assert tally("single", 3, []).winner is None


@pytest.mark.parametrize(
    ("kind", "choice"),
    [
        ("basic", Choice()),
        ("basic", Choice(choice="maybe")),
        ("basic", Choice(choice="for", options=(0,))),
        ("single", Choice(choice="for")),
        ("single", Choice(options=(0, 1))),
        ("single", Choice(options=(3,))),
        ("single", Choice(options=())),
        ("approval", Choice(options=(0, 0))),
        ("approval", Choice(options=(0,), weights=(1,))),
        ("ranked", Choice(options=(-1,))),
        ("weighted", Choice(options=(0, 1), weights=(1,))),
        ("weighted", Choice(options=(0,), weights=(0,))),
        ("quadratic", Choice(options=(0,))),
    ],
)
def test_what_does_not_fit_a_ballot_is_refused(kind: str, choice: Choice) -> None:
    with pytest.raises(Invalid):
        choice.check(kind, 3)
