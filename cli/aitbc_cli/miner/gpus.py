"""The GPUs that programs get: which can be used, who has which, and how much of its memory.

Leases do not name devices yet, so that the miner chooses by itself; work that names its GPUs keeps them.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from aitbc_cli.miner.executors.work import Gpu

UNTRIED = "not yet tried with a program of the miner's own"


class Gpus:
    """The GPUs of one miner, shared among so many programs at once."""

    def __init__(self, programs: int) -> None:
        self._programs = programs
        self.seen = False
        """Whether the machine has ever shown a GPU, at fault or not."""
        self._sound: dict[str, int | None] = {}
        """The GPUs that their driver finds no fault with, by uuid, and the memory of each that work can have."""
        self._tried: dict[str, str | None] = {}
        """What trying each came to: none where a program of ours worked there, else why it did not."""
        self._programs_on: Counter[str] = Counter()

    def update(self, devices: Sequence[Mapping[str, Any]]) -> None:
        """The devices as they are now. One that was away or at fault is tried again before it is used again."""
        sound = {
            device["uuid"]: device["memory_sellable_mib"]
            for device in devices
            if device["type"] == "cuda" and device["fault"] is None and device["uuid"]
        }
        self._tried = {uuid: why for uuid, why in self._tried.items() if uuid in sound}
        self._sound = sound
        self.seen = self.seen or any(device["type"] == "cuda" for device in devices)

    @property
    def sound(self) -> list[str]:
        """The GPUs that their driver finds no fault with."""
        return list(self._sound)

    @property
    def untried(self) -> list[str]:
        """The GPUs that appeared, or failed under a program, and were not tried since."""
        return [uuid for uuid in self._sound if uuid not in self._tried]

    @property
    def to_try(self) -> list[str]:
        """The GPUs that no program of our own has worked on since: the untried, and those where it failed."""
        return [uuid for uuid in self._sound if self._tried.get(uuid, UNTRIED) is not None]

    @property
    def can_be_used(self) -> bool:
        """Whether programs get any."""
        return bool(self._usable())

    def note_tried(self, uuid: str, why_not: str | None) -> None:
        """Note what trying a GPU came to."""
        if uuid in self._sound:
            self._tried[uuid] = why_not

    def fault_of(self, uuid: str | None) -> str | None:
        """Why programs do not get a GPU that its driver finds no fault with; none where they do."""
        return self._tried.get(uuid, UNTRIED) if uuid in self._sound else None

    def share(self, uuid: str) -> Gpu:
        """A GPU as one of the programs gets it that may run at once: they share its memory evenly."""
        sharers = -(-self._programs // max(1, len(self._usable()) or len(self._sound)))
        sellable = self._sound.get(uuid)
        return Gpu(uuid, memory_mib=None if sellable is None else sellable // sharers, is_shared=sharers > 1)

    def choose(self) -> tuple[Gpu, ...]:
        """The GPU that the fewest programs have; none where none can be used."""
        usable = self._usable()
        return (self.share(min(usable, key=lambda uuid: self._programs_on[uuid])),) if usable else ()

    @contextmanager
    def held(self, gpus: Sequence[Gpu]) -> Iterator[None]:
        """Count a program on its GPUs for as long as it runs."""
        self._programs_on.update(gpu.uuid for gpu in gpus)
        try:
            yield
        finally:
            self._programs_on.subtract(gpu.uuid for gpu in gpus)

    def doubt(self, gpus: Sequence[Gpu]) -> None:
        """These failed under a program: they are tried again before another one gets them."""
        for gpu in gpus:
            self._tried.pop(gpu.uuid, None)

    def _usable(self) -> list[str]:
        return [uuid for uuid in self._sound if self._tried.get(uuid, UNTRIED) is None]
