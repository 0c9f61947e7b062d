"""Scores of matches: seven sub-scores, each from 0 to 100, and what they weigh."""

from datetime import UTC, datetime, timedelta

import pytest

from aitbc.modules.trading.models.trades.scoring import (
    WEIGHTS,
    Offered,
    Wanted,
    geography_score,
    level_score,
    price_score,
    reputation,
    score,
    specification_score,
    timing_score,
)

AT = datetime(2030, 1, 31, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def test_the_weights_are_a_whole() -> None:
    assert sum(WEIGHTS.values()) == 100
    best = score(Wanted(specifications={"a": 1}), Offered(price_units=1, specifications={"a": 1}), 1000, 1000)
    assert best.parts.keys() == WEIGHTS.keys()
    assert best.total == round(sum(WEIGHTS[name] * part for name, part in best.parts.items()) / 100, 2) <= 100


@pytest.mark.parametrize(("price", "points"), [(9, 0), (10, 0), (15, 50), (20, 100), (25, 50), (30, 0), (31, 0)])
def test_a_price_is_best_in_the_middle_of_the_budget(price: int, points: float) -> None:
    assert price_score(Wanted(budget_min_units=10, budget_max_units=30), price) == points


def test_a_budget_without_an_end_or_a_width_takes_its_price() -> None:
    assert price_score(Wanted(), 10**9) == 100
    assert price_score(Wanted(budget_min_units=7, budget_max_units=7), 7) == 100


def test_specifications_are_compared_by_their_names() -> None:
    assert specification_score({"gb": 80.0}, {"gb": 40.0}) == 50
    assert specification_score({"gb": 80.0}, {"gb": 160.0}) == 100
    assert specification_score({"gpu": ["H100"]}, {"gpu": ["A100"]}) == 0
    assert specification_score({"gpu": ["H100", "A100"]}, {"gpu": ["A100"]}) == 50
    assert specification_score({"gpu": ["H100"]}, {"gpu": 100.0}) == 0
    assert specification_score({"a": 1.0}, {"b": 1.0}) == specification_score({}, {}) == 50
    assert specification_score({"gb": 80.0, "gpu": ["x"]}, {"gb": 40.0, "gpu": ["x"]}) == 75


def test_times_are_compared_by_their_overlap() -> None:
    wanted = Wanted(starts_at=AT, ends_at=AT + 4 * HOUR)
    assert timing_score(wanted, Offered(price_units=1)) == 80
    assert timing_score(wanted, Offered(price_units=1, starts_at=AT + HOUR, ends_at=AT + 9 * HOUR)) == 75
    assert timing_score(wanted, Offered(price_units=1, starts_at=AT + 5 * HOUR, ends_at=AT + 9 * HOUR)) == 0
    for apart, points in ((1, 100), (6, 80), (24, 60), (25, 40)):
        assert timing_score(Wanted(starts_at=AT), Offered(price_units=1, starts_at=AT + apart * HOUR)) == points


def test_regions_levels_and_ratings() -> None:
    wanted = Wanted(preferred_regions=("a", "b"), excluded_regions=("x",))
    assert [geography_score(wanted, regions) for regions in (("a",), ("a", "b"), ("a", "x"), (), ("c",))] == [
        50,
        100,
        0,
        60,
        0,
    ]
    assert geography_score(Wanted(), ()) == 80 and geography_score(Wanted(), ("a",)) == 60
    assert [level_score("premium", level) for level in ("premium", "standard", "basic")] == [100, 50, 0]
    assert level_score("basic", "premium") == 100
    assert (reputation(0, 0), reputation(5, 25), reputation(5, 5)) == (500, 750, 250)
    assert 0 <= reputation(10**6, 10**6) < reputation(10**6, 5 * 10**6) <= 1000
