"""The GPUs that programs get: which can be used, who has which, and how much of its memory.

A lease names the GPUs that its work has; only where it leaves the choice to the miner, the miner chooses.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from aitbc.kernel.primitives.tasks import is_set_within
from aitbc_cli.miner.executors.work import Gpu
from aitbc_cli.miner.gpu_condition import Condition
from aitbc_cli.miner.nvml import Nvml
from aitbc_cli.miner.xid import Xid

FREE_STEP_SECONDS = 0.2
FAULT_LENGTH = 128
NOT_GIVEN = "its owner gives programs no GPU"
UNTRIED = "not yet tried with a program of the miner's own"


class Gpus:
    """The GPUs of one miner, shared among so many programs at once."""

    def __init__(self, programs: int, nvml: Nvml | None = None) -> None:
        self._programs = programs
        self.condition = Condition(nvml)
        self.seen = False
        """Whether the machine has ever shown a GPU, at fault or not."""
        self._sound: dict[str, int | None] = {}
        """The GPUs that their driver finds no fault with, by uuid, and the memory of each that work can have."""
        self._tried: dict[str, str | None] = {}
        """What trying each came to: none where a program of ours worked there, else why it did not."""
        self._programs_on: Counter[str] = Counter()
        self._held_mib: Counter[str] = Counter()
        """What programs have of the memory of each, as far as leases say."""
        self._freed = asyncio.Event()
        """Set, and replaced, when a program has given its GPUs back."""

    def update(self, devices: Sequence[Mapping[str, Any]]) -> None:
        """The devices as they are now. One that was away or at fault is tried again before it is used again."""
        sound = {
            device["uuid"]: device["memory_sellable_mib"]
            for device in devices
            if device["type"] == "cuda" and device["fault"] is None and device["uuid"]
            if self.condition.failure_of(device["uuid"]) is None
        }
        for device in devices:
            if device["uuid"] in sound:
                self.condition.note_readings(device, has_program=self._programs_on[device["uuid"]] > 0)
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

    def mark(self, devices: Sequence[dict[str, Any]], *, are_given: bool) -> None:
        """Write down at each GPU why it cannot work, or why it is leased to nobody now; `are_given`: to programs."""
        for device in devices:
            if device["type"] != "cpu":
                device["fault"] = device["fault"] or self.condition.failure_of(device["uuid"])
                rests = self.condition.rests(device["uuid"]) if are_given else NOT_GIVEN
                device |= {} if rests is None else {"rests": rests}
        if are_given and self.can_be_used:
            for device in devices:
                if device["fault"] is None and (why := self.fault_of(device["uuid"])) is not None:
                    said = f"programs cannot use it: {why}"[:FAULT_LENGTH]
                    device["fault"] = "".join(each if each.isprintable() else " " for each in said)

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

    def whole(self, uuid: str) -> Gpu:
        """All of a GPU that work can have."""
        return Gpu(uuid, memory_mib=self._sound.get(uuid))

    def choose(self) -> tuple[Gpu, ...]:
        """The GPU that the fewest programs have; none where none can be used."""
        usable = self._usable()
        return (self.share(min(usable, key=lambda uuid: self._programs_on[uuid])),) if usable else ()

    @property
    def idle(self) -> list[str]:
        """The GPUs that programs can use and none has."""
        return [uuid for uuid in self._usable() if not self._programs_on[uuid]]

    @property
    def working_on(self) -> list[str]:
        """The GPUs that programs have."""
        return [uuid for uuid, programs in self._programs_on.items() if programs]

    def can_be_had(self, gpus: Sequence[Gpu]) -> bool:
        """Whether programs can use all of these GPUs, whoever has them now."""
        usable = self._usable()
        return all(gpu.uuid in usable for gpu in gpus)

    async def until_free(self, gpus: Sequence[Gpu], seconds: float) -> bool:
        """Wait until what a lease names is free here: who had it before may not be gone yet. Whether it is in time."""
        try:
            async with asyncio.timeout(seconds):
                while not all(self._has_room(gpu) for gpu in gpus):
                    # Looked at again anyway: readings, which tell of free memory too, come from another thread.
                    await is_set_within(self._freed, FREE_STEP_SECONDS)
        except TimeoutError:
            return False
        return True

    def _has_room(self, gpu: Gpu) -> bool:
        sellable = self._sound.get(gpu.uuid)
        if self.condition.holds_memory(gpu.uuid):
            return False
        if not self._programs_on[gpu.uuid]:
            return True
        return gpu.is_shared and (
            gpu.memory_mib is None or sellable is None or self._held_mib[gpu.uuid] + gpu.memory_mib <= sellable
        )

    @contextmanager
    def held(self, gpus: Sequence[Gpu]) -> Iterator[None]:
        """Count a program on its GPUs for as long as it runs."""
        shares = {gpu.uuid: gpu.memory_mib or 0 for gpu in gpus}
        self._programs_on.update(shares.keys())
        self._held_mib.update(shares)
        try:
            yield
        finally:
            self._programs_on.subtract(shares.keys())
            self._held_mib.subtract(shares)
            self._wake()

    async def drained(self, gpus: Sequence[Gpu]) -> bool:
        """Before the last program on GPUs gives them back: wait until their memory is free. Whether it is in time."""
        return await self.condition.drained([gpu.uuid for gpu in gpus if self._programs_on[gpu.uuid] == 1])

    def note_xid(self, xid: Xid) -> None:
        """Note what the driver reported of a GPU."""
        self.condition.note_xid(xid)
        if xid.is_hardware:
            self._sound.pop(xid.uuid, None)

    def _wake(self) -> None:
        """Let work that waits for a GPU look again."""
        self._freed.set()
        self._freed = asyncio.Event()

    def doubt(self, gpus: Sequence[Gpu]) -> None:
        """These failed under a program: they are tried again before another one gets them."""
        for gpu in gpus:
            self._tried.pop(gpu.uuid, None)

    def _usable(self) -> list[str]:
        return [uuid for uuid in self._sound if self._tried.get(uuid, UNTRIED) is None]
