"""What this machine has: devices and host as they say themselves, null for what cannot be read."""

import os
import platform
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from aitbc_cli.miner.nvml import FIELDS, MIB, Nvml


def inventory(folder: Path, nvml: Nvml | None = None) -> dict[str, Any]:
    """The host and its devices now; `folder` is where the miner keeps its work. A given `nvml` is kept open."""
    asked = nvml or Nvml()
    try:
        gpus = asked.devices()
    finally:
        if nvml is None:
            asked.close()
    cpu = _cpu()
    for gpu in gpus:
        if gpu["memory_is_shared"]:
            gpu |= {name: cpu[name] for name in ("memory_total_mib", "memory_used_mib")}
    return {"devices": [*gpus, cpu], "host": _host(folder)}


def capabilities(found: dict[str, Any], work: dict[str, Any], region: str | None) -> dict[str, Any]:
    """What jobs are matched by, from what was found; `work` is the kinds, models and programs that work here."""
    gpus = [device for device in found["devices"] if device["type"] != "cpu" and device["fault"] is None]
    offer: dict[str, Any] = {
        **work,
        "device": "gpu" if gpus else "cpu",
        "gpu_models": sorted({device["name"] for device in gpus if device["name"]}),
        "vram_mib": max((_sellable_mib(device) for device in gpus), default=0),
    }
    return offer | ({"region": region} if region else {})


def _sellable_mib(device: dict[str, Any]) -> int:
    """The memory that work can have: without what the driver keeps for itself, where it says how much."""
    sellable = device["memory_sellable_mib"]
    return int((device["memory_total_mib"] if sellable is None else sellable) or 0)


def _host(folder: Path) -> dict[str, Any]:
    release = {}
    with suppress(OSError):
        release = platform.freedesktop_os_release()
    return {
        "os": release.get("PRETTY_NAME"),
        "kernel": platform.release() or None,
        "cpu_model": _cpu_model(),
        "cpu_count": os.cpu_count(),
        "memory_mib": _memory("MemTotal"),
        "disk_free_mib": shutil.disk_usage(folder).free // MIB,
    }


def _cpu() -> dict[str, Any]:
    total, available = _memory("MemTotal"), _memory("MemAvailable")
    used = total - available if total is not None and available is not None else None
    device = dict.fromkeys(FIELDS)
    return device | {
        "type": "cpu",
        "index": 0,
        "name": _cpu_model(),
        "memory_total_mib": total,
        "memory_used_mib": used,
    }


def _cpu_model() -> str | None:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "Model"):
                return value.strip()[:128] or None
    return None


def _memory(name: str) -> int | None:
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) // 1024
    return None
