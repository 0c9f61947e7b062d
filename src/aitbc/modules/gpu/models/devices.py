"""The GPUs that miners show: what may be believed of an offer by them, which listing they fit, and whose each is.

Nothing here is measured: a GPU is what its miner's driver says it is, so it is called `claimed` wherever it is shown.
What is shown still bounds what is offered: nobody is matched or booked for a GPU that no live miner of theirs shows.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec
from msgspec import Struct
from sqlalchemy import BigInteger, ForeignKey, Index, SmallInteger, Text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from aitbc.kernel.database.standard_tables import ALL, NO_DELETE
from aitbc.kernel.database.unit_of_work import WireId
from aitbc.modules.ai.api import GpuClass
from aitbc.modules.gpu.api import Inventory
from aitbc.modules.gpu.models.tables import MOMENT, Base, MinerRow

Evidence = Literal["claimed"]
"""How a GPU is known: `claimed`, by what its miner's driver says. Nothing here measures it."""
CLAIMED: Evidence = "claimed"
LAPSES = timedelta(hours=24)
"""After so long without a heartbeat of any miner that shows a GPU, another account may have it."""
_WORDS = re.compile(r"[a-z]{0,2}[0-9]+|[a-z]+")
LESSER = frozenset({"laptop", "mobile", "max", "d", "mig"})
"""Words in a GPU's name that make it less than one without them: who lists it must say them."""
Measured = Collection[tuple[str, str | None]]
"""GPUs that proofs have measured, by uuid and name."""
NONE: Measured = frozenset()
LEASABLE_MAX = 16
"""So many GPUs of one miner can be leased: what an event can carry, and the most that one job may ask for."""
NAME_LENGTH_MAX = 64
RESTS_LENGTH_MAX = 48
_UUID = re.compile(r"[A-Za-z0-9-]{1,48}")
"""The uuids of GPUs and of parts of them, as NVIDIA writes them: they go into the environment of programs."""
MEMORY_MIB_PER_GB = 900
"""So much of each gigabyte that a listing states a GPU shows at least: names round up, drivers keep some back."""


class DeviceRow(Base):
    """A GPU that a miner shows, as of its last heartbeat with an inventory that differed."""

    __tablename__ = "devices"
    miner: Mapped[str] = mapped_column(WireId("mnr"), ForeignKey(MinerRow.id), primary_key=True)
    place: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    """Its place among the GPUs of the miner."""
    uuid: Mapped[str | None] = mapped_column(Text)
    words: Mapped[list[str]] = mapped_column(ARRAY(Text))
    """The words of its name."""
    lesser: Mapped[list[str]] = mapped_column(ARRAY(Text))
    """Those of them that a listing must have too."""
    memory_mib: Mapped[int | None] = mapped_column(BigInteger)
    fault: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (Index("devices_uuid_idx", "uuid"), {"info": ALL})


class DeviceOwnerRow(Base):
    """Whose a GPU is: the account whose miner showed it first, for as long as that one has such a miner."""

    __tablename__ = "device_owners"
    __table_args__ = ({"info": NO_DELETE},)
    uuid: Mapped[str] = mapped_column(Text, primary_key=True)
    account: Mapped[str] = mapped_column(WireId("acct"))
    since: Mapped[datetime] = mapped_column(MOMENT)


class ShownGpu(Struct, frozen=True, kw_only=True):
    """What of a GPU decides over matching, booking and ownership; its readings do not."""

    uuid: str | None
    name: str | None
    memory_mib: int | None
    fault: str | None
    index: int | None = None
    sellable_mib: int | None = None
    compute_capability: str | None = None
    rests: str | None = None


