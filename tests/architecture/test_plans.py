"""The plans of the gathered way are kept, so they must be right for tables of any size: no table is read whole."""

import importlib
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import asyncpg
import pytest

from aitbc.kernel.database.raw_pool import KEPT_PLANS
from aitbc.kernel.database.unit_of_work import Target

ROOMS = (
    *(
        f"aitbc.modules.ai.batched.{noun}"
        for noun in ("claim", "complete", "counts", "read", "renew", "rows", "submit")
    ),
    "aitbc.modules.ai.service.dispatch",
    "aitbc.modules.ai.service.payments",
    "aitbc.modules.gpu.batched",
    "aitbc.modules.trading.batched",
    "aitbc.modules.trading.service.blocks",
)
OPEN_ONLY = frozenset({"outbox_due_idx"})
"""Holds what is still to be told and nothing else, so that it may be read whole."""
STATEMENT = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b")


def statements() -> Iterator[tuple[str, str]]:
    """Every constant of these rooms that is a statement, each once."""
    seen = set()
    for room in ROOMS:
        for name, value in vars(importlib.import_module(room)).items():
            if name.isupper() and isinstance(value, str) and STATEMENT.match(value) and value not in seen:
                seen.add(value)
                yield f"{room.removeprefix('aitbc.modules.')}.{name}", value


def read_whole(node: dict[str, Any], *, bounded: bool = False) -> Iterator[str]:
    """The tables that a plan reads from their beginning to their end; the first few rows of an order are not all."""
    bounded = bounded or node["Node Type"] == "Limit"
    if node["Node Type"] == "Seq Scan" or (
        node["Node Type"] in ("Index Scan", "Index Only Scan")
        and "Index Cond" not in node
        and node["Index Name"] not in OPEN_ONLY
        and not bounded
    ):
        yield node["Relation Name"]
    for below in node.get("Plans", ()):
        yield from read_whole(below, bounded=bounded)


@pytest.fixture(scope="module")
def empty(new_database: Callable[[], Target]) -> Target:
    """A database that has just been made."""
    return new_database()


STATEMENTS = dict(statements())


@pytest.mark.parametrize("name", STATEMENTS)
async def test_a_gathered_statement_reads_no_table_whole_even_if_it_was_planned_while_there_was_nothing(
    empty: Target, name: str
) -> None:
    arguments = empty.connect_arguments(application="tests", statement_seconds=60)
    arguments["server_settings"] = arguments["server_settings"] | KEPT_PLANS
    connection = await asyncpg.connect(**arguments)
    try:
        await connection.execute(f"PREPARE asked AS {STATEMENTS[name]}")
        count = max((int(number) for number in re.findall(r"\$(\d+)", STATEMENTS[name])), default=0)
        values = f"({', '.join(['NULL'] * count)})" if count else ""
        told = await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE asked{values}")
    finally:
        await connection.close()
    assert not list(read_whole(json.loads(told)[0]["Plan"])), told
