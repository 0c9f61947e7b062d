"""Looks after the processes of split modules: starts them, starts again what dies, and ends them with the main process.

They are told to end when that one drains, and the kernel of the system tells them when it dies.
"""

import asyncio
import ctypes
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

import structlog

from aitbc.server.cluster.peers import Peer

BACK_OFF_SECONDS = (0.5, 30.0)
"""The first pause before a process that died is started again, and the longest."""
LOOK_SECONDS = 0.2
STOP_SECONDS = 9.0
_SET_PARENT_DEATH_SIGNAL = 1
_prctl = ctypes.PyDLL(None, use_errno=True).prctl
_prctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)

log = structlog.get_logger("aitbc.supervisor")


class Child:
    """The process of one module."""

    def __init__(self, module: str, peer: Peer, command: Sequence[str]) -> None:
        self.module = module
        self._peer = peer
        self._command = command
        self._process: asyncio.subprocess.Process | None = None
        self._ending = asyncio.Event()

    async def keep(self) -> None:
        """Run it until it is to end, again and again."""
        pause = BACK_OFF_SECONDS[0]
        while not self._ending.is_set():
            while await self._peer.is_listening():  # noqa: ASYNC110 - the child of a killed predecessor, about to end
                await asyncio.sleep(LOOK_SECONDS)
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdin=asyncio.subprocess.DEVNULL, start_new_session=True, preexec_fn=_tied_to_us()
            )
            log.info("process_started", module=self.module, pid=self._process.pid)
            if self._ending.is_set():  # we were told while it was being made
                self.end()
            has_served = asyncio.create_task(self._serves())
            code = await self._process.wait()
            if not has_served.cancel():  # only what does not even come up is given more and more time
                pause = BACK_OFF_SECONDS[0]
            if self._ending.is_set():
                return
            log.error("process_died", module=self.module, exit_code=code, again_in_seconds=pause)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), pause)
            pause = min(pause * 2, BACK_OFF_SECONDS[1])

    async def _serves(self) -> None:
        while not await self._peer.is_listening():  # noqa: ASYNC110 - a socket tells nobody that it is there
            await asyncio.sleep(LOOK_SECONDS)

    def end(self, number: int = signal.SIGTERM) -> None:
        """Ask it to end, for good."""
        self._ending.set()
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)


@asynccontextmanager
async def supervised(peers: Mapping[str, Peer], command: Sequence[str], draining: asyncio.Event) -> AsyncIterator[None]:
    """A process for each of these modules while the block runs; `command` with its name before the last word starts one."""
    children = [Child(name, one, [*command[:-1], name, command[-1]]) for name, one in peers.items()]
    tasks = [asyncio.create_task(child.keep()) for child in children]
    watch = asyncio.create_task(_end_when(draining, children))
    try:
        yield
    finally:
        watch.cancel()
        for child in children:
            child.end()
        _, late = await asyncio.wait(tasks, timeout=STOP_SECONDS) if tasks else (set(), set())
        for child in children:
            child.end(signal.SIGKILL)
        for task in late:
            task.cancel()
        await asyncio.gather(watch, *tasks, return_exceptions=True)


async def _end_when(draining: asyncio.Event, children: Sequence[Child]) -> None:
    await draining.wait()
    for child in children:
        child.end()


def _tied_to_us() -> Callable[[], None]:
    """What a child does between fork and exec: ask to be told when this process dies. Only system calls."""
    parent = os.getpid()

    def prepare() -> None:
        if _prctl(_SET_PARENT_DEATH_SIGNAL, int(signal.SIGTERM), 0, 0, 0) != 0 or os.getppid() != parent:
            os._exit(70)

    return prepare