class LeasableDevice(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A GPU that can be leased to jobs: one that its driver names by a uuid, and whose memory is known."""

    uuid: str
    index: int | None = None
    """Its number among its like in its miner."""
    name: str | None = None
    memory_mib: int
    """What work can have of its memory."""
    compute_capability: str | None = None
    """`9.0`."""
    verified: bool = False
    """Whether a proof has measured it."""
    rests: str | None = None
    """Why it is not leased now; none for one that is."""


class Shown(Struct, frozen=True, kw_only=True):
    """What may be believed of a miner's offer: the names and the largest memory of its GPUs that work."""

    gpus: int
    names: tuple[str, ...]
    vram_mib: int | None
    """None where that of one of them could not be read."""
    leasable: tuple[GpuClass, ...] = ()
    """Those that can be leased to jobs, as jobs are matched by them."""


def shown_gpus(inventory: Inventory) -> tuple[ShownGpu, ...]:
    """The GPUs in an inventory."""
    return tuple(
        ShownGpu(
            uuid=(device.uuid or "").strip() or None,
            name=device.name,
            memory_mib=device.memory_total_mib,
            fault=device.fault,
            index=device.index,
            sellable_mib=device.memory_sellable_mib,
            compute_capability=device.compute_capability,
            rests=device.rests,
        )
        for device in inventory.devices
        if device.type != "cpu"
    )


def digest_of(gpus: Sequence[ShownGpu]) -> bytes:
    """By which a change of them is known."""
    return hashlib.blake2b(msgspec.json.encode(gpus), digest_size=16).digest()


def believed(gpus: Sequence[ShownGpu], measured: Measured = NONE) -> str:
    """What matching may believe by these GPUs, as a profile keeps it."""
    working = [gpu for gpu in gpus if gpu.fault is None]
    sizes = [gpu.memory_mib for gpu in working]
    largest = None if None in sizes else max((size for size in sizes if size is not None), default=0)
    names = tuple(sorted({gpu.name for gpu in working if gpu.name}))
    leasable = classes_of(leasable_devices(gpus, measured))
    return msgspec.json.encode(Shown(gpus=len(working), names=names, vram_mib=largest, leasable=leasable)).decode()


def leasable_devices(gpus: Sequence[ShownGpu], measured: Measured = NONE) -> tuple[LeasableDevice, ...]:
    """Those of these GPUs that can be leased to jobs, or could if they did not rest; each uuid once."""
    found: dict[str, LeasableDevice] = {}
    for gpu in gpus:
        why = gpu.fault or gpu.rests
        memory_mib = gpu.memory_mib if gpu.sellable_mib is None else gpu.sellable_mib
        if gpu.uuid and _UUID.fullmatch(gpu.uuid) and memory_mib and len(found) < LEASABLE_MAX:
            found.setdefault(
                gpu.uuid,
                LeasableDevice(
                    uuid=gpu.uuid,
                    index=gpu.index,
                    name=gpu.name and _ascii(gpu.name, NAME_LENGTH_MAX),
                    memory_mib=memory_mib,
                    compute_capability=gpu.compute_capability and _ascii(gpu.compute_capability, 6),
                    verified=(gpu.uuid, gpu.name) in measured,
                    rests=why and _ascii(why, RESTS_LENGTH_MAX),
                ),
            )
    return tuple(found.values())


def _ascii(text: str, length: int) -> str:
    """The beginning of a text in plain letters: what an event carries must have a bound in bytes."""
    return text[:length].encode("ascii", "replace").decode()


def classes_of(devices: Sequence[LeasableDevice]) -> tuple[GpuClass, ...]:
    """Those that are alike together; those that rest are left out."""
    counts = Counter(
        (one.name, one.memory_mib, one.compute_capability, one.verified) for one in devices if one.rests is None
    )
    return tuple(
        GpuClass(name=name, memory_mib=memory_mib, compute_capability=capability, count=count, verified=verified)
        for (name, memory_mib, capability, verified), count in sorted(counts.items(), key=str)
    )


def leasable_text(gpus: Sequence[ShownGpu], measured: Measured = NONE) -> str | None:
    """The GPUs that can be leased, as a profile keeps them; none where there are none."""
    found = leasable_devices(gpus, measured)
    return msgspec.json.encode(found).decode() if found else None


def leasable_of(text: str | None) -> tuple[dict[str, Any], ...]:
    """What `leasable_text` wrote, as an event has it."""
    return () if text is None else msgspec.json.decode(text, type=tuple[dict[str, Any], ...])


def words_of(name: str | None) -> tuple[str, ...]:
    """The words of a GPU's name, each once: `RTX4090`, `rtx-4090` and `GeForce RTX 4090` share `rtx` and `4090`."""
    return tuple(dict.fromkeys(_WORDS.findall((name or "").lower())))


def lesser_of(words: Sequence[str]) -> tuple[str, ...]:
    """Those words that make a GPU less than one without them."""
    return tuple(word for word in words if word in LESSER)


def is_such(stated: str, name: str) -> bool:
    """Whether a GPU of this name may be called so: it has all of the words, and none that makes it less."""
    wanted, words = words_of(stated), words_of(name)
    return bool(wanted) and set(wanted) <= set(words) and set(lesser_of(words)) <= set(wanted)
