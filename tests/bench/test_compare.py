"""The comparison of two checkouts: its confidence interval and its verdict."""

import random

import pytest

from tests.bench.compare import interval, is_worse


def test_the_interval_of_twenty_pairs_lies_between_the_sixth_and_the_fifteenth() -> None:
    values = [float(number) for number in range(1, 21)]
    random.shuffle(values)
    assert interval(values) == (6.0, 15.0)


def test_few_pairs_give_their_whole_range() -> None:
    assert interval([3.0, 1.0, 2.0]) == (1.0, 3.0)


@pytest.mark.parametrize(
    ("key", "low", "high", "worse"),
    [
        ("cpu_ms_per_life", 1.021, 1.05, True),
        ("cpu_ms_per_life", 0.9, 1.05, False),
        ("cpu_ms_per_life", 0.8, 0.9, False),
        ("life_vs_pgbench", 0.9, 0.97, True),
        ("life_vs_pgbench", 0.9, 0.99, False),
        ("life_vs_pgbench", 1.1, 1.2, False),
    ],
)
def test_a_figure_is_worse_only_if_its_whole_interval_is(key: str, low: float, high: float, worse: bool) -> None:
    assert is_worse(key, low, high) is worse
