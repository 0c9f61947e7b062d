"""The plans of batched statements are kept, so they must be right for tables of any size: no table is read whole."""

import importlib
import json
import pkgutil
import re
from collections.abc import Callable, Iterator
from typing import Any

import asyncpg
import pytest

import aitbc.modules
from aitbc.kernel.database.bulk import BulkStatement
from aitbc.kernel.database.raw_pool import KEPT_PLANS
from aitbc.kernel.database.unit_of_work import Target

BESIDE = (
    "aitbc.modules.ai.service.dispatch",
    "aitbc.modules.ai.service.payments",
    "aitbc.modules.trading.service.blocks",
)
"""Files with such statements outside of the rooms `batched`."""
OPEN_ONLY = frozenset({"outbox_due_idx"})
"""An index of what is still to be delivered and nothing else, so that it may be read whole."""
REPAIRS = {"ai.batched.clock_set_back.RESTART_LEASES", "ai.batched.clock_set_back.END_PAUSES"}
"""Seldom, these read what is open whole, by its index."""
OF_REPAIRS = frozenset({"attempts_live_idx", "jobs_waiting_idx", "jobs_own_idx"})
STATEMENT = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b")


def files() -> Iterator[str]:
    """Every file of the rooms `batched`, and those beside them."""
    for module in pkgutil.walk_packages(aitbc.modules.__path__, "aitbc.modules."):
        if "batched" in module.name.split("."):
            yield module.name
    yield from BESIDE


def statements() -> Iterator[tuple[str, str]]:
    """Every constant of these files that is a statement, written or built, each once."""
    seen = set()
    for file in files():
        for name, constant in vars(importlib.import_module(file)).items():
            value = constant.sql if isinstance(constant, BulkStatement) else constant
            if name.isupper() and isinstance(value, str) and STATEMENT.match(value) and value not in seen:
                seen.add(value)
                yield f"{file.removeprefix('aitbc.modules.')}.{name}", value


def read_whole(node: dict[str, Any], *, open_only: frozenset[str], bounded: bool = False) -> Iterator[str]:
    """The tables that a plan reads from their beginning to their end; the first few rows of an order are not all."""
    bounded = bounded or node["Node Type"] == "Limit"
    if node["Node Type"] == "Seq Scan" or (
        node["Node Type"] in ("Index Scan", "Index Only Scan")
        and "Index Cond" not in node
        and node["Index Name"] not in open_only
        and not bounded
    ):
        yield node["Relation Name"]
    for below in node.get("Plans", ()):
        yield from read_whole(below, open_only=open_only, bounded=bounded)


@pytest.fixture(scope="module")
def empty(new_database: Callable[[], Target]) -> Target:
    """A database that has just been made."""
    return new_database()


STATEMENTS = dict(statements())


def test_every_module_with_a_room_of_that_name_is_found() -> None:
    found = {name.partition(".")[0] for name in STATEMENTS}
    assert found == {"ai", "governance", "gpu", "trading"} and len(STATEMENTS) > 40, sorted(STATEMENTS)


@pytest.mark.parametrize("name", STATEMENTS)
async def test_a_batched_statement_reads_no_table_whole_even_if_it_was_planned_while_there_was_nothing(
    empty: Target, name: str
) -> None:
    arguments = empty.connect_arguments(application="tests", statement_seconds=60)
    arguments["server_settings"] = arguments["server_settings"] | KEPT_PLANS
    connection = await asyncpg.connect(**arguments)
    try:
        await connection.execute(f"PREPARE statement AS {STATEMENTS[name]}")
        count = max((int(number) for number in re.findall(r"\$(\d+)", STATEMENTS[name])), default=0)
        values = f"({', '.join(['NULL'] * count)})" if count else ""
        plan = await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE statement{values}")
    finally:
        await connection.close()
    open_only = OPEN_ONLY | OF_REPAIRS if name in REPAIRS else OPEN_ONLY
    assert not list(read_whole(json.loads(plan)[0]["Plan"], open_only=open_only)), plan
