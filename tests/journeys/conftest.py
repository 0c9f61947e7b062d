"""Where a journey runs: the test app in this process, and then a test installation of each shape, one after the other."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from aitbc.kernel.database.unit_of_work import Target
from tests.app import TestApp, running_app
from tests.journeys.shapes import ALL_SHAPES, TestInstallation, installed

IN_PROCESS = "in process"


@pytest.fixture(scope="module", params=[IN_PROCESS, *ALL_SHAPES])
def installation(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], Target]
) -> Iterator[TestInstallation | None]:
    """A running installation, which the journeys of a file share; none where they are told in process."""
    if request.param == IN_PROCESS:
        yield None
        return
    with installed(request.param, tmp_path_factory.mktemp("installation"), new_database) as installation:
        yield installation


@pytest.fixture
async def app(
    installation: TestInstallation | None, new_database: Callable[[], Target], tmp_path: Path
) -> AsyncIterator[TestInstallation | TestApp]:
    """Where a journey is told, without what an earlier one left waiting."""
    if installation is None:
        async with running_app(new_database(), tmp_path) as app:
            yield app
        return
    yield installation
    await installation.clear()
