"""What systemd is told of this process: that it serves, that it is about to stop, and, while its loop beats, that it lives."""

import asyncio
import socket
from collections.abc import Generator, MutableMapping
from contextlib import contextmanager, suppress

from msgspec import Struct

from aitbc.kernel.primitives.loop_lag import TICK_SECONDS, LoopLag

VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
"""How systemd says where and how often it wants to hear; meant for this process and for none that it starts."""


class Notifier(Struct, frozen=True):
    """Tells systemd how we are, over the datagram socket that it names; does nothing where there is none."""

    address: str | None = None
    """A path, or the name of an abstract socket after an `@`."""
    watchdog_seconds: float | None = None
    """The longest silence before systemd ends the process; none when it does not watch."""

    def tell(self, state: str) -> None:
        """Send `READY=1`, `STOPPING=1` or `WATCHDOG=1`; whoever does not listen is no reason to fail."""
        if self.address is None:
            return
        name = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as teller:
            teller.setblocking(False)
            teller.sendto(state.encode(), name)

    async def keep_telling(self, loop_lag: LoopLag) -> None:
        """Say twice in each time allowed that we live, while the pulse beats.

        A loop that stands still says nothing, as it should. One that has just gone on says so with the next beat, not half
        the time later, which might be too late.
        """
        while self.watchdog_seconds is not None:
            pause = self.watchdog_seconds / 2
            if loop_lag.loop_frozen_seconds < pause:
                self.tell("WATCHDOG=1")
                await asyncio.sleep(pause)
            else:
                await asyncio.sleep(TICK_SECONDS)

    @contextmanager
    def patience(self, seconds: float) -> Generator[None]:
        """Ask for this much time while the block holds up the event loop on purpose; less than is allowed anyway asks nothing."""
        if self.watchdog_seconds is None or seconds <= self.watchdog_seconds:
            yield
            return
        self._allow(seconds)
        try:
            yield
        finally:
            self._allow(self.watchdog_seconds)

    def _allow(self, seconds: float) -> None:
        self.tell(f"WATCHDOG=1\nWATCHDOG_USEC={round(seconds * 1_000_000)}")


def keep_to_ourselves(environ: MutableMapping[str, str]) -> None:
    """Forget systemd's variables once they are read: a process started from here would speak in our name."""
    for name in VARIABLES:
        environ.pop(name, None)
