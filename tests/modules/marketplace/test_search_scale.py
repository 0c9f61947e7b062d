"""A page of a search reads about as much among very many offers as among few: it follows an index in its order."""

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import ClauseElement, Executable, Select

from aitbc.kernel.primitives.clock import now
from aitbc.modules.marketplace.service.search import Search, page_query
from tests.modules.gpu.make import Fleet
from tests.modules.marketplace.make import market_of
from tests.scale import only_in_full, scaled

pytestmark = pytest.mark.anyio
FEW, MANY = 1_000, scaled(20_000, 100_000)
PAGES = 100
"""So many pages are measured: one is over before the kernel has counted anything."""
BACKENDS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
GROWS_AT_MOST = 3.0
SEARCHES = [
    Search(expression="", sort="price"),
    Search(expression="vram >= 40GB", sort="price"),
    Search(expression="vram >= 40GB and hour > 0.001", sort="hour"),
    Search(expression="vram >= 40GB and not region = eu", sort="-vram"),
    Search(expression="gpu = H100 price < 1 and region in [eu, us]", sort="price"),
    Search(expression="verified = true or kind = chat", sort="-created"),
]
"""What of ten offers one or more satisfies, at each sort."""

# Offers of every sort, alike in mix however many there are.
FILL = """
INSERT INTO marketplace.offers (id, version, account, miner, sells, price_units, capacity, taken, min_seconds, max_seconds,
    interruptible, note, state, origin, created_at, changed_at, valid_until, status, gpu_model, vram_mib, region, slots,
    source, as_of, units_hour)
SELECT gen_random_uuid(), 1, gen_random_uuid(), gen_random_uuid(), 'device', 1 + (n * 7919) % 100000000, 1, 0, 60, 86400,
    n % 2 = 0, '', 'open', 'owner', now(), now(), now() + interval '30 days', 'online',
    (ARRAY['H100', 'A100', 'RTX 4090', 'L40'])[1 + n % 4], (ARRAY[81559, 40960, 24564, 49140])[1 + n % 4],
    (ARRAY['eu', 'us', 'asia'])[1 + n % 3], 1, (ARRAY['claimed', 'measured'])[1 + (n / 3) % 2], now(), 1
FROM generate_series($1::int, $2::int) AS n"""


class Explained(Executable, ClauseElement):
    """A query whose plan is asked for, as it is executed."""

    inherit_cache = False

    def __init__(self, query: Select[Any]) -> None:
        self.query = query


@compiles(Explained)
def _explained(element: Explained, compiler: Any, **options: Any) -> str:
    return "EXPLAIN (ANALYZE, FORMAT JSON) " + str(compiler.process(element.query, **options))


def rows_of(node: dict[str, Any]) -> int:
    """How many rows the scans of a plan looked at."""
    below = sum(rows_of(one) for one in node.get("Plans", ()))
    if "Scan" not in node["Node Type"] or "Bitmap Index" in node["Node Type"]:
        return below
    looked_at = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
    return int(below + looked_at * node["Actual Loops"])


async def reads(fleet: Fleet, search: Search) -> int:
    """How many rows a page of a search looks at."""
    async with market_of(fleet).db.reading() as session:
        plan = (await session.execute(Explained(page_query(search, now())))).scalar_one()
    return rows_of(plan[0]["Plan"])


async def fill(fleet: Fleet, first: int, last: int) -> None:
    """Put offers on sale, and let the planner know."""
    await fleet.sql(FILL, first, last)
    await fleet.sql("ANALYZE marketplace.offers")


async def cpu_of(fleet: Fleet, search: Search) -> float:
    """How many seconds of CPU a page takes, of this process and of its database's."""
    find = market_of(fleet).market_search.find
    await find(search)
    before = _database_ticks(await fleet.sql(BACKENDS)), time.process_time()
    for _ in range(PAGES):
        assert len(await find(search)) == search.limit
    after = _database_ticks(await fleet.sql(BACKENDS)), time.process_time()
    ticks = sum(count - before[0].get(process, 0) for process, count in after[0].items())
    return (ticks / os.sysconf("SC_CLK_TCK") + after[1] - before[1]) / PAGES


def _database_ticks(backends: Sequence[Any]) -> dict[int, int]:
    """How much CPU each process of the database has had, in ticks of the kernel."""
    found = {}
    for backend in backends:
        with suppress(FileNotFoundError):
            told = Path(f"/proc/{backend['pid']}/stat").read_text().rpartition(")")[2].split()
            found[backend["pid"]] = int(told[11]) + int(told[12])
    return found


@only_in_full
@pytest.mark.timeout(600)
async def test_a_page_among_many_offers_takes_at_most_thrice_the_cpu_of_one_among_few(fleet: Fleet) -> None:
    await fleet.sql("TRUNCATE marketplace.offers CASCADE")
    await fill(fleet, 1, FEW)
    few = [await cpu_of(fleet, search) for search in SEARCHES]
    await fill(fleet, FEW + 1, MANY)
    many = [await cpu_of(fleet, search) for search in SEARCHES]
    grown = {f"{one.expression} by {one.sort}": (a, b) for one, a, b in zip(SEARCHES, few, many, strict=True)}
    assert all(after <= GROWS_AT_MOST * before for before, after in grown.values()), grown


async def test_a_page_among_many_offers_reads_little_more_than_one_among_few(fleet: Fleet) -> None:
    await fleet.sql("TRUNCATE marketplace.offers CASCADE")
    await fill(fleet, 1, FEW)
    few = [await reads(fleet, search) for search in SEARCHES]
    await fill(fleet, FEW + 1, MANY)
    many = [await reads(fleet, search) for search in SEARCHES]
    assert all(few), few
    grown = {search.expression: (before, after) for search, before, after in zip(SEARCHES, few, many, strict=True)}
    assert all(after <= GROWS_AT_MOST * before for before, after in grown.values()), grown
