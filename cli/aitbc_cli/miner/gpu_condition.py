"""The condition of a miner's GPUs: which must rest although they work, and which are not trusted with work any more."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from aitbc_cli.miner.executors.work import Gpu
from aitbc_cli.miner.nvml import Nvml
from aitbc_cli.miner.xid import PROGRAMS, Xid

SLACK_MIB = 256
"""So much more memory than before a program may be in use of a GPU that counts as free after it."""
OTHERS_SHARE = 8
"""A GPU rests while programs that are not the miner's hold more than one part in so many of its memory."""
DRAIN_SECONDS = 2.0
"""How long the end of a program waits for the memory of its GPUs; drivers take about 0.15 s."""
DRAIN_STEP_SECONDS = 0.05
BRAKES_THAT_REST = frozenset({"thermal", "thermal_hardware", "power_brake"})
"""What holds the clocks of a GPU back so that it should rest: heat, and a power supply that cannot."""
BRAKED_SECONDS = 60.0
"""How long it rests after that was last seen."""
XIDS_MAX = 100


class Condition:
    """What readings, events and the ends of programs say of the GPUs; those of a machine without NVML say nothing."""

    def __init__(self, nvml: Nvml | None = None) -> None:
        self._nvml = nvml
        self._idle_mib: dict[str, int] = {}
        """What of the memory of each was in use when it was last seen without a program."""
        self._used: set[str] = set()
        """GPUs that had a program since their memory was last seen free."""
        self._resting: dict[str, str] = {}
        """GPUs whose memory is not free, and what is said of each."""
        self._own: dict[str, str] = {}
        """GPUs that rest for a reason of the miner's own."""
        self._braked: dict[str, tuple[str, float]] = {}
        """GPUs whose clocks are held back, by what, and when that was last seen."""
        self._failed: dict[str, str] = {}
        """GPUs that get no work until the miner is started anew, and why."""
        self._xids: list[Xid] = []
        """What the driver reported, the latest last."""

    def note_readings(self, device: Mapping[str, Any], *, has_program: bool) -> None:
        """Note what a GPU that works shows now."""
        uuid, used, total = device["uuid"], device["memory_used_mib"], device["memory_total_mib"]
        brakes = [brake for brake in device["brake_reasons"] or () if brake in BRAKES_THAT_REST]
        if brakes:
            self._braked[uuid] = ", ".join(brakes), time.monotonic()
        elif uuid in self._braked and time.monotonic() - self._braked[uuid][1] > BRAKED_SECONDS:
            del self._braked[uuid]
        if has_program:
            self._used.add(uuid)
        elif used is not None:
            self._judge_memory(uuid, used, total)

    def _judge_memory(self, uuid: str, used: int, total: int | None) -> None:
        over = used - self._idle_mib.get(uuid, used)
        if uuid in self._used and over > SLACK_MIB:
            self._resting[uuid] = _draining(over)
            return
        self._used.discard(uuid)
        self._resting.pop(uuid, None)
        self._idle_mib[uuid] = used
        if total and used * OTHERS_SHARE > total:
            self._resting[uuid] = f"in use: other programs hold {used} MiB"

    async def drained(self, uuids: Sequence[str]) -> bool:
        """After the last program on some GPUs: wait a little until their memory is free. Whether all of it is."""
        self._used.update(uuids)
        nvml, end = self._nvml, time.monotonic() + DRAIN_SECONDS
        if nvml is None:
            return True
        while True:
            held = {}
            for uuid in uuids:
                used = await asyncio.to_thread(nvml.memory_used_mib, uuid)
                if used is not None and (over := used - self._idle_mib.get(uuid, used)) > SLACK_MIB:
                    held[uuid] = _draining(over)
            if not held:
                self._used.difference_update(uuids)
                return True
            if time.monotonic() >= end:
                self._resting |= held
                return False
            await asyncio.sleep(DRAIN_STEP_SECONDS)

    def rest(self, uuid: str, why: str | None) -> None:
        """Have a GPU rest for a reason of the miner's own, or with none no longer."""
        if why is None:
            self._own.pop(uuid, None)
        else:
            self._own[uuid] = why

    def holds_memory(self, uuid: str) -> bool:
        """Whether the memory of a GPU is not free, though no program of the miner has it."""
        return uuid in self._resting

    def rests(self, uuid: str | None) -> str | None:
        """Why a GPU that works is leased to nobody now; none where it is."""
        if uuid in self._own or uuid in self._resting:
            return self._own.get(uuid or "") or self._resting[uuid or ""]
        return f"its clocks are held back: {self._braked[uuid][0]}" if uuid in self._braked else None

    def failure_of(self, uuid: str | None) -> str | None:
        """Why a GPU gets no work, though its driver may find no fault with it; none where it does."""
        return self._failed.get(uuid or "")

    def note_xid(self, xid: Xid) -> None:
        """Note what the driver reported; after an error of the hardware no program gets the GPU."""
        self._xids = [*self._xids[1 - XIDS_MAX :], xid]
        if xid.is_hardware:
            self._failed[xid.uuid] = f"{xid}: reset the GPU, and start the miner anew"

    @property
    def last_xid(self) -> Xid | None:
        """The latest that was reported."""
        return self._xids[-1] if self._xids else None

    def troubles(self, gpus: Sequence[Gpu], after: Xid | None) -> tuple[str | None, str | None]:
        """What went wrong on GPUs while a program had them: first by the hardware, then by programs.

        `after` is the last that had been reported before.
        """
        places = [place for place, xid in enumerate(self._xids) if xid is after]
        uuids = {gpu.uuid for gpu in gpus}
        seen = [xid for xid in self._xids[places[0] + 1 if places else 0 :] if xid.uuid in uuids]
        hardware = next((str(xid) for xid in seen if xid.is_hardware), None)
        if hardware is None and self._nvml is not None:
            hardware = next(filter(None, map(self._nvml.fault, uuids)), None)
        return hardware, next((str(xid) for xid in seen if xid.code in PROGRAMS), None)


def _draining(mib: int) -> str:
    return f"draining: {mib} MiB of its memory are still held"
