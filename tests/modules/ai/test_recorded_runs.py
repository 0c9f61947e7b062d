"""What recorded runs say of the next: the median with its interval, which holds the true one as often as it says."""

import random

from aitbc.modules.ai.service.recorded_runs import RUNS_MIN, summary


def test_an_interval_holds_the_true_median_in_95_of_100_cases() -> None:
    draw, held = random.Random(5), 0
    for _ in range(400):
        found = summary([draw.expovariate(0.6931471805599453) for _ in range(40)])  # the median is 1
        assert found is not None
        held += found.low_seconds <= 1.0 <= found.high_seconds
    assert held >= 0.92 * 400


def test_nothing_is_said_of_few_runs() -> None:
    assert summary([1.0] * (RUNS_MIN - 1)) is None
    found = summary([float(number) for number in range(1, RUNS_MIN + 1)])
    assert found is not None
    assert (found.low_seconds, found.high_seconds, found.runs) == (1.0, 6.0, 6)
