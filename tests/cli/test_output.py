"""Data in every form: nothing lost, nothing cut, nothing that steers a terminal or a spreadsheet."""

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitbc_cli import files
from aitbc_cli.exits import Stop
from aitbc_cli.output import Column, Output, column, columns, dump, width
from aitbc_cli.terminal import safe

COLUMNS = (*columns("id", "name", "made_at"), Column("PRICE", "price", "number"), column("a.b", "INNER"))
ROW: dict[str, Any] = {"id": "one", "name": None, "made_at": "2026-01-02T03:04:05Z", "price": "0.5", "a": {"b": True}}
HOSTILE = "\x1b]0;owned\x07\u202etxt\x9b2J\ufeff"


def printed(form: str, rows: list[dict[str, Any]] | dict[str, Any], shown: Any = COLUMNS, **more: Any) -> str:
    """What a list, or a single thing, comes out as."""
    stream = io.StringIO()
    output = Output(form, stream=stream, utc=True, **more)
    if isinstance(rows, dict):
        output.one(rows, shown)
    else:
        output.rows(rows, shown)
    return stream.getvalue()


def test_a_table_is_aligned_and_its_numbers_stand_on_the_right() -> None:
    rows = [ROW, {**ROW, "id": "日本語", "name": "x" * 30, "price": "12.25"}]
    head, first, second = printed("table", rows).splitlines()
    assert head.split() == ["ID", "NAME", "MADE", "PRICE", "INNER"]
    assert first.split() == ["one", "-", "2026-01-02", "03:04:05Z", "0.5", "yes"]
    places = [head.index("PRICE") + 5, first.index("0.5") + 3]
    assert places[0] == places[1]
    assert width(second[: second.index("12.25")]) + 5 == places[0]


def test_a_record_is_a_line_for_each_field() -> None:
    lines = printed("table", ROW).splitlines()
    assert [line.split()[0] for line in lines] == ["Id", "Name", "Made", "Price", "Inner"]


def test_a_fraction_has_four_decimals_in_a_table_and_all_of_them_elsewhere() -> None:
    row = {"id": "one", "reputation": 0.9230769230769231, "half": 0.5}
    shown = (*columns("id", "half"), Column("REPUTATION", "reputation", "number"))
    assert printed("table", [row], shown).splitlines()[1].split() == ["one", "0.5", "0.9231"]
    assert "0.9231\n" in printed("table", row, shown)
    assert json.loads(printed("json", row, shown)) == row
    assert printed("csv", [row], shown).splitlines()[1] == "one,0.5,0.9230769230769231"


def test_json_is_the_whole_object_whatever_the_table_shows() -> None:
    assert json.loads(printed("json", [ROW])) == [ROW]
    assert json.loads(printed("json", ROW)) == ROW
    assert [json.loads(line) for line in printed("jsonl", [ROW, ROW]).splitlines()] == [ROW, ROW]
    assert printed("name", [ROW, ROW]) == "one\none\n"


def test_fields_choose_and_name_what_comes_out() -> None:
    assert json.loads(printed("json", [ROW], fields="id, a.b")) == [{"id": "one", "a.b": True}]
    assert printed("csv", [ROW], fields="a.b,id") == "a.b,id\nyes,one\n"
    with pytest.raises(Stop) as refused:
        printed("json", [ROW], fields="idd")
    assert refused.value.exit_code == 2
    assert "id, name" in str(refused.value.hint)


@pytest.mark.parametrize("form", ["table", "csv", "json", "jsonl", "name"])
def test_nothing_that_steers_a_terminal_comes_out_in_any_form(form: str) -> None:
    text = printed(form, [{**ROW, "id": HOSTILE, "name": HOSTILE, "made_at": HOSTILE}])
    assert not set(HOSTILE) & set(text) - set("]0;ownedtx2J")
    assert "txt" in text


@pytest.mark.parametrize("text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1"])
def test_a_spreadsheet_finds_no_formula(text: str) -> None:
    [row] = csv.DictReader(io.StringIO(printed("csv", [{**ROW, "name": text}])))
    assert row["name"] == "'" + text


@pytest.mark.parametrize("text", ["-0.05", "-12", "+3", "a=b", "", "job_1"])
def test_numbers_and_plain_words_are_as_they_are_in_csv(text: str) -> None:
    [row] = csv.DictReader(io.StringIO(printed("csv", [{**ROW, "name": text}])))
    assert row["name"] == text


@given(st.text())
def test_csv_gives_back_any_text_without_control_characters(text: str) -> None:
    if safe(text, lines=True) != text or "\r" in text:
        return
    [row] = csv.DictReader(io.StringIO(printed("csv", [{**ROW, "name": text}]), newline=""))
    assert row["name"].removeprefix("'") == text.removeprefix("'")


@given(st.text())
def test_safe_text_has_no_control_characters_and_leaves_the_rest(text: str) -> None:
    shown = safe(text)
    assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in shown)
    if text.isalnum():
        assert shown == text


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3)))
def test_json_means_the_same_after_escaping(value: Any) -> None:
    text = dump(value)
    assert json.loads(text) == value
    assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in text)


def test_an_empty_list_is_empty_in_every_form() -> None:
    assert printed("json", []) == "[]\n"
    assert printed("jsonl", []) == printed("name", []) == ""
    assert printed("csv", []) == "id,name,made_at,price,a.b\n"


def test_something_else_than_what_was_asked_for_is_no_success() -> None:
    for form in ("table", "json", "csv", "name"):
        with pytest.raises(Stop):
            printed(form, {"unheard": "of"})


def test_colour_only_paints(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = (*columns("id", "state"),)
    rows = [{"id": "one", "state": "succeeded"}]
    plain = printed("table", rows, shown)
    monkeypatch.setenv("CLICOLOR_FORCE", "1")
    painted = printed("table", rows, shown)
    assert "\x1b[32msucceeded\x1b[0m" in painted
    assert painted.replace("\x1b[32m", "").replace("\x1b[1m", "").replace("\x1b[0m", "") == plain
    monkeypatch.setenv("NO_COLOR", "1")
    assert printed("table", rows, shown) == plain


def test_a_text_that_is_read_ends_with_its_line_and_at_nothing_else() -> None:
    found = files.lines_of("one\u2028two\x0cthree\r\n\n  \n four\rfive\x85\n")
    assert found == ["one\u2028two\x0cthree", " four", "five\x85"]
