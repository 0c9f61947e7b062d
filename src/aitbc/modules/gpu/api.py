"""The face of gpu: all that the other modules may know."""

from datetime import datetime
from typing import Annotated, Literal, Protocol

from msgspec import Meta, Struct

from aitbc.kernel.errors import NotFound
from aitbc.kernel.text import Name

DEVICES_MAX = 64
Mebibytes = Annotated[int, Meta(ge=0, le=2**40)]
Label = Annotated[str, Meta(max_length=128, pattern=r"^[^\x00-\x1f\x7f]*\Z")]
"""What a driver says of itself: one line of text."""


class Device(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One device of a miner; null is what the miner could not read."""

    kind: Literal["cpu", "gpu"]
    vendor: Label | None = None
    type: Label | None = None
    """How programs reach it: `cuda`, `rocm`, `cpu`, …"""
    index: Annotated[int, Meta(ge=0, le=1023)] | None = None
    uuid: Label | None = None
    name: Label | None = None
    driver_version: Label | None = None
    runtime_version: Label | None = None
    compute_capability: Label | None = None
    memory_total_mib: Mebibytes | None = None
    memory_used_mib: Mebibytes | None = None
    utilisation_percent: Annotated[float, Meta(ge=0, le=100)] | None = None
    temperature_celsius: Annotated[float, Meta(ge=-100, le=500)] | None = None
    power_watts: Annotated[float, Meta(ge=0, le=100_000)] | None = None


class Inventory(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a miner found in itself; null is what it could not read."""

    os: Label | None = None
    kernel: Label | None = None
    architecture: Label | None = None
    ram_total_mib: Mebibytes | None = None
    ram_used_mib: Mebibytes | None = None
    disk_total_mib: Mebibytes | None = None
    disk_free_mib: Mebibytes | None = None
    devices: Annotated[tuple[Device, ...], Meta(max_length=DEVICES_MAX)] = ()
    """The CPU is a device of its own kind."""


class Miner(Struct, frozen=True, kw_only=True):
    """A machine that does work, and whose it is."""

    id: str
    account: str
    name: Name
    public_key: str
    """Ed25519, made on the miner; its fingerprint is shown on both sides."""
    fingerprint: str
    status: str
    """`enrolled`, `online`, `draining`, `offline` or `removed`."""
    status_reason: str | None
    """Why it is in that status, where there is something to say."""
    drain_message: str | None
    """What its owner said when asking it to take no more work; none unless it drains."""
    device: str
    kinds: tuple[str, ...]
    models: dict[str, tuple[str, ...]]
    """Model names by kind; a kind that is absent serves any model of its own."""
    programs: tuple[str, ...]
    gpu_models: tuple[str, ...]
    vram_mib: int
    """The largest memory of a single GPU."""
    region: str | None
    capabilities_version: int
    slots: int
    slots_busy: int
    inventory: Inventory
    """What the miner found in itself, with null for what it could not read; readings are those of the last heartbeat."""
    reputation: float
    """0 to 1, from stored events alone."""
    newcomer: bool
    """Whether too little is known of it for its reputation to mean much."""
    last_seen_at: datetime | None
    created_at: datetime
    changed_at: datetime


class MinerNotFound(NotFound):
    """There is no such miner."""

    code = "miner_not_found"


class GpuApi(Protocol):
    """What gpu does for its neighbours."""

    async def miner(self, miner: str) -> Miner:
        """One miner. Raises `MinerNotFound`."""
        ...
