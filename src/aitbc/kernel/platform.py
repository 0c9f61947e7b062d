"""What the whole process shares, as the modules see it."""

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
    """What the whole process shares."""

    node_key: Key
    """Signs receipts and blocks."""
    state_dir: Path
    secret: bytes
    """The installation's secret; cursors and role passwords are derived from it."""
    identity: Identity
    """Accounts and API keys."""
    kernel: Database
    """The kernel's own schema."""
    webhooks: DirectDelivery | None = None
    """Delivers events to webhooks directly; none in tests without webhooks."""
    loop_lag: LoopLag = field(default_factory=LoopLag)
    """Whether this process stood still for a while: nobody is to be blamed for a silence of our own."""
    bus: Bus | None = None
    """The NATS server between the processes, where one is configured."""
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the process is about to stop: long polls and streams end."""
