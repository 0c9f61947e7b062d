"""systemd notifications: READY, STOPPING, and WATCHDOG for as long as the event loop runs."""

import asyncio
import socket
from collections.abc import Generator, MutableMapping
from contextlib import contextmanager, suppress

from msgspec import Struct

from aitbc.kernel.primitives.loop_lag import TICK_SECONDS, LoopLag

VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
"""The environment variables of sd_notify; for this process, and for none that it starts."""


class Notifier(Struct, frozen=True):
    """Sends notifications to systemd over the datagram socket that it names; does nothing where there is none."""

    address: str | None = None
    """The path of the socket, or the name of an abstract one after an `@`."""
    watchdog_seconds: float | None = None
    """The watchdog timeout of systemd; none when the watchdog is off."""

    def notify(self, state: str) -> None:
        """Send `READY=1`, `STOPPING=1` or `WATCHDOG=1`; errors are ignored."""
        if self.address is None:
            return
        name = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.setblocking(False)
            sender.sendto(state.encode(), name)

    async def run_watchdog(self, loop_lag: LoopLag) -> None:
        """Send WATCHDOG twice in each timeout, while the event loop is not frozen, until cancelled.

        A frozen loop sends nothing, as it should. One that has just resumed sends with the next tick of the lag
        monitor, and not half a timeout later, which might be too late.
        """
        while self.watchdog_seconds is not None:
            pause = self.watchdog_seconds / 2
            if loop_lag.loop_frozen_seconds < pause:
                self.notify("WATCHDOG=1")
                await asyncio.sleep(pause)
            else:
                await asyncio.sleep(TICK_SECONDS)

    @contextmanager
    def extended_watchdog(self, seconds: float) -> Generator[None]:
        """Extend the watchdog timeout while the block holds up the event loop on purpose; never shorten it."""
        if self.watchdog_seconds is None or seconds <= self.watchdog_seconds:
            yield
            return
        self._set_watchdog(seconds)
        try:
            yield
        finally:
            self._set_watchdog(self.watchdog_seconds)

    def _set_watchdog(self, seconds: float) -> None:
        self.notify(f"WATCHDOG=1\nWATCHDOG_USEC={round(seconds * 1_000_000)}")


def remove_systemd_variables(environ: MutableMapping[str, str]) -> None:
    """Remove systemd's variables once they are read, so that child processes do not notify in our name."""
    for name in VARIABLES:
        environ.pop(name, None)
