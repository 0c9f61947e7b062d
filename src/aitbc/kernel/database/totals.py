"""Sums of integer columns as integers."""

from typing import Any

from sqlalchemy import BigInteger, ColumnElement, cast, func


def total(column: Any) -> ColumnElement[int]:
    """The sum of an integer column, 0 over no rows.

    PostgreSQL sums `bigint` as `numeric`, which the driver reads as a `Decimal` that may print as `1E+4`. A sum past
    the range of `bigint` is an error of the database.
    """
    return cast(func.coalesce(func.sum(column), 0), BigInteger)
