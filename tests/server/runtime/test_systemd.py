"""Notifications to systemd: the right states at the right socket, none from a frozen loop, and none from child processes."""

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
from aitbc.kernel.primitives.tasks import cancel_and_wait
from aitbc.server.runtime.systemd import VARIABLES, Notifier, remove_systemd_variables
from tests.eventually import PATIENCE_SECONDS


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A socket like systemd's, and its address as systemd would write it."""
    address = str(tmp_path / "notify") if request.param == "path" else f"@aitbc/{uuid.uuid4().hex}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind("\0" + address[1:] if address.startswith("@") else address)
        made.settimeout(30)
        yield made, address


def notifications(systemd: socket.socket) -> list[str]:
    """Everything sent so far."""
    found = []
    systemd.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            found.append(systemd.recv(200).decode())
    return found


async def heard(systemd: socket.socket) -> None:
    """Until a notification has come: nothing else was sent."""
    sent: list[str] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not sent:
            await asyncio.sleep(0.02)
            sent = notifications(systemd)
    assert set(sent) == {"WATCHDOG=1"}


def test_a_state_arrives_at_a_path_and_at_an_abstract_socket(systemd: tuple[socket.socket, str]) -> None:
    listener, address = systemd
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
        assert time.monotonic() - started < 30


async def test_the_watchdog_is_notified_twice_in_each_timeout(systemd: tuple[socket.socket, str]) -> None:
    listener, address = systemd
    loop_lag = LoopLag()
    tasks = [asyncio.create_task(work) for work in (loop_lag.run(), Notifier(address, 0.4).run_watchdog(loop_lag))]
    sent, started = list[str](), time.monotonic()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(sent) < 5:
            await asyncio.sleep(0.05)
            sent += notifications(listener)
    assert set(sent) == {"WATCHDOG=1"}
    assert len(sent) <= 2 + (time.monotonic() - started) / 0.2
    await cancel_and_wait(tasks)


async def test_without_a_watchdog_nothing_is_sent(systemd: tuple[socket.socket, str]) -> None:
    listener, address = systemd
    await asyncio.wait_for(Notifier(address).run_watchdog(LoopLag()), 1)
    assert notifications(listener) == []


async def test_a_loop_that_stands_still_is_silent_and_says_soon_that_it_goes_on(
    systemd: tuple[socket.socket, str],
) -> None:
    listener, address = systemd
    loop_lag = LoopLag()
    tasks = [asyncio.create_task(work) for work in (loop_lag.run(), Notifier(address, 1.0).run_watchdog(loop_lag))]
    await heard(listener)
    time.sleep(0.8)  # noqa: ASYNC251 - the loop is to stand still
    assert notifications(listener) == []
    await heard(listener)
    await cancel_and_wait(tasks)


async def test_a_lag_monitor_that_has_ended_ends_the_notifications(systemd: tuple[socket.socket, str]) -> None:
    listener, address = systemd
    loop_lag = LoopLag()
    beating = asyncio.create_task(loop_lag.run())
    watchdog = asyncio.create_task(Notifier(address, 0.4).run_watchdog(loop_lag))
    await heard(listener)
    beating.cancel()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:  # what was on its way may come yet; then there is nothing for longer than two periods
            await asyncio.sleep(0.5)
            if not notifications(listener):
                break
    await asyncio.sleep(0.5)
    assert notifications(listener) == []
    await cancel_and_wait([beating, watchdog])


def test_the_watchdog_is_extended_for_a_block_and_restored(systemd: tuple[socket.socket, str]) -> None:
    listener, address = systemd
    with suppress(RuntimeError), Notifier(address, 30.0).extended_watchdog(305.0):
        assert notifications(listener) == ["WATCHDOG=1\nWATCHDOG_USEC=305000000"]
        raise RuntimeError
    assert notifications(listener) == ["WATCHDOG=1\nWATCHDOG_USEC=30000000"]
    with Notifier(address, 30.0).extended_watchdog(10.0), Notifier(address).extended_watchdog(305.0):
        assert notifications(listener) == []


def test_a_child_process_does_not_get_the_variables_of_systemd() -> None:
    environment = {**os.environ, **dict.fromkeys(VARIABLES, "1"), "KEPT": "yes"}
    remove_systemd_variables(environment)
    remove_systemd_variables(environment)
    said = subprocess.check_output([sys.executable, "-c", "import os; print(*os.environ)"], env=environment, text=True)
    assert "KEPT" in said.split()
    assert not set(VARIABLES) & set(said.split())
