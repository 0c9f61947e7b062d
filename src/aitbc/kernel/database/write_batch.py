"""Several data-modifying statements combined into one CTE statement: one round trip."""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from aitbc.kernel.database.bulk import BulkStatement, V
from aitbc.kernel.database.unit_of_work import Connection

_NUMBER = re.compile(r"\$(\d+)")
KEPT_MAX = 256
"""So many combinations of statements are cached."""


class WriteBatch:
    """Statements that change different rows, collected while a transaction works and executed together at its end.

    All of them see the data as it was before the first, and none may change a row that another one changes.
    """

    def __init__(self) -> None:
        self._statements: list[tuple[str, int]] = []
        self._values: list[Any] = []

    def add(self, statement: str, *values: Any) -> int:
        """Add an INSERT, UPDATE or DELETE; returns the index of its row count."""
        self._statements.append((statement, len(values)))
        self._values += values
        return len(self._statements) - 1

    def write(self, statement: BulkStatement[V], rows: Sequence[V], *shared: Any) -> int:
        """Add a set-based statement over these rows, with its shared values; returns the index of its row count."""
        return self.add(statement.sql, *statement.arrays(rows), *shared)

    async def do(self, connection: Connection) -> Sequence[int]:
        """Execute all of them; returns how many rows each statement changed."""
        if not self._statements:
            return ()
        row = (await connection.fetch(_combined(tuple(self._statements)), *self._values))[0]
        return tuple(row)


@lru_cache(KEPT_MAX)
def _combined(statements: tuple[tuple[str, int], ...]) -> str:
    """One statement of several parts, whose parameters are numbered on."""
    parts, first = [], 0
    for number, (statement, values) in enumerate(statements):
        part = _NUMBER.sub(lambda found, first=first: f"${int(found[1]) + first}", statement)  # type: ignore[misc]
        parts.append(f"part_{number} AS ({part} RETURNING 1)")
        first += values
    counts = ", ".join(f"(SELECT count(*) FROM part_{number})" for number in range(len(statements)))  # noqa: S608
    return f"WITH {', '.join(parts)} SELECT {counts}"
