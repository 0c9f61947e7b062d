"""One running app for all tests of a file."""

from collections.abc import AsyncIterator, Callable

import pytest

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.hooks.settings import HookSettings
from tests.app import TestApp, running_app


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop for a whole file, so that its tests can share an app."""
    return "asyncio"


@pytest.fixture(scope="module")
async def app(
    tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], Target], anyio_backend: str
) -> AsyncIterator[TestApp]:
    """A running app; what is revoked is gone within a tenth of a second."""
    hooks = HookSettings(poll_seconds=0.1, blocked_hosts=["evil.example"])
    async with running_app(new_database(), tmp_path_factory.mktemp("app"), hooks=hooks) as made:
        yield made
