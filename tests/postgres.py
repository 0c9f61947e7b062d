"""The database of the tests: one embedded cluster a session, one migrated template, a fresh copy for each file."""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import asyncpg
import pytest

from aitbc.app import MODULES, parts
from aitbc.kernel.database.migrations import migrate
from aitbc.kernel.database.unit_of_work import Database, Target
from aitbc.server.postgres.embedded import Address, EmbeddedPostgres

ISOLATION = os.environ.get("TEST_ISOLATION", "read committed")
"""The isolation of every transaction that does not choose its own: `serializable` runs any test under the strictest one."""
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum": "off"}
FAST |= {"default_transaction_isolation": ISOLATION}
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """A running server without durability: its data is thrown away at the end."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), settings=FAST)
    address = server.start()
    yield address
    server.discard()


def owner_of(address: Address, database: str) -> Target:
    """The owner's way into one database of the cluster."""
    return Target(host=str(address.host), port=address.port, user=address.user, database=database)


async def run_sql(target: Target, *statements: str) -> None:
    """Some statements as the owner, each by itself."""
    connection = await asyncpg.connect(**target.connect_arguments(application="tests", statement_seconds=60))
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def template(cluster: Address) -> str:
    """The name of a database with every module's tables, ready to be copied."""
    asyncio.run(_make_template(cluster))
    return "template_aitbc"


async def _make_template(cluster: Address) -> None:
    await run_sql(owner_of(cluster, "postgres"), "CREATE DATABASE template_aitbc")
    await migrate(owner_of(cluster, "template_aitbc"), parts(MODULES), secret=None)


@pytest.fixture(scope="session")
def new_database(cluster: Address, template: str) -> Callable[[], Target]:
    """Makes a fresh, migrated database and answers the owner's way into it."""

    def make() -> Target:
        name = f"test_{os.getpid()}_{next(_numbers)}"
        statement = f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy"
        with ThreadPoolExecutor(1) as elsewhere:  # an event loop may be running in this thread
            elsewhere.submit(asyncio.run, run_sql(owner_of(cluster, "postgres"), statement)).result()
        return owner_of(cluster, name)

    return make


@pytest.fixture(scope="module")
def target(new_database: Callable[[], Target]) -> Target:
    """A fresh database for this file of tests."""
    return new_database()


@asynccontextmanager
async def module_database(target: Target, name: str) -> AsyncIterator[Database]:
    """One module's own door to a database, closed at the end."""
    module = next(module for module in MODULES if module.name == name)
    own = Target(**{**{f: getattr(target, f) for f in target.__struct_fields__}, "user": f"aitbc_{name}"})
    database = Database(name, own, list(module.metadata.tables.values()))
    try:
        yield database
    finally:
        await database.close()
