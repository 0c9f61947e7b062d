"""The watch over what a program holds of its GPUs, and what it used of them."""

import time
from collections.abc import Collection, Sequence

from aitbc_cli.miner.executors.work import Failure, Gpu
from aitbc_cli.miner.nvml import Nvml

_TICK_SECONDS = 0.25


class GpuWatch:
    """Watches one program. What the driver does not say is neither limited nor counted."""

    def __init__(self, gpus: Sequence[Gpu], nvml: Nvml) -> None:
        self._gpus = gpus
        self._nvml = nvml
        self._peak_mib: int | None = None
        self._next = 0.0
        self._energy = {gpu.uuid: nvml.energy_millijoules(gpu.uuid) for gpu in gpus if not gpu.is_shared}

    def broken_limit(self, pids: Collection[int]) -> Failure | None:
        """The failure of a program whose processes hold more of a GPU than its share; looks four times a second."""
        if time.monotonic() < self._next:
            return None
        broken = None
        total: int | None = None
        for gpu in self._gpus:
            held = self._nvml.processes_mib(gpu.uuid)
            if held is None:
                continue
            used = sum(mib for pid, mib in held.items() if pid in pids)
            total = (total or 0) + used
            if gpu.memory_mib is not None and used > gpu.memory_mib:
                message = f"The program used {used} MiB of GPU memory; it may use {gpu.memory_mib} MiB of this GPU."
                broken = Failure("requester", "gpu_memory_exceeded", message)
        if total is not None:
            self._peak_mib = max(self._peak_mib or 0, total)
        self._next = time.monotonic() + _TICK_SECONDS
        return broken

    def usage(self, milliseconds: int) -> dict[str, int]:
        """What the program used: time on GPUs, the most memory seen, and the energy of GPUs that it had alone."""
        used = {"gpu_milliseconds": milliseconds * len(self._gpus)}
        if self._peak_mib is not None:
            used["gpu_memory_peak_mib"] = self._peak_mib
        if (energy := self._energy_used()) is not None:
            used["gpu_millijoules"] = energy
        return used

    def _energy_used(self) -> int | None:
        if len(self._energy) < len(self._gpus):
            return None
        total = 0
        for uuid, before in self._energy.items():
            after = self._nvml.energy_millijoules(uuid)
            if before is None or after is None or after < before:
                return None
            total += after - before
        return total
