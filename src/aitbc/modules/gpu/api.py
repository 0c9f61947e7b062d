"""The face of gpu: all that the other modules may know."""

from datetime import datetime
from typing import Annotated, Protocol

from msgspec import Meta, Struct

from aitbc.kernel.primitives.errors import NotFound
from aitbc.kernel.primitives.text import Name

DEVICES_MAX = 64
BRAKES_MAX = 16
SLOTS_MAX = 64
_STEERING = r"\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
Label = Annotated[
    str,
    Meta(max_length=128, pattern=rf"^[^{_STEERING}]*\Z"),
    Meta(extra_json_schema={"pattern": rf"^[^{_STEERING}]*$", "examples": ["NVIDIA H100 80GB HBM3"]}),
]
"""What a driver or a system says of itself: one line of text that steers no terminal."""
Mebibytes = Annotated[int, Meta(ge=0, le=2**40)]


class Device(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A device that can work, the CPU included; null is what could not be read, never a guess."""

    vendor: Label | None = None
    type: Label | None = None
    """How programs reach it: `cuda`, `rocm`, …; `cpu` for the processor itself."""
    index: Annotated[int, Meta(ge=0, le=1023)] | None = None
    uuid: Label | None = None
    name: Label | None = None
    driver_version: Label | None = None
    runtime_version: Label | None = None
    compute_capability: Label | None = None
    memory_total_mib: Mebibytes | None = None
    memory_reserved_mib: Mebibytes | None = None
    """What the driver keeps for itself; where it is null, `memory_used_mib` may count it as used."""
    memory_used_mib: Mebibytes | None = None
    memory_sellable_mib: Mebibytes | None = None
    """What work can have: the total less what is reserved."""
    utilization: Annotated[float, Meta(ge=0, le=100)] | None = None
    """Percent."""
    temperature_celsius: Annotated[float, Meta(ge=-100, le=500)] | None = None
    power_watts: Annotated[float, Meta(ge=0, le=100_000)] | None = None
    brake_reasons: Annotated[tuple[Label, ...], Meta(max_length=BRAKES_MAX)] | None = None
    """What holds its clocks back: `power_cap`, `thermal`, …; empty for nothing, null where it cannot be read."""
    memory_is_shared: bool | None = None
    """Whether it works in the memory of its host, which is what its memory then counts."""
    fault: Label | None = None
    """Why it cannot work now, as its driver says; none for a device that can."""


class Host(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The machine around the devices; null is what could not be read."""

    os: Label | None = None
    kernel: Label | None = None
    cpu_model: Label | None = None
    cpu_count: Annotated[int, Meta(ge=1, le=65_536)] | None = None
    memory_mib: Mebibytes | None = None
    disk_free_mib: Mebibytes | None = None


class Inventory(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a miner found in itself."""

    devices: Annotated[tuple[Device, ...], Meta(max_length=DEVICES_MAX)] = ()
    host: Host = Host()


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
    kinds: tuple[str, ...]
    models: dict[str, tuple[str, ...]]
    """The models that it serves, by kind; a kind that is absent takes only jobs that name no model."""
    device: str
    """`cpu` or `gpu`."""
    gpu_models: tuple[str, ...]
    vram_mib: int
    """The largest memory of a single GPU."""
    region: str | None
    programs: tuple[str, ...]
    """For kind `command`: the names of the programs its operator allows."""
    capabilities_version: int
    slots: int
    slots_busy: int
    inventory: Inventory
    """What the miner found in itself, as it last reported."""
    hardware: str = "claimed"
    """How it is known: `claimed`, by what its driver says; nothing here measures it."""
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
    """What gpu does for other modules."""

    async def miner(self, miner: str) -> Miner:
        """One miner. Raises `MinerNotFound`."""
        ...
