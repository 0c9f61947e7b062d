"""Rules that hold for every table of every module."""

import re

import pytest
from sqlalchemy import BigInteger, Column, DateTime, Float, Numeric, Table

from aitbc.app import MODULES, parts

MONEY = re.compile(r"(^|_)(amount|price|balance|fee|held|earned|spent|cost)(_|$)|_units$")
NOT_MONEY = re.compile(r"basis_points|_at$|_count$")
TABLES = [table for part in parts(MODULES) for table in part.metadata.sorted_tables]
BY_NAME = pytest.mark.parametrize("table", TABLES, ids=lambda table: table.fullname)


def is_money(column: Column[object]) -> bool:
    """Whether a column holds an amount, by its name."""
    return bool(MONEY.search(column.name)) and not NOT_MONEY.search(column.name)


@BY_NAME
def test_money_is_a_whole_number_of_minor_units(table: Table) -> None:
    wrong = [column.name for column in table.columns if is_money(column) and not isinstance(column.type, BigInteger)]
    assert not wrong, "money is BIGINT: NUMERIC takes NaN, and floats round"


@BY_NAME
def test_no_column_is_an_arbitrary_decimal(table: Table) -> None:
    numeric = (column for column in table.columns if isinstance(column.type, Numeric))
    assert not [column.name for column in numeric if not isinstance(column.type, Float)]


@BY_NAME
def test_every_time_knows_its_zone(table: Table) -> None:
    times = [column for column in table.columns if isinstance(column.type, DateTime)]
    assert all(column.type.timezone for column in times if isinstance(column.type, DateTime))


@BY_NAME
def test_a_table_states_its_schema_and_what_its_role_may_do(table: Table) -> None:
    assert table.schema
    assert table.primary_key.columns, "a table without a key cannot be repaired"
    assert set(table.info.get("grants", ())) <= {"SELECT", "INSERT", "UPDATE", "DELETE"}


@BY_NAME
def test_no_foreign_key_leaves_its_schema(table: Table) -> None:
    assert all(key.column.table.schema == table.schema for key in table.foreign_keys)
