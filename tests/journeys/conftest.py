"""The stage of a journey: the house in this process, and then an installation of each shape, one after the other."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from aitbc.kernel.database.unit_of_work import Target
from tests.app import TestApp, running_app
from tests.journeys.shapes import ALL_SHAPES, Town, installed

IN_PROCESS = "in process"


@pytest.fixture(scope="module", params=[IN_PROCESS, *ALL_SHAPES])
def town(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], Target]
) -> Iterator[Town | None]:
    """A running installation, which the journeys of a file share; none where they are told in process."""
    if request.param == IN_PROCESS:
        yield None
        return
    with installed(request.param, tmp_path_factory.mktemp("town"), new_database) as town:
        yield town


@pytest.fixture
async def app(town: Town | None, new_database: Callable[[], Target], tmp_path: Path) -> AsyncIterator[Town | TestApp]:
    """Where a journey is told, without what an earlier one left waiting."""
    if town is None:
        async with running_app(new_database(), tmp_path) as app:
            yield app
        return
    yield town
    await town.clear()
