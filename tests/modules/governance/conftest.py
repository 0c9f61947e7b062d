"""Fixtures of governance's tests: one running app with short rules, and one database, for each file."""

from collections.abc import AsyncIterator, Iterator

import pytest

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import clock
from tests.app import TestApp
from tests.modules.governance.make import governance_app


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
async def stage(target: Target, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TestApp]:
    """The running app of this file."""
    async with governance_app(target, tmp_path_factory.mktemp("app")) as stage:
        yield stage
