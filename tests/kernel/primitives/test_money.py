"""Money: exact, a string in JSON, an int inside."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitbc.kernel.primitives import money
from aitbc.kernel.primitives.errors import AmountOverflow


@given(st.integers(min_value=1, max_value=money.LARGEST))
def test_rendering_and_parsing_are_inverse(units: int) -> None:
    assert money.parse(money.render(units)) == units


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-1",
        "+1",
        "1.",
        ".5",
        "1e3",
        " 1",
        "1 ",
        "0x1",
        "1,5",
        "NaN",
        "Infinity",
        "1.123456789",
        "00.5",
        "١",  # noqa: RUF001
        "0",
        "0.0",
    ],
)
def test_anything_but_a_plain_positive_decimal_is_refused(text: str) -> None:
    with pytest.raises(money.InvalidAmount):
        money.parse(text)


@pytest.mark.parametrize("text", ["92233720368.54775808", "9" * 30])
def test_an_amount_past_the_ledgers_range_overflows(text: str) -> None:
    with pytest.raises(AmountOverflow):
        money.parse(text)


def test_zero_is_accepted_only_when_asked_for() -> None:
    assert money.parse("0", zero=True) == 0


@pytest.mark.parametrize("value", [1.0, True, "5", None])
def test_only_true_integers_reach_the_driver(value: object) -> None:
    with pytest.raises(TypeError):
        money.checked(value)  # type: ignore[arg-type]


@given(st.integers(0, money.LARGEST), st.lists(st.integers(0, 10_000), min_size=1, max_size=20).filter(any))
def test_the_parts_of_a_split_sum_exactly_and_none_is_negative(units: int, weights: list[int]) -> None:
    parts = money.split(units, weights)
    assert sum(parts) == units
    assert all(part >= 0 for part in parts)
    assert all(part == 0 for part, weight in zip(parts, weights, strict=True) if weight == 0)


@given(st.integers(0, money.LARGEST), st.integers(0, 10_000))
def test_a_share_lies_within_half_a_unit_of_the_exact_value(units: int, basis_points: int) -> None:
    part = money.share(units, basis_points)
    assert abs(part * 10_000 - units * basis_points) <= 5_000
    assert 0 <= part <= units


@given(st.integers(1, money.LARGEST), st.integers(1, 10**12))
def test_a_product_is_exact_or_refused(units: int, count: int) -> None:
    if units * count > money.LARGEST:
        with pytest.raises(AmountOverflow):
            money.times(units, count)
    else:
        assert money.times(units, count) == units * count


def test_what_equals_a_known_amount_and_is_none_is_refused_all_the_same() -> None:
    assert money.render(1) == "0.00000001"
    for impostor in (True, 1.0):
        with pytest.raises(TypeError):
            money.render(impostor)
