"""Fixtures of trading's tests: a database with the tables of trading for each file."""

import asyncio
import itertools
import os
from collections.abc import Callable, Iterator

import pytest

from aitbc.kernel.database.migrations import Part, migrate
from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import clock
from aitbc.modules.trading.models.tables import Base
from aitbc.server.postgres.embedded import Address
from tests.modules.trading.make import sql
from tests.postgres import owner_of, run_sql

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def ledger_template(cluster: Address) -> Target:
    """The owner's way into the cluster, which holds a template with the tables of trading alone: quicker to copy."""
    owner = owner_of(cluster, "postgres")
    asyncio.run(run_sql(owner, "CREATE DATABASE template_ledger"))
    asyncio.run(migrate(owner_of(cluster, "template_ledger"), [Part("trading", Base.metadata)], secret=None))
    return owner


@pytest.fixture(scope="session")
def new_ledger(ledger_template: Target) -> Callable[[], Target]:
    """Makes a fresh database with the tables of trading; answers the owner's way into it."""

    def make() -> Target:
        name = f"ledger_{os.getpid()}_{next(_numbers)}"

        async def copy() -> None:
            async with sql(ledger_template) as connection:
                await connection.execute(f"CREATE DATABASE {name} TEMPLATE template_ledger STRATEGY file_copy")

        asyncio.run(copy())
        owner = ledger_template
        return Target(host=owner.host, port=owner.port, user=owner.user, database=name)

    return make


@pytest.fixture(scope="module")
def owner(new_ledger: Callable[[], Target]) -> Target:
    """One ledger for all tests of a file."""
    return new_ledger()


@pytest.fixture
def empty(new_ledger: Callable[[], Target]) -> Target:
    """A ledger that nobody has written to: for tests that look at all of it."""
    return new_ledger()


@pytest.fixture(autouse=True)
def true_time() -> Iterator[None]:
    """The clock is put right again after each test."""
    yield
    clock.reset()
