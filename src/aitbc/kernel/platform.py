"""The platform: what modules share within one process."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

from msgspec import Struct

from aitbc.kernel.crypto.signing import Key
from aitbc.kernel.database.outbox import Event
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.events.bus import Bus
from aitbc.kernel.hooks.extensions import Extensions
from aitbc.kernel.hooks.hooks import Hooks
from aitbc.kernel.hooks.remote import Reply
from aitbc.kernel.identity.accounts import Identity
from aitbc.kernel.parameters import Parameters
from aitbc.kernel.primitives.loop_lag import LoopLag


class DirectDelivery(Protocol):
    """Delivers events to webhooks without the relay: all that a module sees of them."""

    def deliver(self, event_id: UUID, event: Event, on_written: Callable[[UUID], object]) -> None:
        """Queue an event for fan-out to webhooks; `on_written` gets its id once the deliveries are written."""


class Unreachable(Exception):
    """Nothing there answered as it should; the message says why, in words that reveal nothing about our network."""


class Egress(Protocol):
    """Requests to places outside of the installation, under the egress policy of the settings."""

    def check(self, url: str) -> None:
        """Check a URL as it is written. Raises `Invalid` for one that nothing is sent to."""

    def check_address(self, host: str, port: int) -> None:
        """The same for a host and port that a connection is opened to."""

    async def get(self, url: str, seconds: float) -> int:
        """The status that a GET is answered with; no redirect is followed. Raises `Unreachable`."""

    async def fetch(self, url: str, seconds: float, *, body: bytes | None, headers: Mapping[str, str]) -> Reply:
        """GET a URL, or POST a JSON body to it, and read the answer, up to a megabyte of it.

        No redirect is followed. Raises `Unreachable`, also for an answer that is larger.
        """

    async def connect(self, host: str, port: int, seconds: float) -> None:
        """Open a TCP connection and close it. Raises `Unreachable`."""


class InstalledPart(Struct, frozen=True):
    """Something that an installation is made of."""

    kind: str
    """`process`, `module`, `database` or `bus`."""
    name: str


class Finding(Struct, frozen=True):
    """What a look at a part of the installation found."""

    works: bool
    reason: str = ""
    """What is wrong; of a part that works, what it does not do as it should."""


class Installation(Protocol):
    """What a process may find out about, and have done to, the installation that it belongs to."""

    def parts(self) -> Sequence[InstalledPart]:
        """What it is made of: processes, modules, their databases, and the bus where there is one."""

    async def look(self, part: InstalledPart) -> Finding:
        """Look at one of its parts now."""

    async def figures(self) -> Mapping[str, float]:
        """The metrics of all its processes by name and labels, without histograms: `aitbc_jobs{state="queued"}`."""

    def logs(self, level: str, limit: int) -> Sequence[Mapping[str, Any]]:
        """The newest lines that this process logged at this level or above, newest first."""

    async def upkeep(self, action: str) -> Mapping[str, Any]:
        """Do `cleanup`, `reindex` or `backup`, and say what was done. Raises `NotDone` where this process cannot."""


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
    egress: Egress | None = None
    """Requests to places outside; none where nothing is sent."""
    hooks: Hooks = field(default_factory=Hooks)
    """The plugins of this process, by the hooks at which they are asked."""
    extensions: Extensions | None = None
    """The installed plugins, which each process follows; none where nothing follows them."""
    parameters: Parameters = field(default_factory=Parameters)
    """The numbers that governance may change while everything runs."""
    heard: frozenset[str] = frozenset()
    """The kinds of events that some module of the installation handles, wherever that runs."""
    installation: Installation | None = None
    """The installation around this process; set once it is wired, before anything runs."""
