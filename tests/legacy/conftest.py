"""The town that all tests of the older dialect share; each brings what it needs and counts on nothing else in it."""

from collections.abc import Iterator

import pytest

from tests.legacy.ground import Town


@pytest.fixture(scope="session", params=["exposed", "split"])
def town(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A served installation, for the whole session: with all modules in one process, and with a process for each."""
    made = Town(tmp_path_factory.mktemp("town"), request.param).start()
    yield made
    if made.server.is_alive:
        made.server.stop()
