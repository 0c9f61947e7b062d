"""Fixtures of the poison tests: one event loop and one test app for each file."""

import logging
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from structlog.testing import capture_logs

from aitbc.kernel.database.unit_of_work import Target
from tests.poison.stocked import StockedApp, stocked_app


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop for a whole file, so that its tests can share an app."""
    return "asyncio"


@pytest.fixture(scope="module")
async def stocked(
    new_database: Callable[[], Target], tmp_path_factory: pytest.TempPathFactory, anyio_backend: str
) -> AsyncIterator[StockedApp]:
    """A test app with one of everything."""
    async with stocked_app(new_database(), tmp_path_factory.mktemp("stocked")) as stocked:
        yield stocked


@pytest.fixture
async def nothing_written(stocked: StockedApp) -> AsyncIterator[None]:
    """Whoever uses this must leave what is stored as it was."""
    before = await stocked.before()
    yield
    assert await stocked.after(before) == before


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whoever uses this must leave no failure in the log: neither ours nor that of a library."""
    with capture_logs() as lines:
        yield
    failures = [line for line in lines if line["log_level"] in ("error", "critical") or "exc_info" in line]
    assert failures == []
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []
