"""The machine that monitoring runs on: its processor, memory, disk and network, as the system counts them."""

import asyncio
import os
import platform as python
import shutil
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

GIB = 1024**3
CPU_SAMPLE_SECONDS = 0.1
"""Over what time the first reading of the processor is made; later ones are since the one before."""


class HostReading(Struct, frozen=True, kw_only=True):
    """What the system counts; null is what could not be read."""

    cpu_percent: float | None
    cpu_count: int
    memory_percent: float | None
    memory_total_gb: float | None
    memory_available_gb: float | None
    disk_percent: float
    disk_total_gb: float
    disk_free_gb: float
    bytes_sent: int | None
    bytes_recv: int | None
    packets_sent: int | None
    packets_recv: int | None


class Host:
    """Reads the machine, without blocking anybody."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._cpu: tuple[float, float] | None = None

    async def read(self) -> HostReading:
        """The machine as it is now."""
        if self._cpu is None:
            self._cpu = await asyncio.to_thread(_cpu_times)
            await asyncio.sleep(CPU_SAMPLE_SECONDS)
        before, self._cpu = self._cpu, await asyncio.to_thread(_cpu_times)
        return await asyncio.to_thread(self._read, before, self._cpu)

    def _read(self, before: tuple[float, float] | None, after: tuple[float, float] | None) -> HostReading:
        disk = shutil.disk_usage(self._state_dir)
        memory, network = _memory(), _network()
        total, available = memory.get("MemTotal"), memory.get("MemAvailable")
        is_known = total is not None and available is not None
        return HostReading(
            cpu_percent=_busy_percent(before, after),
            cpu_count=os.cpu_count() or 1,
            memory_percent=round(100 * (1 - available / total), 1)
            if is_known and total and available is not None
            else None,
            memory_total_gb=None if total is None else round(total / GIB, 2),
            memory_available_gb=None if available is None else round(available / GIB, 2),
            disk_percent=round(100 * disk.used / disk.total, 1) if disk.total else 0.0,
            disk_total_gb=round(disk.total / GIB, 2),
            disk_free_gb=round(disk.free / GIB, 2),
            **network,
        )


def python_version() -> str:
    """The version of the interpreter."""
    return python.python_version()


def _cpu_times() -> tuple[float, float] | None:
    """Busy and total ticks of all processors since the start of the machine."""
    try:
        first = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0]
    except OSError:
        return None
    ticks = [float(value) for value in first.split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def _busy_percent(before: tuple[float, float] | None, after: tuple[float, float] | None) -> float | None:
    if before is None or after is None:
        return None
    passed = after[1] - before[1]
    return round(100 * (after[0] - before[0]) / passed, 1) if passed > 0 else 0.0


def _memory() -> Mapping[str, int]:
    """Bytes by the names of /proc/meminfo; empty where there is none."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    pairs = (line.split() for line in lines if line.endswith("kB"))
    return {pair[0].rstrip(":"): int(pair[1]) * 1024 for pair in pairs}


def _network() -> dict[str, int | None]:
    """Bytes and packets of all interfaces but loopback since the start of the machine."""
    names = ("bytes_recv", "packets_recv", "bytes_sent", "packets_sent")
    try:
        lines = Path("/proc/net/dev").read_text(encoding="ascii").splitlines()[2:]
    except OSError:
        return dict.fromkeys(names)
    sums = [0, 0, 0, 0]
    for line in lines:
        name, _, counted = line.partition(":")
        if name.strip() != "lo":
            fields = counted.split()
            for place, field in enumerate((0, 1, 8, 9)):
                sums[place] += int(fields[field])
    return dict(zip(names, sums, strict=True))
