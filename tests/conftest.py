"""What every test stands on: asyncio for `async def test_…`, one event loop each, and the limits of Hypothesis."""

import gc
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from aitbc.kernel.database import target
from tests.chaos.forked import ForkedServer
from tests.chaos.server_process import ServerProcess
from tests.homes import DEFAULT_HOMES, NOWHERE
from tests.litestar_memory import remember_signatures
from tests.registered import register_once
from tests.scale import scaled
from tests.sqlalchemy_memory import remember_statements

pytest_plugins = ["tests.leftovers", "tests.longest_first", "tests.postgres", "tests.skipped"]

# A shared machine is slow now and then: time is bounded by pytest-timeout, not by each example.
settings.register_profile(
    "default", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=scaled(25, 100)
)
settings.register_profile("ci", settings.get_profile("default"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

ServerProcess.forked = True
ALLOCATIONS = 20_000
"""After how many more objects a search for garbage begins, instead of 700."""
target.CONNECT_SECONDS = 60.0  # while several workers start clusters, PostgreSQL forks late
remember_signatures()
remember_statements()
register_once()

for name in [name for name in os.environ if name.startswith("AITBC_")]:
    del os.environ[name]  # settings of this shell's are not those of a test's server

for name in DEFAULT_HOMES:
    os.environ[name] = str(NOWHERE)  # a server of this user's, its settings and its data are not a test's

for ignored in (signal.SIGINT, signal.SIGHUP):  # as in a shell's background: programs under test would inherit it
    if signal.getsignal(ignored) is signal.SIG_IGN:
        signal.signal(ignored, signal.default_int_handler if ignored == signal.SIGINT else signal.SIG_DFL)


def pytest_collection_finish() -> None:
    """What was loaded and collected stays to the end: no search for garbage needs to walk through it, and the rest is small."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(ALLOCATIONS, 10, 10)


def pytest_sessionstart(session: pytest.Session) -> None:
    """All databases are copies of one cluster, which the workers share."""
    given = getattr(session.config, "workerinput", {}).get("clusters")
    ForkedServer.clusters = Path(given or tempfile.mkdtemp(prefix="aitbc-test-clusters-"))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Says a new worker where the cluster is."""
    node.workerinput["clusters"] = str(ForkedServer.clusters)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """The cluster goes, with the process that all others belong to."""
    if ForkedServer.clusters is not None and not hasattr(session.config, "workerinput"):
        shutil.rmtree(ForkedServer.clusters, ignore_errors=True)


@pytest.fixture
def anyio_backend() -> str:
    """The event loop of the tests: plain asyncio, new for each."""
    return "asyncio"
