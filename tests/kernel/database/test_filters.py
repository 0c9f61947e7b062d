"""Filters: each value becomes a numbered parameter of the statement."""

from aitbc.kernel.database.filters import Filters


def test_nothing_narrows_a_list_by_nothing() -> None:
    wanted = Filters()
    assert (str(wanted), wanted.value(50), wanted.values) == ("", "$1", [50])


def test_conditions_hold_together_and_their_values_are_numbered_in_order() -> None:
    wanted = Filters()
    wanted.add("account = {}", "a")
    wanted.add("(issued_at, id) < ({}, {})", 1, 2)
    limit = wanted.value(50)
    assert str(wanted) == "WHERE account = $1 AND (issued_at, id) < ($2, $3)"
    assert (limit, wanted.values) == ("$4", ["a", 1, 2, 50])


def test_a_value_never_becomes_part_of_the_statement() -> None:
    wanted = Filters()
    wanted.add("state = {}", "'; DROP TABLE ai.jobs; --")
    assert str(wanted) == "WHERE state = $1"
