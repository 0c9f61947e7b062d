"""The message bus between processes, as Protocols: their users need not load the NATS client, which is optional."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from prometheus_client import Metric

from aitbc.kernel.events.relay import EventHandler, Subscriber


class BusMessage(Protocol):
    """A message received from the bus."""

    @property
    def data(self) -> bytes:
        """Its body."""


class EventTransport(Protocol):
    """Carries outbox events over the bus, for one process."""

    def subscriber(self, direct: Subscriber) -> Subscriber:
        """The subscriber for a handler in another process; `direct` gets what the bus did not deliver."""

    async def run(self) -> None:
        """Handle the events that arrive for this process, until cancelled."""


class Bus(Protocol):
    """The bus connection of one process."""

    def subscribe(self, subject: str, handler: Callable[[BusMessage], Awaitable[None]], *, group: str = "") -> None:
        """Register a handler for a subject, before `start`; in a queue group each message goes to one subscriber."""

    async def publish(self, subject: str, body: bytes, headers: Mapping[str, str] | None = None) -> bool:
        """Publish a message to the current subscribers, at most once; false while the bus is not connected."""

    def event_transport(self, handlers: Mapping[str, EventHandler]) -> EventTransport:
        """The transport of events to and from the handlers of this process."""

    async def start(self) -> None:
        """Begin to connect in the background."""

    async def stop(self) -> None:
        """Disconnect."""

    async def measure(self) -> Sequence[Metric]:
        """Metrics: whether the bus is connected, and how many events went by each transport."""
