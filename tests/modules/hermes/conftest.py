"""Fixtures of hermes's tests: one running app and one database for each file."""

from collections.abc import AsyncIterator, Iterator

import pytest

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import clock
from tests.modules.hermes.make import Town, town_on


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
async def town(target: Target, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    """The running app of this file."""
    async with town_on(target, tmp_path_factory.mktemp("app")) as town:
        yield town
