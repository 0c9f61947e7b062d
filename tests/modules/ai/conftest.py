"""Fixtures of ai's tests: a cluster of their own for the session, and a fresh migrated database for each test."""

import asyncio
import itertools
import os
from collections.abc import Callable, Iterator

import asyncpg
import pytest

from aitbc.kernel.database.migrations import Part, migrate
from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import clock
from aitbc.modules.ai.models.tables import Base
from aitbc.server.postgres.embedded import EmbeddedPostgres
from tests.postgres import FAST

_numbers = itertools.count(1)


async def _run(target: Target, statement: str) -> None:
    connection = await asyncpg.connect(**target.connect_arguments(application="tests", statement_seconds=60))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def jobs_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """The owner's way into a cluster that holds a template with the tables of ai."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("jobs"), settings=FAST)
    address = server.start()
    owner = Target(host=str(address.host), port=address.port, user=address.user, database="postgres")
    template = Target(host=owner.host, port=owner.port, user=owner.user, database="template_jobs")
    asyncio.run(_run(owner, "CREATE DATABASE template_jobs"))
    asyncio.run(migrate(template, [Part("ai", Base.metadata)], secret=None))
    yield owner
    server.stop()


@pytest.fixture
def owner(jobs_cluster: Target) -> Target:
    """The owner's way into a fresh database for one test."""
    name = f"jobs_{os.getpid()}_{next(_numbers)}"
    asyncio.run(_run(jobs_cluster, f"CREATE DATABASE {name} TEMPLATE template_jobs STRATEGY file_copy"))
    return Target(host=jobs_cluster.host, port=jobs_cluster.port, user=jobs_cluster.user, database=name)


@pytest.fixture(autouse=True)
def true_time() -> Iterator[Callable[[], None]]:
    """The clock is put right again after each test."""
    yield clock.reset
    clock.reset()
