"""What systemd hears: the right words at the right place, nothing from a loop that stands still, and nothing from children."""

import asyncio
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from aitbc.kernel.primitives.loop_lag import LoopLag
from aitbc.server.runtime.systemd import VARIABLES, Notifier, remove_systemd_variables


@pytest.fixture(params=["path", "abstract"])
def ear(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A socket like systemd's, and its address as systemd would write it."""
    address = str(tmp_path / "notify") if request.param == "path" else f"@aitbc/{uuid.uuid4().hex}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind("\0" + address[1:] if address.startswith("@") else address)
        made.settimeout(5)
        yield made, address


def heard(ear: socket.socket) -> list[str]:
    """Everything said so far."""
    found = []
    ear.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            found.append(ear.recv(200).decode())
    return found


def test_a_state_arrives_at_a_path_and_at_an_abstract_socket(ear: tuple[socket.socket, str]) -> None:
    listener, address = ear
    Notifier(address).notify("READY=1")
    assert listener.recv(100) == b"READY=1"


def test_who_is_not_there_or_does_not_listen_harms_nobody(tmp_path: Path) -> None:
    Notifier().notify("READY=1")
    Notifier(str(tmp_path / "nobody")).notify("READY=1")
    Notifier("@" + "x" * 200).notify("READY=1")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(str(tmp_path / "deaf"))
        started = time.monotonic()
        for _ in range(2000):  # more than its queue holds
            Notifier(str(tmp_path / "deaf")).notify("WATCHDOG=1")
        assert time.monotonic() - started < 5


async def test_life_is_told_twice_in_the_time_allowed(ear: tuple[socket.socket, str]) -> None:
    listener, address = ear
    loop_lag = LoopLag()
    tasks = [asyncio.create_task(work) for work in (loop_lag.run(), Notifier(address, 0.4).run_watchdog(loop_lag))]
    await asyncio.sleep(1.1)
    for task in tasks:
        task.cancel()
    told = heard(listener)
    assert set(told) == {"WATCHDOG=1"}
    assert 3 <= len(told) <= 6


async def test_without_a_watchdog_nothing_is_told(ear: tuple[socket.socket, str]) -> None:
    listener, address = ear
    await asyncio.wait_for(Notifier(address).run_watchdog(LoopLag()), 1)
    assert heard(listener) == []


async def test_a_loop_that_stands_still_is_silent_and_says_soon_that_it_goes_on(ear: tuple[socket.socket, str]) -> None:
    listener, address = ear
    loop_lag = LoopLag()
    tasks = [asyncio.create_task(work) for work in (loop_lag.run(), Notifier(address, 1.0).run_watchdog(loop_lag))]
    await asyncio.sleep(0.15)
    assert heard(listener) == ["WATCHDOG=1"]
    time.sleep(0.8)  # noqa: ASYNC251 - the loop is to stand still
    assert heard(listener) == []
    await asyncio.sleep(0.25)
    assert heard(listener)[:1] == ["WATCHDOG=1"]
    for task in tasks:
        task.cancel()


async def test_a_pulse_that_no_longer_beats_ends_the_signs_of_life(ear: tuple[socket.socket, str]) -> None:
    listener, address = ear
    loop_lag = LoopLag()
    beating = asyncio.create_task(loop_lag.run())
    telling = asyncio.create_task(Notifier(address, 0.4).run_watchdog(loop_lag))
    await asyncio.sleep(0.3)
    beating.cancel()
    await asyncio.sleep(0.5)
    assert heard(listener)
    await asyncio.sleep(0.5)
    assert heard(listener) == []
    telling.cancel()


def test_patience_is_asked_for_and_given_back(ear: tuple[socket.socket, str]) -> None:
    listener, address = ear
    with suppress(RuntimeError), Notifier(address, 30.0).extended_watchdog(305.0):
        assert heard(listener) == ["WATCHDOG=1\nWATCHDOG_USEC=305000000"]
        raise RuntimeError
    assert heard(listener) == ["WATCHDOG=1\nWATCHDOG_USEC=30000000"]
    with Notifier(address, 30.0).extended_watchdog(10.0), Notifier(address).extended_watchdog(305.0):
        assert heard(listener) == []


def test_a_process_started_from_here_does_not_know_whom_to_tell() -> None:
    environment = {**os.environ, **dict.fromkeys(VARIABLES, "1"), "KEPT": "yes"}
    remove_systemd_variables(environment)
    remove_systemd_variables(environment)
    said = subprocess.check_output([sys.executable, "-c", "import os; print(*os.environ)"], env=environment, text=True)
    assert "KEPT" in said.split()
    assert not set(VARIABLES) & set(said.split())
