"""The face of gpu: all that the other modules may know."""

from datetime import datetime
from typing import Any, Protocol

from msgspec import Struct

from aitbc.kernel.errors import NotFound


class Miner(Struct, frozen=True, kw_only=True):
    """A machine that does work, and whose it is."""

    id: str
    account: str
    name: str
    public_key: str
    """Ed25519, made on the miner; its fingerprint is shown on both sides."""
    fingerprint: str
    status: str
    """`enrolled`, `online`, `draining`, `offline` or `removed`."""
    status_reason: str | None
    device: str
    kinds: tuple[str, ...]
    slots: int
    slots_busy: int
    region: str | None
    inventory: dict[str, Any]
    """What the miner found in itself, with null for what it could not read."""
    reputation: float
    """0 to 1, from stored events alone."""
    last_seen_at: datetime | None
    created_at: datetime


class MinerNotFound(NotFound):
    """There is no such miner."""

    code = "miner_not_found"


class GpuApi(Protocol):
    """What gpu does for its neighbours."""

    async def miner(self, miner: str) -> Miner:
        """One miner. Raises `MinerNotFound`."""
        ...
