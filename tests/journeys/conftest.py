"""Where a journey runs: by `make test-all` in the test app of this process and in a test installation of each shape.

`make test` runs a journey in one place: in the shape that is furthest from one process, or, where that shape adds little to what
other journeys prove of it, in this process.
"""

from collections.abc import AsyncIterator, Callable

import pytest

from aitbc.kernel.database.unit_of_work import Target
from tests.app import TestApp, running_app
from tests.journeys.hand_miner import Place
from tests.journeys.shapes import ALL_SHAPES, FEW_SHAPES, TestInstallation, clear, installed
from tests.scale import scaled

IN_PROCESS = "in process"
first_in_process = pytest.mark.parametrize(
    "installation", [IN_PROCESS, *scaled((), ALL_SHAPES)], indirect=True, scope="module"
)
"""`make test` runs these journeys in this process: `test_paid_job` and `test_market` walk the same ways between processes."""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop for a whole file, so that its tests can share an app."""
    return "asyncio"


@pytest.fixture(scope="module", params=scaled(FEW_SHAPES[:1], (IN_PROCESS, *ALL_SHAPES)))
async def installation(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    new_database: Callable[[], Target],
    anyio_backend: str,
) -> AsyncIterator[TestInstallation | TestApp]:
    """What runs, one of each shape for all the journeys of a file."""
    folder = tmp_path_factory.mktemp("installation")
    if request.param == IN_PROCESS:
        async with running_app(new_database(), folder) as app:
            yield app
        return
    with installed(request.param, folder, new_database) as installation:
        yield installation


@pytest.fixture
async def app(installation: Place) -> AsyncIterator[Place]:
    """Where a journey runs, without what an earlier one left waiting."""
    yield installation
    await clear(installation)
