"""The installation that the tests of a file share; each brings what it needs and counts on nothing else in it."""

import time
from collections.abc import Iterator

import pytest

from tests.legacy.installation import Installation, installed
from tests.legacy.legacy_miner import LegacyMiner
from tests.scale import scaled


@pytest.fixture(scope="module", params=scaled(["exposed"], ["exposed", "split"]))
def installation(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A served installation: with all modules in one process, and with a process for each.

    A file of its own, since one that stands idle takes work too. In `make test` test_rows alone has the processes.
    """
    with installed(tmp_path_factory.mktemp("installation"), request.param) as made:
        yield made


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test's jobs end with it: the next one's miner is given no other than its own."""
    yield
    if "installation" in request.fixturenames:
        shared: Installation = request.getfixturevalue("installation")
        if shared.server.is_alive:
            shared.cancel_what_waits()


@pytest.fixture
def served(installation: Installation) -> Iterator[None]:
    """A miner that serves the models which jobs name."""
    models = {"small", "large", "llama", "llama2", "m"}
    with installation.client("coordinator") as client:
        miner = LegacyMiner(installation, client, supported_models=sorted(models))
        for _ in range(600):  # it is known from an event
            listed = installation.ours("GET", "ai/models?kind=chat&limit=200", key=installation.local)["data"]
            if models <= {model["name"] for model in listed}:
                break
            time.sleep(0.05)
        yield
        miner.leaves()
