"""Supervisor of the processes of split modules: starts, stops, and restarts them with exponential backoff.

They are sent SIGTERM when the main process drains, and by the operating system when it dies. The fork server forks
them; when it is gone they are started as programs.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

import structlog
from msgspec import Struct

from aitbc.kernel.primitives.tasks import is_set_within
from aitbc.server.cluster.peers import Peer
from aitbc.server.runtime.launcher import ForkedProcess, Launcher, LauncherGone
from aitbc.server.runtime.parent_death import die_with

BACKOFF_SECONDS = (0.5, 30.0)
"""The first and the longest pause before a process that died is restarted."""
BAD_CONFIGURATION = 78
"""The exit code of a process that refuses its configuration: the next one would refuse it too."""
GAVE_UP = (
    "Its process refused its configuration (exit code 78) and is not started again: correct what it wrote to the log, then "
    "restart the server."
)
POLL_SECONDS = 0.2
STOP_SECONDS = 9.0

log = structlog.get_logger("aitbc.supervisor")


class Child:
    """The process of one module."""

    def __init__(self, module: str, peer: Peer, command: Sequence[str], launcher: Launcher | None = None) -> None:
        self.module = module
        self._peer = peer
        self._command = command
        self._launcher = launcher
        self._process: asyncio.subprocess.Process | ForkedProcess | None = None
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Run the process, and restart it whenever it ends, until `stop` or until it refuses its configuration."""
        pause = BACKOFF_SECONDS[0]
        while not self._stopping.is_set():
            while await self._peer.is_listening():  # noqa: ASYNC110 - the child of a killed predecessor, about to end
                await asyncio.sleep(POLL_SECONDS)
            self._process = await self._start()
            log.info("process_started", module=self.module, pid=self._process.pid)
            if self._stopping.is_set():  # stopped while it was being started
                self.stop()
            has_served = asyncio.create_task(self._wait_until_serving())
            code = await self._process.wait()
            if not has_served.cancel():  # the backoff grows only for a process that never served
                pause = BACKOFF_SECONDS[0]
            if self._stopping.is_set():
                return
            if code == BAD_CONFIGURATION:
                self._peer.gave_up = GAVE_UP
                log.error("process_given_up", module=self.module, exit_code=code, meaning=GAVE_UP)
                return
            log.error("process_died", module=self.module, exit_code=code, again_in_seconds=pause)
            await is_set_within(self._stopping, pause)
            pause = min(pause * 2, BACKOFF_SECONDS[1])

    async def _start(self) -> asyncio.subprocess.Process | ForkedProcess:
        """Fork the process; start it as a program where there is no fork server, or none any more."""
        if self._launcher is not None:
            with suppress(LauncherGone):
                return await self._launcher.start(self.module)
            log.warning("launcher_gone", module=self.module, meaning="processes of modules are started as programs")
        return await asyncio.create_subprocess_exec(
            *self._command, stdin=asyncio.subprocess.DEVNULL, start_new_session=True, preexec_fn=_die_with_parent()
        )

    async def _wait_until_serving(self) -> None:
        while not await self._peer.is_listening():  # noqa: ASYNC110 - there is no event for a new socket
            await asyncio.sleep(POLL_SECONDS)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Send it a signal to end, and do not restart it."""
        self._stopping.set()
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)


class SplitModules(Struct, frozen=True):
    """The modules whose processes this one supervises, and how those are started."""

    names: Sequence[str]
    command: Sequence[str]
    """The program; the module's name goes before its last word."""
    launcher: Launcher | None
    """The fork server; none where the program is started each time."""


@asynccontextmanager
async def supervised(split: SplitModules, peers: Mapping[str, Peer], draining: asyncio.Event) -> AsyncIterator[None]:
    """Run a process for each of these modules while the block runs."""
    if split.launcher is not None:
        split.launcher.listen()
    *program, flags = split.command
    children = [Child(name, peers[name], [*program, name, flags], split.launcher) for name in split.names]
    tasks = [asyncio.create_task(child.run()) for child in children]
    watch = asyncio.create_task(_stop_on_drain(draining, children))
    try:
        yield
    finally:
        watch.cancel()
        for child in children:
            child.stop()
        _, late = await asyncio.wait(tasks, timeout=STOP_SECONDS) if tasks else (set(), set())
        for child in children:
            child.stop(signal.SIGKILL)
        for task in late:
            task.cancel()
        await asyncio.gather(watch, *tasks, return_exceptions=True)


async def _stop_on_drain(draining: asyncio.Event, children: Sequence[Child]) -> None:
    await draining.wait()
    for child in children:
        child.stop()


def _die_with_parent() -> Callable[[], None]:
    """What a program does between fork and exec: ask for SIGTERM when this process dies."""
    parent = os.getpid()
    return lambda: die_with(parent, signal.SIGTERM)
