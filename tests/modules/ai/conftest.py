"""Fixtures of ai's tests: a database with the tables of ai for each file, emptied for each test."""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import asyncpg
import pytest

from aitbc.kernel.database.migrations import Part, migrate
from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import clock
from aitbc.modules.ai.models.tables import Base
from aitbc.server.postgres.embedded import Address
from tests.modules.ai.make import POOLS, Pools
from tests.postgres import owner_of

_numbers = itertools.count(1)


async def _run(target: Target, statement: str) -> None:
    connection = await asyncpg.connect(**target.connect_arguments(application="tests", statement_seconds=60))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def jobs_cluster(cluster: Address) -> Target:
    """The owner's way into the cluster, which holds a template with the tables of ai alone: quicker to copy."""
    owner = owner_of(cluster, "postgres")
    asyncio.run(_run(owner, "CREATE DATABASE template_jobs"))
    asyncio.run(migrate(owner_of(cluster, "template_jobs"), [Part("ai", Base.metadata)], secret=None))
    return owner


@pytest.fixture(scope="session")
def new_jobs(jobs_cluster: Target) -> Callable[[], Target]:
    """Makes a fresh database and answers the owner's way into it."""

    def make() -> Target:
        name = f"jobs_{os.getpid()}_{next(_numbers)}"
        statement = f"CREATE DATABASE {name} TEMPLATE template_jobs STRATEGY file_copy"
        with ThreadPoolExecutor(1) as elsewhere:  # an event loop may be running in this thread
            elsewhere.submit(asyncio.run, _run(jobs_cluster, statement)).result()
        return Target(host=jobs_cluster.host, port=jobs_cluster.port, user=jobs_cluster.user, database=name)

    return make


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop for all tests of a file, so that they share their connections."""
    return "asyncio"


@pytest.fixture(scope="module")
async def pools() -> AsyncIterator[Pools]:
    """The connections of a file of tests, closed at its end."""
    yield POOLS
    await POOLS.close()


@pytest.fixture(scope="module")
def shared(new_jobs: Callable[[], Target]) -> Target:
    """The database of a file of tests."""
    return new_jobs()


@pytest.fixture
async def owner(shared: Target, pools: Pools) -> Target:
    """The owner's way into the file's database, which is empty."""
    tables = ", ".join(f"ai.{table.name}" for table in Base.metadata.sorted_tables)
    await pools.sql(shared, f"TRUNCATE {tables}")
    return shared


@pytest.fixture(autouse=True)
def true_time() -> Iterator[Callable[[], None]]:
    """The clock is put right again after each test."""
    yield clock.reset
    clock.reset()
