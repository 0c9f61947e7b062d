"""The GPUs of miners as ai knows them: which of them a job gets, whole or a share, and what stays for others; pure.

A GPU is leased whole, or in shares that together never pass the memory that work can have of it. Best fit: a whole GPU
is the smallest that fits, a share goes where it leaves least, and first where others have a share already, so that
whole GPUs stay whole for those who need them.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import Struct

from aitbc.modules.ai.api import LeasedDevice, UsedDevice
from aitbc.modules.ai.models.queue import Needs, gpu_fits


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

    @property
    def count(self) -> int:
        """How many can be leased: itself, unless it rests."""
        return int(self.rests is None)


class Reserved(Struct, frozen=True, kw_only=True):
    """A GPU, or a share of one, that an attempt has."""

    uuid: str
    index: int | None
    name: str | None
    memory_mib: int
    is_whole: bool


@lru_cache(maxsize=4096)
def devices_of(text: str | None) -> tuple[LeasableDevice, ...]:
    """The GPUs behind their stored text; read once for as long as a miner shows the same."""
    return () if text is None else msgspec.json.decode(text, type=tuple[LeasableDevice, ...])


def devices_text(devices: Sequence[Mapping[str, Any]]) -> str | None:
    """The GPUs of an event as they are stored; none where there are none."""
    return msgspec.json.encode(devices).decode() if devices else None


def reserved_of(text: str | None) -> tuple[Reserved, ...]:
    """What an attempt has, of its stored text."""
    return () if text is None else msgspec.json.decode(text, type=tuple[Reserved, ...])


def reserved_text(reserved: Sequence[Reserved]) -> str | None:
    """What an attempt has, as it is stored."""
    return msgspec.json.encode(reserved).decode() if reserved else None


def leased_devices(reserved: Sequence[Reserved]) -> tuple[LeasedDevice, ...]:
    """What an attempt has, as its miner gets it."""
    return tuple(
        LeasedDevice(uuid=one.uuid, index=one.index, memory_mib=one.memory_mib, is_whole=one.is_whole)
        for one in reserved
    )


def used_devices(text: str | None) -> tuple[UsedDevice, ...]:
    """What an attempt has or had, as its job's owner sees it."""
    return tuple(
        UsedDevice(
            index=one.index,
            uuid_digest=_digest(one.uuid),
            name=one.name,
            memory_mib=one.memory_mib,
            is_whole=one.is_whole,
        )
        for one in reserved_of(text)
    )


def receipt_devices(text: str) -> tuple[dict[str, Any], ...]:
    """What an attempt had, as its receipt names it: plain values in the order of their names."""
    return tuple(
        {
            "index": one.index,
            "is_whole": one.is_whole,
            "memory_mib": one.memory_mib,
            "uuid_digest": _digest(one.uuid),
        }
        for one in reserved_of(text)
    )


def _digest(uuid: str) -> str:
    return f"sha256:{hashlib.sha256(uuid.encode()).hexdigest()}"


class Room:
    """The GPUs of one miner with what is reserved of each: what is left for the next job."""

    __slots__ = ("_devices", "_held", "_whole")

    def __init__(self, devices: Sequence[LeasableDevice], reserved: Iterable[Reserved]) -> None:
        self._devices = devices
        self._held: dict[str, int] = {}
        """What is reserved of the memory of each that is not wholly free."""
        self._whole: set[str] = set()
        for one in reserved:
            self._note(one)

    def _note(self, one: Reserved) -> None:
        self._held[one.uuid] = self._held.get(one.uuid, 0) + one.memory_mib
        if one.is_whole:
            self._whole.add(one.uuid)

    def take(self, needs: Needs) -> tuple[Reserved, ...]:
        """Reserve what a job asks for; nothing where that is not left."""
        chosen = self.choose(needs)
        for one in chosen:
            self._note(one)
        return chosen

    def choose(self, needs: Needs) -> tuple[Reserved, ...]:
        """What a job would get; nothing where what it asks for is not left."""
        fitting = (device for device in self._devices if device.rests is None and gpu_fits(needs, device))
        if needs.vram_mib:
            shared = (device for device in fitting if self._left(device) >= needs.vram_mib)
            best = min(shared, key=lambda one: (one.uuid not in self._held, self._left(one), _order(one)), default=None)
            return () if best is None else (_reserved(best, needs.vram_mib, is_whole=False),)
        untouched = [device for device in fitting if device.uuid not in self._held]
        if len(untouched) < needs.gpus:
            return ()
        if len(untouched) > 1:
            untouched.sort(key=lambda one: (one.memory_mib, _order(one)))
        return tuple(_reserved(device, device.memory_mib, is_whole=True) for device in untouched[: needs.gpus])

    def _left(self, device: LeasableDevice) -> int:
        return 0 if device.uuid in self._whole else device.memory_mib - self._held.get(device.uuid, 0)


def _order(device: LeasableDevice) -> tuple[int, str]:
    return (-1 if device.index is None else device.index), device.uuid


def _reserved(device: LeasableDevice, memory_mib: int, *, is_whole: bool) -> Reserved:
    return Reserved(uuid=device.uuid, index=device.index, name=device.name, memory_mib=memory_mib, is_whole=is_whole)
