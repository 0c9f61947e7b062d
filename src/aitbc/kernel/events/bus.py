"""What a bus between the processes can do, for those who need not know which it is, nor load it where there is none."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from prometheus_client import Metric

from aitbc.kernel.events.relay import EventHandler, Subscriber


class Said(Protocol):
    """A message."""

    @property
    def data(self) -> bytes:
        """What it says."""


class EventTransport(Protocol):
    """The way of events over it, for one process."""

    def ear(self, direct: Subscriber) -> Subscriber:
        """A handler of a module in another process, told this way and directly what did not get there so."""

    async def run(self) -> None:
        """Hear what arrives for this process, for ever."""


class Bus(Protocol):
    """The connection of one process."""

    def hear(self, subject: str, hear: Callable[[Said], Awaitable[None]], *, group: str = "") -> None:
        """Hear what is said about a subject, from the start on; of a group only one hears each message."""

    async def say(self, subject: str, body: bytes, headers: Mapping[str, str] | None = None) -> bool:
        """Say something to whoever hears it now; false where nobody can be reached."""

    def events(self, event_handlers: Mapping[str, EventHandler]) -> EventTransport:
        """The way of events to and from the hearers of this process."""

    async def start(self) -> None:
        """Begin to connect; nobody waits for it."""

    async def stop(self) -> None:
        """Leave it."""

    async def measure(self) -> Sequence[Metric]:
        """Whether it is there, and how events went."""
