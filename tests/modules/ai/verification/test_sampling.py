"""How soon a cheat is found by samples, and what honest miners cost: drawn, and held against the document."""

import random
import statistics

import pytest

from aitbc.modules.ai.models.checks.agreement import cosine, shared_text
from aitbc.modules.ai.models.checks.sampling import (
    ALWAYS_BELOW,
    CHECKED_ONE_IN_MAX,
    check_probability,
    expected_jobs_until_caught,
    is_drawn,
)
from aitbc.modules.ai.models.checks.verdicts import Answer, Decision, Verdict, decide
from tests.scale import scaled

GARBAGE = 0.2
STATED = {0: 12, 10: 70, 50: 270, 100: 500}
"""docs/verification.md: after so many valid checks in a row, so many jobs until the one by which it is caught."""
RUNS = scaled(4_000, 40_000)


def jobs_until_caught(valid_in_row: int, chance: random.Random) -> int:
    """A miner that begins to return garbage."""
    jobs = 0
    while True:
        jobs += 1
        is_wrong = chance.random() < GARBAGE
        if is_drawn(valid_in_row, chance.random):
            if is_wrong:
                return jobs
            valid_in_row += 1


@pytest.mark.parametrize("valid_in_row", STATED)
def test_a_miner_that_returns_garbage_is_caught_as_soon_as_is_stated(valid_in_row: int) -> None:
    expected = expected_jobs_until_caught(GARBAGE, valid_in_row)
    assert round(expected) == STATED[valid_in_row]
    chance = random.Random(valid_in_row)
    drawn = [jobs_until_caught(valid_in_row, chance) for _ in range(RUNS)]
    assert abs(statistics.mean(drawn) - expected) < 6 * statistics.stdev(drawn) / RUNS**0.5


def test_nine_of_ten_new_cheats_are_caught_within_ten_jobs() -> None:
    chance = random.Random(5)
    caught = sum(jobs_until_caught(0, chance) <= ALWAYS_BELOW for _ in range(RUNS)) / RUNS
    assert abs(caught - (1 - (1 - GARBAGE) ** ALWAYS_BELOW)) < 0.03


def test_honest_miners_are_checked_one_time_in_n_at_most() -> None:
    chance, row, jobs, checks = random.Random(7), ALWAYS_BELOW, 0, 0
    allowed = 0.0
    while jobs < RUNS:
        jobs += 1
        allowed += 1 / min(row, CHECKED_ONE_IN_MAX)
        if is_drawn(row, chance.random):
            checks, row = checks + 1, row + 1
    assert checks <= allowed + 6 * allowed**0.5
    assert [check_probability(n) for n in (0, 9, 10, 40, 100, 10_000)] == [1.0, 1.0, 0.1, 0.025, 0.01, 0.01]
    assert expected_jobs_until_caught(0.0, 0) == float("inf")


def answers(*agreeing: str, trusted: str = "") -> list[Answer]:
    """Answers a, b, c…; each says with which of those before it it agrees, in their letters."""
    return [
        Answer(attempt="abcdefg"[number], is_trusted="abcdefg"[number] in trusted, agrees_with=frozenset(others))
        for number, others in enumerate(agreeing)
    ]


@pytest.mark.parametrize(
    ("given", "paid", "wrong"),
    [
        (answers("", "a", "ab"), "abc", ""),
        (answers("", "a", ""), "ab", "c"),
        (answers("", "", "b"), "bc", "a"),
        (answers("", "a", "b"), "bac", ""),  # all are near the one in the middle
        (answers("", "", ""), "", ""),
        (answers("", ""), "", ""),
        (answers("", "a", "", "c"), "", ""),
        (answers("", "", "a", "b", "ac"), "ace", "bd"),
    ],
)
def test_a_majority_is_more_than_half_of_the_quorum(given: list[Answer], paid: str, wrong: str) -> None:
    tier = f"quorum:{len(given)}"
    assert all(decide(tier, given[:few], is_drawn=False) is None for few in range(1, len(given)))
    decision = decide(tier, given, is_drawn=False)
    verdict = Verdict.VALID if paid else Verdict.NO_MAJORITY
    assert decision == Decision(verdict=verdict, paid=tuple(paid), wrong=tuple(wrong))


def test_vectors_and_lines_are_compared_within_their_tolerance() -> None:
    assert cosine([1.0, 0.0], [1.0, 0.0]) == 1.0
    assert cosine([0.0], [0.0]) == 1.0
    assert cosine([0.0], [1.0]) == 0.0
    assert cosine([1.0, 0.0], [0.999, 0.03]) >= 0.999 > cosine([1.0, 0.0], [0.999, 0.06])
    lines = [f"the {number} lines that stand in this picture have {number * 7} words" for number in range(10)]
    assert shared_text(lines, [line.replace(" ", "") for line in lines]) == 1.0
    assert shared_text(lines, lines[::-1]) > 0.95
    assert 0.9 <= shared_text(lines, [lines[0].replace("picture", "pictvre"), *lines[1:]]) < 1.0
    assert shared_text(lines, lines[:7]) < 0.9
    assert shared_text([], [" "]) == 1.0
    assert shared_text(["ab"], ["ab"]) == 1.0
    assert shared_text(lines, []) == 0.0
