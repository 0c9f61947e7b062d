"""Migrated clusters for the embedded PostgreSQL of tests: one is made for all workers, and copied for each that wants one.

To run initdb and all migrations takes longer than all else that a first start does. Servers that are started as programs make
their own.
"""

import asyncio
import fcntl
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from aitbc.app import MODULES, parts
from aitbc.kernel.database.migrations import migrate
from aitbc.kernel.database.unit_of_work import Target
from aitbc.server.postgres import embedded
from aitbc.server.postgres.cluster import make_cluster
from aitbc.server.postgres.paths import Layout
from aitbc.server.runtime import bootstrap

FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum": "off"}
Make = Callable[..., None]


def copy_clusters(folder: Path) -> None:
    """Have this process copy the cluster that is kept in the folder, where it would make one, and not wait for the disk.

    What dies in tests are processes: what those wrote survives them in the system's memory.
    """
    embedded.make_cluster = partial(_copy_to_serve, folder, make_cluster)  # type: ignore[attr-defined]
    embedded.DEFAULTS = {**embedded.DEFAULTS, "fsync": "off"}


@contextmanager
def copied_cluster(folder: Path) -> Iterator[None]:
    """Within the block a new embedded PostgreSQL of this process is a copy too; what it waits for is its own business."""
    make: Make = embedded.make_cluster  # type: ignore[attr-defined]
    embedded.make_cluster = partial(_copy, folder, make)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        embedded.make_cluster = make  # type: ignore[attr-defined]


def _copy_to_serve(folder: Path, make: Make, layout: Layout, *, owner: str, sync: bool) -> None:
    _copy(folder, make, layout, owner=owner, sync=sync)
    bootstrap._migrate = nothing_to_migrate


async def nothing_to_migrate(*_: Any, **__: Any) -> None:
    """What a start does to a database that the same code migrated a moment ago."""


def _copy(folder: Path, make: Make, layout: Layout, *, owner: str, sync: bool) -> None:
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "data").exists():
            _make(folder, make)
    subprocess.run(["cp", "--archive", "--reflink=auto", folder / "data", layout.unfinished], check=True)
    layout.unfinished.rename(layout.data)


def _make(folder: Path, make: Make) -> None:
    copying = embedded.make_cluster  # type: ignore[attr-defined]
    embedded.make_cluster = make  # type: ignore[attr-defined]
    try:
        server = embedded.EmbeddedPostgres(folder / "made", settings=FAST)
        address = server.start()
        try:
            target = Target(host=str(address.host), port=address.port, user=address.user, database=address.database)
            asyncio.run(migrate(target, parts(MODULES), secret=None))
        finally:
            server.stop()
        assert server.home is not None
        subprocess.run(["cp", "--archive", server.home / "data", folder / "data.new"], check=True)
        server.discard()
        shutil.rmtree(folder / "made")
        (folder / "data.new").rename(folder / "data")
    finally:
        embedded.make_cluster = copying  # type: ignore[attr-defined]
