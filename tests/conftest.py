"""What every test stands on: asyncio for `async def test_…`, one event loop each, and the limits of Hypothesis."""

import gc
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from aitbc.kernel.database import target
from tests.chaos.forked import ForkedServer
from tests.chaos.server_process import ServerProcess
from tests.homes import DEFAULT_HOMES, NOWHERE
from tests.litestar_memory import remember_signatures
from tests.scale import scaled

pytest_plugins = ["tests.leftovers", "tests.longest_first", "tests.postgres", "tests.skipped"]

# A shared machine is slow now and then: time is bounded by pytest-timeout, not by each example.
settings.register_profile(
    "default", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=scaled(25, 100)
)
settings.register_profile("ci", settings.get_profile("default"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

ServerProcess.forked = True
target.CONNECT_SECONDS = 60.0  # while several workers start clusters, PostgreSQL forks late
remember_signatures()

for name in [name for name in os.environ if name.startswith("AITBC_")]:
    del os.environ[name]  # settings of this shell's are not those of a test's server

for name in DEFAULT_HOMES:
    os.environ[name] = str(NOWHERE)  # a server of this user's, its settings and its data are not a test's

if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # as in a shell's background: programs under test would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """What was loaded and collected stays to the end: no search for garbage needs to walk through it."""
    gc.collect()
    gc.freeze()


def pytest_sessionstart() -> None:
    """Forked servers of this worker have copies of one cluster."""
    ForkedServer.clusters = Path(tempfile.mkdtemp(prefix="aitbc-test-clusters-"))


def pytest_sessionfinish() -> None:
    """The cluster goes."""
    if ForkedServer.clusters is not None:
        shutil.rmtree(ForkedServer.clusters, ignore_errors=True)


@pytest.fixture
def anyio_backend() -> str:
    """The event loop of the tests: plain asyncio, new for each."""
    return "asyncio"
