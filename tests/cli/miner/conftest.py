"""What the tests of the executors share: one event loop a file, pools that are stopped, and folders for work."""

import asyncio
import itertools
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from aitbc_cli.miner.executors.pool import ExecutorPool, KindStatus, Outcome, Work
from aitbc_cli.miner.inventory import inventory
from aitbc_cli.miner.nvml import Nvml
from tests.cli.miner.chat_engine import Engine
from tests.cli.miner.fake_nvml import FakeNvml, python_with_torch

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """An event loop of the main thread: the thread that starts workers must not end before them."""
    with asyncio.Runner() as running:
        yield running


@pytest.fixture(scope="module")
def open_pool(
    runner: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., ExecutorPool]]:
    """Make a pool for some kinds of work; its workers are gone at the end of the file."""
    pools: list[ExecutorPool] = []

    def opened(kinds: Mapping[str, Mapping[str, Any]], *, slots: int = 1) -> ExecutorPool:
        pools.append(ExecutorPool(slots=slots, kinds=kinds, scratch=tmp_path_factory.mktemp("scratch")))
        return pools[-1]

    yield opened
    for pool in pools:
        runner.run(pool.stop())


@pytest.fixture(scope="module")
def make_work(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Work]:
    """Make a piece of work with a private folder of its own."""

    def made(kind: str, value: Any, *, seconds: float = 20.0, files: Mapping[str, Path] | None = None) -> Work:
        return Work(
            job_id=f"job_{next(_numbers)}",
            attempt=1,
            kind=kind,
            input=value,
            input_files=files or {},
            folder=tmp_path_factory.mktemp("work"),
            run_seconds=seconds,
            env={"AITBC_REQUEST": "req_1", "LD_PRELOAD": "evil.so"},
        )

    return made


@pytest.fixture
def engine() -> Iterator[Engine]:
    server = Engine()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def nvml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """A library of NVIDIA's with the devices that a test gives it."""
    (tmp_path / "lib").mkdir()
    return FakeNvml(tmp_path / "lib", monkeypatch)


@pytest.fixture
def start(
    runner: asyncio.Runner, nvml: FakeNvml, tmp_path: Path
) -> Iterator[Callable[..., tuple[ExecutorPool, KindStatus]]]:
    """A pool whose programs are a shell and a Python that finds a torch; it has looked at the GPUs and tried them."""
    pools: list[ExecutorPool] = []
    places = tmp_path / "torch", tmp_path / "scratch"
    for place in places:
        place.mkdir()

    def started(torch: str = "", *, slots: int = 1, **options: Any) -> tuple[ExecutorPool, KindStatus]:
        python = python_with_torch(places[0], torch)
        command = {"programs": {"sh": ["/bin/sh", "-c"], "python": [python, "-c"]}, **options}
        command |= {"user": "root"} if os.getuid() == 0 else {}  # another user finds no Python here
        pool = ExecutorPool(slots=slots, kinds={"command": command}, scratch=places[1], nvml=Nvml())
        pools.append(pool)
        pool.gpus.update(inventory(tmp_path)["devices"])
        return pool, runner.run(pool.check("command"))

    yield started
    for pool in pools:
        runner.run(pool.stop())


@pytest.fixture
def work_at(runner: asyncio.Runner, make_work: Callable[..., Work]) -> Callable[..., Outcome]:
    """Run a line in a pool."""

    def done(pool: ExecutorPool, line: str, program: str = "sh", seconds: float = 20.0) -> Outcome:
        work = make_work("command", {"program": program, "arguments": [line]}, seconds=seconds)
        return runner.run(pool.run(work, on_progress=lambda _: None))

    return done
