"""Fixtures of the webhooks' tests: one running app for each file, and no endpoint in it at the beginning of a test."""

from collections.abc import AsyncIterator, Iterator

import pytest

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import clock
from aitbc.server.config.settings import WebhookSettings
from tests.app import TestApp, running_app
from tests.postgres import run_sql
from tests.server.webhooks.receiver import Receiver, receiving

INSIDE = WebhookSettings(allow_private=True)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop for each file, so that its tests can share an app."""
    return "asyncio"


@pytest.fixture(scope="module")
async def file_app(
    target: Target, tmp_path_factory: pytest.TempPathFactory, anyio_backend: str
) -> AsyncIterator[TestApp]:
    """The app of this file, which sends to loopback."""
    async with running_app(target, tmp_path_factory.mktemp("app"), webhooks=INSIDE) as app:
        yield app


@pytest.fixture
async def stage(file_app: TestApp, target: Target) -> AsyncIterator[TestApp]:
    """The app of this file; whatever a test leaves on its way is gone before the next one."""
    yield file_app
    await cleared(file_app, target)


async def cleared(app: TestApp, target: Target) -> None:
    """End the requests that are on their way, and delete every endpoint with its deliveries."""
    await run_sql(target, "UPDATE kernel.webhook_endpoints SET disabled_at = now() WHERE disabled_at IS NULL")
    await app.runtime.webhooks.worker.close()
    await run_sql(target, "DELETE FROM kernel.webhook_endpoints")


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver that takes everything."""
    async with receiving() as found:
        yield found


@pytest.fixture(autouse=True)
def clock_that_goes_right() -> Iterator[None]:
    """No test leaves the clock moved."""
    yield
    clock.reset()
