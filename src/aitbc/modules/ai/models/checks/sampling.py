"""How often sampled work is checked: always until a miner has proved itself, then the less the more it has proved."""

from collections.abc import Callable

ALWAYS_BELOW = 10
"""Below so many valid results in a row each sampled job of a miner and model is checked."""
CHECKED_ONE_IN_MAX = 100
"""However many there were, one in so many is still checked."""


def check_probability(valid_in_row: int) -> float:
    """The chance that a sampled job is checked, after so many checked and valid ones in a row."""
    return 1.0 if valid_in_row < ALWAYS_BELOW else 1.0 / min(valid_in_row, CHECKED_ONE_IN_MAX)


def is_drawn(valid_in_row: int, chance: Callable[[], float]) -> bool:
    """Whether this job is checked; decided once its answer is there, so that its miner cannot know."""
    return chance() < check_probability(valid_in_row)


def expected_jobs_until_caught(garbage_share: float, valid_in_row: int) -> float:
    """How many further sampled jobs of a miner there are, on average, up to the one by which it is caught.

    `garbage_share` of its results are wrong from now on. Each checked job that is right adds one to its row.
    """
    expected, still, row = 0.0, 1.0, float(valid_in_row)
    while still > 1e-12:
        checked = check_probability(int(row))
        # As long as it lasts in this row: each job is checked with this chance, and the check ends it or the row grows.
        expected += still / checked
        still *= 1.0 - garbage_share
        row += 1
        if garbage_share <= 0.0:
            return float("inf")
    return expected
