"""The town that all tests of the older dialect share; each brings what it needs and counts on nothing else in it."""

from collections.abc import Iterator

import pytest

from tests.legacy.ground import Town


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A served installation, for the whole session."""
    made = Town(tmp_path_factory.mktemp("town")).start()
    yield made
    if made.server.is_alive:
        made.server.stop()
