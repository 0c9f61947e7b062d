"""The database of the tests: one embedded cluster a worker, a copy of a migrated one, and in it a fresh copy for each file."""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager

import asyncpg
import pytest

from aitbc.app import MODULES
from aitbc.kernel.database.unit_of_work import Database, Target
from aitbc.server.postgres.embedded import Address, EmbeddedPostgres
from aitbc.server.runtime import bootstrap
from tests.chaos.clusters import FAST, copied_cluster, nothing_to_migrate
from tests.chaos.forked import ForkedServer

ISOLATION = os.environ.get("TEST_ISOLATION", "read committed")
"""The isolation of every transaction that does not choose its own: `serializable` runs any test under the strictest one."""
_numbers = itertools.count(1)
_fresh: set[str] = set()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """A running server without durability, with a migrated database: its data is thrown away at the end."""
    settings = FAST | {"default_transaction_isolation": ISOLATION}
    server = EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), settings=settings)
    assert ForkedServer.clusters is not None
    with copied_cluster(ForkedServer.clusters):
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
    """The name of a database with every module's tables, ready to be copied: nobody connects to it."""
    return cluster.database


@pytest.fixture(scope="session")
def new_database(cluster: Address, template: str) -> Callable[[], Target]:
    """Makes a fresh, migrated database and answers the owner's way into it."""

    def make() -> Target:
        name = f"test_{os.getpid()}_{next(_numbers)}"
        statement = f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy"
        with ThreadPoolExecutor(1) as elsewhere:  # an event loop may be running in this thread
            elsewhere.submit(asyncio.run, run_sql(owner_of(cluster, "postgres"), statement)).result()
        _fresh.add(name)
        return owner_of(cluster, name)

    return make


@contextmanager
def migrated_already(target: Target) -> Iterator[None]:
    """Within the block an application takes a database as it is if it is a copy of the migrated one that nobody has used yet."""
    with pytest.MonkeyPatch.context() as patch:
        if target.database in _fresh:
            _fresh.discard(target.database)
            patch.setattr(bootstrap, "_migrate", nothing_to_migrate)
        yield


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
