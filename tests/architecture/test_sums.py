"""Sums that the database makes of integers are integers: one that PostgreSQL makes `numeric` may come back as `Decimal("1E+4")`."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Integer, column

from aitbc.kernel.database.totals import total
from tests.architecture.source import ROOT, python_files, tree

IN_SQL = re.compile(r"\bsum\s*\(", re.IGNORECASE)
STATEMENT = re.compile(r"\bSELECT\b")
OF_FLOATS = {"func.sum(FigureRow.total)"}
"""The database sums floats as floats."""
ALLOWED = Path("src/aitbc/kernel/database/totals.py")


def uncast(path: Path) -> Iterator[str]:
    """Where a file sums in the database without a cast to an integer."""
    if "sum" not in path.read_text(encoding="utf-8").lower():
        return
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "func.sum" and ast.unparse(node) not in OF_FLOATS:
            yield f"{path.relative_to(ROOT)}:{node.lineno}"
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and STATEMENT.search(node.value):
            lacking = len(IN_SQL.findall(node.value)) and not re.search(r"::((big)?int|float8)\b", node.value)
            if lacking:
                yield f"{path.relative_to(ROOT)}:{node.lineno}"


def test_every_sum_of_the_database_is_cast_to_an_integer() -> None:
    files = [path for path in python_files("src") if path.relative_to(ROOT) != ALLOWED]
    assert [place for path in files for place in uncast(path)] == []


def test_a_total_is_a_bigint_and_zero_over_no_rows() -> None:
    text = str(total(column("amount", Integer)))
    assert text == "CAST(coalesce(sum(amount), :coalesce_1) AS BIGINT)"
