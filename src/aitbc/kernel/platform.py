"""The platform: what modules share within one process."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from uuid import UUID

from aitbc.kernel.crypto.signing import Key
from aitbc.kernel.database.outbox import Event
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.events.bus import Bus
from aitbc.kernel.identity.accounts import Identity
from aitbc.kernel.primitives.loop_lag import LoopLag


class DirectDelivery(Protocol):
    """Delivers events to webhooks without the relay: all that a module sees of them."""

    def deliver(self, event_id: UUID, event: Event, on_written: Callable[[UUID], object]) -> None:
        """Queue an event for fan-out to webhooks; `on_written` gets its id once the deliveries are written."""


@dataclass
class Platform:
    """The shared objects of one process, given to every service that asks for them."""

    node_key: Key
    """The Ed25519 key that signs receipts and blocks."""
    state_dir: Path
    secret: bytes
    """The installation's secret, from which role passwords and the keys for sealed values are derived."""
    identity: Identity
    """Accounts and API keys."""
    kernel: Database
    """The database access of the kernel's own schema."""
    webhooks: DirectDelivery | None = None
    """Direct delivery of events to webhooks; none where there are no webhooks."""
    loop_lag: LoopLag = field(default_factory=LoopLag)
    """Whether this process was frozen a while ago: then nobody else is to be declared silent."""
    bus: Bus | None = None
    """The NATS connection between processes, where one is configured."""
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the process is stopping: long polls and streams end."""
