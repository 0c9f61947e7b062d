"""The face of gpu: all that the other modules may know."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Protocol

from msgspec import UNSET, Meta, Struct, UnsetType

from aitbc.kernel.primitives.errors import Conflict, NotFound
from aitbc.kernel.primitives.json_schema import one_of
from aitbc.kernel.primitives.text import Name

DEVICES_MAX = 64
BRAKES_MAX = 16
SLOTS_MAX = 64
DISPUTED_WITHIN = timedelta(hours=72)
"""How long after a payment, or the end of a booking, what was paid can be disputed."""
MACHINE_IMAGES_MAX = 16
_STEERING = r"\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
Label = Annotated[
    str,
    Meta(max_length=128, pattern=rf"^[^{_STEERING}]*\Z"),
    Meta(extra_json_schema={"pattern": rf"^[^{_STEERING}]*$", "examples": ["NVIDIA H100 80GB HBM3"]}),
]
"""What a driver or a system says of itself: one line of text that steers no terminal."""
Mebibytes = Annotated[int, Meta(ge=0, le=2**40)]
MinerState = Annotated[str, one_of(("enrolled", "online", "draining", "offline", "removed"))]


class Device(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A device that can work, the CPU included; null is what could not be read, never a guess."""

    vendor: Label | None = None
    """Who made it. For example `NVIDIA`."""
    type: Label | None = None
    """How programs reach it: `cuda`, `rocm`, …; `cpu` for the processor itself."""
    index: Annotated[int, Meta(ge=0, le=1023)] | None = None
    """Its number among its like. For example `0`."""
    uuid: Label | None = None
    """Its own id. For example `GPU-5b2c0c4e-8f5a-4a53-9d5b-7f1f2f6b3a10`."""
    name: Label | None = None
    """Its name. For example `NVIDIA H100 80GB HBM3`."""
    driver_version: Label | None = None
    """The version of its driver. For example `550.127.05`."""
    runtime_version: Label | None = None
    """The version of CUDA, or its like. For example `12.4`."""
    compute_capability: Label | None = None
    """What its processors can do. For example `9.0`."""
    memory_total_mib: Mebibytes | None = None
    """Its memory in MiB. For example `81559`."""
    memory_reserved_mib: Mebibytes | None = None
    """What the driver keeps for itself, in MiB; where it is null, `memory_used_mib` may count it as used.
    For example `480`."""
    memory_used_mib: Mebibytes | None = None
    """What of it is in use, in MiB. For example `1024`."""
    memory_sellable_mib: Mebibytes | None = None
    """What work can have, in MiB: the total less what is reserved. For example `81079`."""
    utilization: Annotated[float, Meta(ge=0, le=100)] | None = None
    """Percent."""
    temperature_celsius: Annotated[float, Meta(ge=-100, le=500)] | None = None
    """In degrees Celsius. For example `41.0`."""
    power_watts: Annotated[float, Meta(ge=0, le=100_000)] | None = None
    """What it draws, in watts. For example `72.5`."""
    brake_reasons: Annotated[tuple[Label, ...], Meta(max_length=BRAKES_MAX)] | None = None
    """What holds its clocks back: `power_cap`, `thermal`, …; empty for nothing, null where it cannot be read.
    For example `["power_cap"]`."""
    memory_is_shared: bool | None = None
    """Whether it works in the memory of its host, which is what its memory then counts."""
    fault: Label | None = None
    """Why it cannot work now, as its driver says; none for a device that can."""
    rests: Label | None = None
    """Why its miner leases it to nobody now, although it can work; none where it does.
    For example `draining: 812 MiB of its memory are still held`."""


