"""How many connections of the database a process holds: what its settings promise, also while many ask at one time."""

import asyncio
from collections import Counter
from pathlib import Path

import asyncpg

from aitbc.kernel.database.unit_of_work import Target
from aitbc.server.config.settings import DatabaseSettings
from tests.app import running_app

POOL_SIZE = 2
BESIDE = 4
"""Of each role, as docs/operate.md tells those who set up a pooler."""
JOB = {"kind": "embed", "input": {"texts": ["x"]}, "max_price": "0.05"}
READS = ("/api/v1/ai/jobs", "/api/v1/gpu/miners", "/api/v1/trading/blocks", "/api/v1/gpu/bookings")
CONNECTIONS = "SELECT usename, count(*) FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid() GROUP BY 1"


async def test_each_role_has_twice_the_pool_and_four_more_at_most(target: Target, tmp_path: Path) -> None:
    most: Counter[str] = Counter()
    looking = await asyncpg.connect(**target.connect_arguments(application="tests", statement_seconds=30))

    async def look() -> None:
        while True:
            for name, count in await looking.fetch(CONNECTIONS, target.database):
                most[name] = max(most[name], count)
            await asyncio.sleep(0.01)

    settings = DatabaseSettings(pool_size=POOL_SIZE)
    async with running_app(target, tmp_path, database=settings) as app:
        alice = await app.who("alice", funds="10")
        watching = asyncio.create_task(look())
        for _ in range(3):
            reads = [alice.client.get(path) for path in READS for _ in range(10)]
            answers = await asyncio.gather(*reads, *(alice.post("/api/v1/ai/jobs", JOB) for _ in range(20)))
            assert {answer.status_code for answer in answers} <= {200, 201, 503}
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    await looking.close()
    assert max(most.values()) > POOL_SIZE
    assert not {name: count for name, count in most.items() if count > 2 * POOL_SIZE + BESIDE}
