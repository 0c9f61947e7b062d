"""Fixtures of monitoring's tests: one running app and one database for each file, with monitors that a test steps itself."""

from collections.abc import AsyncIterator, Iterator

import pytest

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import clock
from tests.modules.monitoring.make import Watched, watched_app


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop for each file: what runs in it outlives a test."""
    return "asyncio"


@pytest.fixture(scope="module", autouse=True)
def forward_time() -> Iterator[None]:
    """Time only moves forward within a file; the clock is put right again behind it."""
    yield
    clock.reset()


@pytest.fixture(scope="module")
async def watched(target: Target, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Watched]:
    """The running app of this file."""
    async with watched_app(target, tmp_path_factory.mktemp("app")) as watched:
        yield watched
