"""The fork server: its processes end, are signalled and reported as programs are, and without it programs are started."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.chaos.server_process import ServerProcess, children_of, descendants_of, name_of
from tests.server.runtime.test_serve import ask, free_port

PROGRAM = """
import asyncio, os, signal, sys, time
from contextlib import suppress
from pathlib import Path
from aitbc.server.runtime.launcher import LauncherGone, launcher

def serve(module):
    if module == "fails":
        raise ValueError("of its own")
    if module == "waits":
        time.sleep(600)
    return int(module)

async def main():
    forking.listen()
    refused, failed = await forking.start("78"), await forking.start("fails")
    assert [await refused.wait(), await failed.wait()] == [78, 1]
    with suppress(ProcessLookupError):
        refused.send_signal(signal.SIGTERM)
        raise AssertionError("it had ended")
    stopped, asked = [await forking.start("waits") for _ in range(2)]
    stopped.send_signal(signal.SIGTERM)
    asked.send_signal(signal.SIGKILL)
    assert [await stopped.wait(), await asked.wait()] == [-signal.SIGTERM, -signal.SIGKILL]
    left = await forking.start("waits")
    os.kill(forking.pid, signal.SIGTERM)  # as to everything of a control group: not its business
    last = await forking.start("waits")
    os.kill(forking.pid, signal.SIGKILL)
    assert [await left.wait(), await last.wait()] == [-signal.SIGTERM] * 2
    with suppress(LauncherGone):
        await forking.start("waits")
        raise AssertionError("it was gone")
    forking.close()
    while Path(f"/proc/{left.pid}").exists() and "Z" not in Path(f"/proc/{left.pid}/stat").read_text():
        await asyncio.sleep(0.05)

forking = launcher(serve)
asyncio.run(main())
print("all of it")
"""


def until(holds: Callable[[], bool]) -> None:
    """Wait for it."""
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_forked_processes_are_waited_for_signalled_and_lost_as_programs_are() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120)
    assert done.stdout == "all of it\n", done.stderr
    assert done.stderr.count("ValueError: of its own") == 1, "what it dies of is said once"


THREADS = """
import threading
from aitbc.server.runtime.launcher import launcher
threading.Thread(target=threading.Event().wait, daemon=True).start()
assert launcher(int) is None
"""


def test_a_process_with_threads_is_not_forked() -> None:
    subprocess.run([sys.executable, "-c", THREADS], check=True, timeout=60)


def test_modules_are_forked_and_started_as_programs_when_the_fork_server_is_gone(tmp_path: Path) -> None:
    split = {"AITBC_MODULES__GPU__PLACE": "split", "AITBC_MODULES__GPU__PORT": str(free_port())}
    server = ServerProcess(tmp_path / "state", free_port(), **split)
    server.start()

    def pid() -> int:
        rows = ask(server, "/api/v1/operations/places")["data"]
        return next((row["pid"] for row in rows if row["module"] == "gpu" and row["answers"]), 0)

    try:
        until(lambda: pid() != 0)
        [forking] = [child for child in children_of(server.pid) if name_of(child) == "aitbc launcher"]
        first = pid()
        assert children_of(forking) == [first]
        assert name_of(first) == "aitbc gpu"
        os.kill(first, signal.SIGKILL)
        until(lambda: pid() not in (0, first))
        second = pid()
        assert children_of(forking) == [second]
        os.kill(forking, signal.SIGKILL)
        until(lambda: pid() not in (0, second))
        assert pid() in children_of(server.pid)
        assert b"gpu" in Path(f"/proc/{pid()}/cmdline").read_bytes().split(b"\0")
        everything = descendants_of(server.pid)
    finally:
        assert server.stop() == 0
    assert not [one for one in everything if Path(f"/proc/{one}").exists()]
