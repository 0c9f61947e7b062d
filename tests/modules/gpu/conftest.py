"""Fixtures of gpu's tests: one running app and one database for each file; each test has miners and accounts of its own."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import clock
from tests.modules.gpu.make import AnotherFleet, Fleet, fleet_on


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop for each file: what runs in it outlives a test."""
    return "asyncio"


@pytest.fixture(scope="module", autouse=True)
def forward_time() -> Iterator[None]:
    """Time only moves forward within a file, as it does for a running app; the clock is put right again behind it."""
    yield
    clock.reset()


@pytest.fixture(scope="module")
async def fleet(target: Target, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    """The running app of this file."""
    async with fleet_on(target, tmp_path_factory.mktemp("app")) as fleet:
        yield fleet


@pytest.fixture
def another_fleet(new_database: Callable[[], Target], tmp_path_factory: pytest.TempPathFactory) -> AnotherFleet:
    """Runs an app with other settings over a database of its own, where the periodic tasks of the file's app do nothing."""

    def run(**settings: Any) -> AbstractAsyncContextManager[Fleet]:
        return fleet_on(new_database(), tmp_path_factory.mktemp("app"), **settings)

    return run
