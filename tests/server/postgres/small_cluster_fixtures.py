"""Clusters for the tests of the embedded PostgreSQL, quick to get: one that is made once and lent from test to test."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from aitbc.server.postgres.embedded import EmbeddedPostgres
from tests.server.postgres.small_cluster import FAST, Server


@pytest.fixture
def ground() -> Iterator[Path]:
    """A short folder that every account can enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="aitbc-test-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def shelf() -> Iterator[Path]:
    """A folder that keeps a stopped cluster, `data`, between the tests that use it: making one takes a second."""
    with tempfile.TemporaryDirectory(prefix="aitbc-test-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name) / "shelf"


@pytest.fixture
def made(shelf: Path) -> Path:
    """A stopped cluster to move or to copy."""
    if not (shelf / "data").exists():
        one = EmbeddedPostgres(shelf, settings=FAST, system_folder=shelf.with_name("system"))
        one.start()
        one.stop()
    return shelf / "data"


@pytest.fixture
def server(ground: Path, made: Path) -> Iterator[Server]:
    """Makes a server, on the stopped cluster unless it is to be a fresh one; all are stopped at the end."""
    with ExitStack() as ending:

        def make(folder: Path = ground / "db", *, fresh: bool = False, **more: object) -> EmbeddedPostgres:
            if not fresh and not folder.exists():
                folder.mkdir(parents=True)
                made.rename(folder / "data")
                ending.callback(put_back, folder / "data", made)
            options = {"settings": FAST, "system_folder": ground / "system", **more}
            one = EmbeddedPostgres(folder, **options)  # type: ignore[arg-type]
            ending.callback(one.stop)
            return one

        yield make


def put_back(data: Path, made: Path) -> None:
    """Keep the cluster for the next test, if this one left it whole."""
    if data.exists() and not (data / "postmaster.pid").exists():
        data.rename(made)