class Host(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The machine around the devices; null is what could not be read."""

    os: Label | None = None
    """The operating system. For example `Debian GNU/Linux 12`."""
    kernel: Label | None = None
    """Its kernel. For example `6.1.0-28-amd64`."""
    cpu_model: Label | None = None
    """The processor. For example `AMD EPYC 9354`."""
    cpu_count: Annotated[int, Meta(ge=1, le=65_536)] | None = None
    """Its logical processors. For example `64`."""
    memory_mib: Mebibytes | None = None
    """Its memory in MiB. For example `257024`."""
    disk_free_mib: Mebibytes | None = None
    """What is free where jobs work, in MiB. For example `812300`."""


class Inventory(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a miner found in itself."""

    devices: Annotated[tuple[Device, ...], Meta(max_length=DEVICES_MAX)] = ()
    """The devices that can work."""
    host: Host = Host()
    """The machine around them."""


class MachineOffer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a miner gives as a machine of their own to who has it booked: a container with a shell, files and ports."""

    available: bool
    """Whether it gives one. For example `true`."""
    reason: Annotated[str, Meta(max_length=300)] | None = None
    """Why it gives none; null where it does. For example `neither podman nor docker is installed`."""
    images: Annotated[tuple[Label, ...], Meta(max_length=MACHINE_IMAGES_MAX)] = ()
    """The names of the images that it can start from, the first unless another is asked for.
    For example `["python"]`."""
    network: bool = False
    """Whether it can have a network. For example `false`."""


class Miner(Struct, frozen=True, kw_only=True):
    """A machine that does work, and whose it is."""

    id: str
    """The miner. For example `mnr_01k0000000000000000000000a`."""
    account: str
    """Whose it is. For example `acct_01k0000000000000000000000a`."""
    name: Name
    """What its owner calls it. For example `attic`."""
    public_key: str
    """Ed25519, made on the miner; its fingerprint is shown on both sides.
    For example `11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo`."""
    fingerprint: str
    """Of its public key, for people to compare.
    For example `sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08`."""
    status: MinerState
    """`enrolled`, `online`, `draining`, `offline` or `removed`."""
    status_reason: str | None
    """Why it is in that status, where there is something to say. For example `no heartbeat since 12:00`."""
    drain_message: str | None
    """What its owner said when asking it to take no more work; none unless it drains. For example `new fans`."""
    kinds: tuple[str, ...]
    """The kinds of work that it takes. For example `["chat", "embed"]`."""
    models: dict[str, tuple[str, ...]]
    """The models that it serves, by kind; a kind that is absent takes only jobs that name no model."""
    device: Annotated[str, one_of(("cpu", "gpu"))]
    """`cpu` or `gpu`."""
    gpu_models: tuple[str, ...]
    """The names of its GPUs. For example `["NVIDIA H100 80GB HBM3"]`."""
    vram_mib: int
    """The largest memory of a single GPU, in MiB."""
    region: str | None
    """Where it is, as its owner says. For example `eu-central`."""
    programs: tuple[str, ...]
    """For kind `command`: the names of the programs its operator allows."""
    machine: MachineOffer | None = None
    """What it gives as a machine to who has it booked; null where it does not say."""
    capabilities_version: int
    """How often what it can take has changed. For example `1`."""
    slots: int
    """How many jobs it takes at once. For example `2`."""
    slots_busy: int
    """How many it works on. For example `1`."""
    inventory: Inventory
    """What the miner found in itself, as it last reported."""
    hardware: str = "claimed"
    """How it is known: `claimed`, by what its driver says; nothing here measures it."""
    reputation: float
    """0 to 1, from stored events alone."""
    newcomer: bool
    """Whether too little is known of it for its reputation to mean much."""
    last_seen_at: datetime | None
    """When it last sent a heartbeat; null before the first."""
    created_at: datetime
    """When it was enrolled."""
    changed_at: datetime
    """When its status or what it offers last changed."""


class SlotUse(Struct, frozen=True, kw_only=True):
    """How much of an account's miners that are online is in use."""

    slots: int
    """How many jobs they take at once. For example `8`."""
    busy: int
    """How many they work on. For example `3`."""


class Presence(Struct, frozen=True, kw_only=True):
    """How many miners of a group there are."""

    known: int
    """That were not removed, and have been online once."""
    online: int


class UseMiner(Struct, frozen=True, kw_only=True):
    """Give a miner to one account. The caller makes the id, so that asking twice is harmless."""

    booking: str
    miner: str
    account: str
    """Whose jobs it takes, and nobody else's."""
    paid_ms: int
    """How much time of it is paid for; then its work stops, and the miner is kept."""


class MinerUse(Struct, frozen=True, kw_only=True):
    """A miner that is given to one account."""

    booking: str
    miner: str
    account: str
    is_open: bool
    """False once it was ended, or its miner was removed."""
    is_reachable: bool
    """Whether the miner takes work now."""
    busy: int
    """How many jobs it works on, as it last said, and how many connections to its machine there are."""
    used_ms: int
    """Its time so far: what was paid for, less the time in which the miner took no work."""
    paid_ms: int
    paid_until: datetime
    """When its paid time ends, if its miner stays."""
    seen_at: datetime | None
    """When the miner last sent a heartbeat."""
    machine_ms: int = 0
    """For how long its booker had a machine running there, as the miner said; never more than `used_ms`."""


class ReceiptSlice(Struct, frozen=True, kw_only=True):
    """A stretch of a booking's time, as its receipt names it."""

    number: int
    """Its number, from 1 on. For example `1`."""
    millis: int
    """How long it was to last, in milliseconds. For example `300000`."""
    price_hour: str
    """The price of an hour, in AITBC. For example `0.8`."""
    paid: str
    """What of it was paid, in AITBC. For example `0.06666667`."""
    fee: str | None
    """The platform's share of that, in AITBC; null where it was paid before that was kept. For example `0.00166667`."""
    transaction: str | None
    """The transaction that paid it; null where nothing was due. For example `txn_01k0000000000000000000000a`."""


class BookingReceipt(Struct, frozen=True, kw_only=True):
    """All of a booking's receipt that the node signs: whose miner was used for how long, and how it was paid.

    The signature is Ed25519 over all other fields as canonical JSON.
    """

    version: str = "aitbc.booking.v1"
    """The form of the receipt. For example `aitbc.booking.v1`."""
    booking: str
    """The booking. For example `book_01k0000000000000000000000a`."""
    offer: str | None
    """The offer that was booked; null for a listed GPU. For example `offer_01k0000000000000000000000a`."""
    miner: str | None
    """The miner. For example `mnr_01k0000000000000000000000a`."""
    payer: str
    """Who paid. For example `acct_01k0000000000000000000000a`."""
    owner: str
    """Who was paid. For example `acct_01k0000000000000000000000b`."""
    reason: str
    """How it ended. For example `completed`."""
    began_at: datetime
    """When it began."""
    ended_at: datetime
    """When it was over."""
    used_ms: int
    """How much of its time was used, in milliseconds. For example `3600000`."""
    machine_ms: int
    """For how much of that its booker had a machine running, as the miner said, in milliseconds. For example `125500`."""
    paid: str
    """What was paid in all, in AITBC. For example `0.8`."""
    slices: tuple[ReceiptSlice, ...]
    """The stretches of time that were paid."""
    node_key: str
    """The node's public key, in base64url. For example `11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo`."""
    node_signature: str | UnsetType = UNSET
    """The node's signature over the rest, in base64url.
    For example `5VZDAMNgrHKQhuLMgG6CioSHfx645dl02HPgZSJJAVVfuIIVkKM7rMYeOXAc-bRr0lv18FlbviRlUUFDjnoQCw`."""


class BookingReceiptFile(Struct, frozen=True, kw_only=True):
    """The file of a booking's receipt, which `aitbc receipt verify` checks without a server."""

    receipt: BookingReceipt
    """The receipt."""


class PaidBooking(Struct, frozen=True, kw_only=True):
    """What was paid for a booking of a listed GPU that is over."""

    booking: str
    payer: str
    owner: str
    miner: str | None
    """The miner that the GPU was in; none for some of before that its owner's word was enough for."""
    price_units: int
    fee_units: int | None
    """The platform's part of it; none where it was paid before that was remembered."""
    ended_at: datetime


class GpuForRent(Struct, frozen=True, kw_only=True):
    """A GPU that its owner lists for an hour's price."""

    id: str
    miner_name: str
    """What its owner calls the miner that it is in."""
    model: str
    memory_gb: int | None
    region: str | None
    price_units: int
    """For an hour."""
    description: str
    status: str
    """`available`, `booked` or `offline`."""
    hardware: str
    """How it is known what it is."""
    created_at: datetime


class GpusWanted(Struct, frozen=True, kw_only=True):
    """Which listed GPUs are asked for."""

    available: bool | None = None
    model: str | None = None
    """Part of the model's name, in either case."""
    region: str | None = None
    price_max_units: int | None = None
    limit: int


class MinerNotThere(Conflict):
    """This miner takes no work now, so nobody can have it."""

    code = "miner_not_there"


class MinerInUse(Conflict):
    """Somebody else has this miner for themselves now."""

    code = "miner_in_use"


class UseNotFound(NotFound):
    """Nobody was given a miner under this id."""

    code = "use_not_found"


class MinerNotFound(NotFound):
    """There is no such miner."""

    code = "miner_not_found"


class GpuApi(Protocol):
    """What gpu does for other modules."""

    async def miner(self, miner: str) -> Miner:
        """One miner. Raises `MinerNotFound`."""
        ...

    async def miners_of(self, account: str) -> Sequence[Miner]:
        """The account's miners that are online, a thousand at most."""
        ...

    async def use_of(self, accounts: Sequence[str]) -> Mapping[str, SlotUse]:
        """How much of these accounts' miners is in use; an account without one that is online is absent."""
        ...

    async def presence(self, kind: str | None = None, region: str | None = None) -> Presence:
        """How many miners there are that take a kind of work, or are in a region; of all without either."""
        ...

    async def begin_use(self, command: UseMiner) -> MinerUse:
        """Give a miner to one account. Repeating it returns what it is now.

        Raises `MinerNotFound`, `MinerNotThere`, `MinerInUse`.
        """
        ...

    async def prolong_use(self, booking: str, paid_ms: int) -> MinerUse:
        """Say how much time of a use is paid for, all in all: it never gets less. Raises `UseNotFound`."""
        ...

    async def end_use(self, booking: str) -> MinerUse:
        """Take a miner back. Repeating it is harmless. Raises `UseNotFound`."""
        ...

    async def uses(self, bookings: Sequence[str]) -> Sequence[MinerUse]:
        """Those of these uses that there are, in any order."""
        ...

    async def listed_gpus(self, wanted: GpusWanted) -> Sequence[GpuForRent]:
        """Listed GPUs, from the newest on."""
        ...

    async def paid_booking(self, booking: str) -> PaidBooking | None:
        """What was paid for a booking of a listed GPU; none where there is none, or nothing was paid for it."""
        ...
