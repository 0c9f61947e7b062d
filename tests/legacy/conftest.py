"""The installation that all tests of the legacy dialect share; each brings what it needs and counts on nothing else in it."""

from collections.abc import Iterator

import pytest

from tests.legacy.installation import Installation
from tests.scale import scaled


@pytest.fixture(scope="session", params=scaled(["split"], ["exposed", "split"]))
def installation(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A served installation, for the whole session: with all modules in one process, and with a process for each."""
    made = Installation(tmp_path_factory.mktemp("installation"), request.param).start()
    yield made
    if made.server.is_alive:
        made.server.stop()
