"""Fixtures of gpu's tests: one running app and one database for each file; each test has miners and accounts of its own."""

from collections.abc import AsyncIterator, Iterator

import pytest
from msgspec import structs

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import clock
from tests.modules.gpu.make import Fleet, fleet_on


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
def few_allowed(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    """The same app, where an account may have three tokens and two miners."""
    few = structs.replace(fleet.gpu.enrolment._settings, tokens_max=3, miners_max=2)
    monkeypatch.setattr(fleet.gpu.enrolment, "_settings", few)
    monkeypatch.setattr(fleet.gpu.legacy_keys, "_names_max", few.miners_max)
    return fleet
