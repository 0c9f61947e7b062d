"""Fixtures of gpu's tests: a running house for each test, over one database a file."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import clock
from tests.modules.gpu.make import Fleet, fleet_on


@pytest.fixture(autouse=True)
def true_time() -> Iterator[Callable[[], None]]:
    """The clock is put right again after each test."""
    yield clock.reset
    clock.reset()


@pytest.fixture
async def fleet(target: Target, tmp_path: Path) -> AsyncIterator[Fleet]:
    """The running house."""
    async with fleet_on(target, tmp_path) as fleet:
        yield fleet
