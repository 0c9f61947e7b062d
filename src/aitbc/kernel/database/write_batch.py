"""Several data-modifying statements combined into one CTE statement: one round trip."""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import asyncpg

from aitbc.kernel.database.bulk import BulkStatement, V
from aitbc.kernel.database.pipeline import commit_with
from aitbc.kernel.database.target import Connection

_NUMBER = re.compile(r"\$(\d+)")
KEPT_MAX = 256
"""So many combinations of statements are cached."""


class UnexpectedCount(AssertionError):
    """A statement changed more rows or fewer than it must, whatever happens: a bug. None of the batch is done."""


class WriteBatch:
    """Statements that change different rows, collected while a transaction works and executed together at its end.

    All of them see the data as it was before the first, and none may change a row that another one changes.
    """

    def __init__(self) -> None:
        self._statements: list[tuple[str, int]] = []
        self._values: list[Any] = []
        self._expected: dict[int, int] = {}

    def add(self, statement: str, *values: Any) -> int:
        """Add an INSERT, UPDATE or DELETE; returns the index of its row count."""
        self._statements.append((statement, len(values)))
        self._values += values
        return len(self._statements) - 1

    def write(self, statement: BulkStatement[V], rows: Sequence[V], *shared: Any) -> int:
        """Add a set-based statement over these rows, with its shared values; returns the index of its row count."""
        return self.add(statement.sql, *statement.arrays(rows), *shared)

    def expect(self, index: int, count: int) -> None:
        """The statement of this index must change so many rows: the database itself refuses the batch otherwise."""
        self._expected[index] = count

    async def do(self, connection: Connection, *, commits: bool = False) -> Sequence[int]:
        """Execute all of them, and where it `commits` the transaction with them: they are its last statement.

        Returns how many rows each statement changed. Raises `UnexpectedCount`.
        """
        if not self._statements:
            return ()
        sql = _combined(tuple(self._statements), tuple(self._expected))
        if commits:
            commit_with(connection, sql)
        try:
            row = (await connection.fetch(sql, *self._values, *self._expected.values()))[0]
        except asyncpg.DivisionByZeroError as error:
            raise UnexpectedCount(f"not as many rows as expected: {sql}") from error
        return tuple(row)


@lru_cache(KEPT_MAX)
def _combined(statements: tuple[tuple[str, int], ...], expected: tuple[int, ...]) -> str:
    """One statement of several parts, whose parameters are numbered on; it fails where a count is not as expected."""
    parts, first = [], 0
    for number, (statement, values) in enumerate(statements):
        part = _NUMBER.sub(lambda found, first=first: f"${int(found[1]) + first}", statement)  # type: ignore[misc]
        parts.append(f"part_{number} AS ({part} RETURNING 1)")
        first += values
    counts = [f"(SELECT count(*) FROM part_{number})" for number in range(len(statements))]  # noqa: S608
    for place, number in enumerate(expected, first + 1):
        counts[number] += f" / ({counts[number]} = ${place}::bigint)::int"
    return f"WITH {', '.join(parts)} SELECT {', '.join(counts)}"
