"""Fixtures of the poison tests: one event loop and one town for each file."""

import logging
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from structlog.testing import capture_logs

from aitbc.kernel.database.unit_of_work import Target
from tests.poison.town import Town, open_town


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop for a whole file, so that its tests can share a house."""
    return "asyncio"


@pytest.fixture(scope="module")
async def town(
    new_database: Callable[[], Target], tmp_path_factory: pytest.TempPathFactory, anyio_backend: str
) -> AsyncIterator[Town]:
    """The running town."""
    async with open_town(new_database(), tmp_path_factory.mktemp("town")) as town:
        yield town


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whoever uses this must leave no failure in the log: neither ours nor that of a library."""
    with capture_logs() as lines:
        yield
    failures = [line for line in lines if line["log_level"] in ("error", "critical") or "exc_info" in line]
    assert failures == []
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []
