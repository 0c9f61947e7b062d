"""The legacy kit's values: amounts, times, names, spellings, states and queries."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from litestar.datastructures import MultiDict
from msgspec import Struct

from aitbc.kernel.legacy.amounts import (
    amount_of,
    decimal_text,
    nearest_units_of,
    optional_amount_of,
    optional_units_of,
    units_of,
)
from aitbc.kernel.legacy.caller import CallerName
from aitbc.kernel.legacy.errors import converted, name_of
from aitbc.kernel.legacy.paging import CountedItems, Limit, offset_items, read_query
from aitbc.kernel.legacy.spellings import first_list, first_text, first_value
from aitbc.kernel.legacy.states import StateNames
from aitbc.kernel.legacy.times import hours_of, milliseconds_of, optional_milliseconds_of, time_of
from aitbc.kernel.primitives import money
from aitbc.kernel.primitives.errors import AmountOverflow, Invalid

MINER = CallerName(header="x-miner-id", field="miner_id")
STATES = StateNames({"waiting": "PENDING", "leased": "PENDING", "done": "COMPLETED"}, {"queued": "pending"})


class Wish(Struct, frozen=True, kw_only=True):
    """A query."""

    limit: Limit = 20
    status: str | None = None
    force: bool = False


def refused_at(refusal: pytest.ExceptionInfo[Invalid]) -> str:
    """The field that a refusal names."""
    return refusal.value.fields[0].pointer


@pytest.mark.parametrize("amount", [0.1, 0.05, 1, 3.3, 92_000_000_000, 1e-8, "0.25", 0])
def test_a_price_goes_in_exactly_and_comes_out_as_a_number(amount: Any) -> None:
    assert amount_of(units_of(amount, "/price")) == float(amount)


@pytest.mark.parametrize("amount", [0.1 + 0.2, -0.1, float("inf"), float("nan"), True, None, [], 1e30, "much"])
def test_what_is_no_price_is_refused(amount: Any) -> None:
    with pytest.raises(Invalid) as refusal:
        units_of(amount, "/price")
    assert refused_at(refusal) == "/price"


@given(st.integers(0, money.LARGEST))
def test_a_number_is_the_float_nearest_to_the_amount(units: int) -> None:
    assert amount_of(units) == float(money.render(units))


@given(st.integers(1, 10**15))
def test_a_number_becomes_the_decimal_text_of_its_amount(units: int) -> None:
    assert money.parse(decimal_text(amount_of(units))) == units


def test_a_sum_in_floating_point_is_rounded_to_the_nearest_unit() -> None:
    assert nearest_units_of(0.1 + 0.2) == 30_000_000
    assert nearest_units_of(None) is None
    with pytest.raises(AmountOverflow):
        nearest_units_of(1e30)


def test_optional_amounts_are_none_where_they_are_missing() -> None:
    assert (optional_units_of(None, "?price"), optional_units_of(0.5, "?price")) == (None, 50_000_000)
    assert (optional_amount_of(None), optional_amount_of(50_000_000)) == (None, 0.5)
    assert optional_milliseconds_of(None) is None


def test_a_time_without_an_offset_is_in_utc() -> None:
    assert time_of("2026-01-02", "since") == datetime(2026, 1, 2, tzinfo=UTC)
    found = time_of("2026-01-02T03:00:00+02:00", "since")
    assert found is not None
    assert found.isoformat() == "2026-01-02T01:00:00+00:00"
    assert time_of(None, "since") is None
    for text in ("yesterday", "", "0001-01-01T00:00:00+02:00"):
        with pytest.raises(Invalid) as refusal:
            time_of(text, "since")
        assert refused_at(refusal) == "?since"


def test_hours_are_exact_milliseconds() -> None:
    assert (milliseconds_of(0.5), milliseconds_of(1.00001), hours_of(5_400_000)) == (1_800_000, 3_600_036, 1.5)
    for hours in (1e-9, 0.0000001, 1 / 3):
        with pytest.raises(Invalid) as refusal:
            milliseconds_of(hours)
        assert refused_at(refusal) == "/duration_hours"


def test_a_caller_is_named_by_header_then_query_then_body() -> None:
    assert MINER.find({"x-miner-id": "a"}, {"miner_id": "b"}, "c") == "a"
    assert MINER.find({}, {"miner_id": "b"}, "c") == "b"
    assert MINER.find({"x-miner-id": ""}, {}, "c") == "c"
    assert MINER.find({}, {}) is None
    for name in ("", " a", "a\nb", "x" * 101):
        with pytest.raises(Invalid) as refusal:
            MINER.find({}, {}, name)
        assert refused_at(refusal) == "/miner_id"


def test_a_name_is_kept_in_its_normal_form() -> None:
    assert name_of("e\N{COMBINING ACUTE ACCENT}", "/name") == "\N{LATIN SMALL LETTER E WITH ACUTE}"


def test_a_value_that_does_not_fit_is_refused_at_its_field() -> None:
    assert converted({"status": "x"}, Wish, "/wish") == Wish(status="x")
    with pytest.raises(Invalid) as refusal:
        converted({"limit": "5"}, Wish, "/wish")
    assert refused_at(refusal) == "/wish"


def test_the_first_spelling_that_is_there_counts() -> None:
    body: dict[str, Any] = {"models": [], "model": 7, "name": "", "title": "x", "kinds": "chat"}
    assert first_value(body, "models", "model") == 7
    assert first_text(body, "name", "model", "title") == "x"
    assert first_list(body, "models", "kinds") == ["chat"]
    assert (first_value(body, "no"), first_text(body, "no"), first_list(body, "no")) == (None, None, [])


def test_states_and_words_are_read_in_both_directions() -> None:
    assert (STATES.word("leased"), STATES.word("done")) == ("PENDING", "COMPLETED")
    assert STATES.states("Pending") == STATES.states("queued") == ("waiting", "leased")
    assert STATES.states("odd") == ()
    assert STATES.known_states("completed", "?state") == ("done",)
    with pytest.raises(Invalid) as refusal:
        STATES.known_states("odd", "?state")
    assert (refused_at(refusal), refusal.value.fields[0].message) == (
        "?state",
        "Expected one of pending, completed, queued",
    )


def test_a_query_is_read_with_empty_and_unknown_parameters_passed_over() -> None:
    query = MultiDict([("limit", "5"), ("status", ""), ("force", "true"), ("other", "x")])
    assert read_query(query, Wish) == Wish(limit=5, force=True)
    assert read_query({}, Wish) == Wish()
    for limit in ("0", "501", "many", "9" * 30):
        with pytest.raises(Invalid) as refusal:
            read_query({"limit": limit}, Wish)
        assert refused_at(refusal) == "?limit"


def test_a_page_says_where_the_next_one_begins() -> None:
    page = offset_items([1, 2, 3, 4], 1, 2, str)
    assert (page.items, page.next_offset) == (("2", "3"), 3)
    assert offset_items([1, 2, 3], 1, 2, str).next_offset is None
    assert offset_items([1], 5, 2, str).items == ()
    assert CountedItems(items=("a",), total=1, limit=5, offset=0).items == ("a",)
