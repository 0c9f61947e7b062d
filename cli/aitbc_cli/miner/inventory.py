"""What this machine has: devices and host as they say themselves, null for what cannot be read."""

import os
import platform
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

MIB = 1 << 20


def inventory(folder: Path) -> dict[str, Any]:
    """The host and its devices now; `folder` is where the miner keeps its work."""
    return {"devices": [*_gpus(), _cpu()], "host": _host(folder)}


def capabilities(found: dict[str, Any], work: dict[str, Any], region: str | None) -> dict[str, Any]:
    """What jobs are matched by, from what was found; `work` is the kinds, models and programs that work here."""
    gpus = [device for device in found["devices"] if device["type"] != "cpu" and device["fault"] is None]
    offer: dict[str, Any] = {
        **work,
        "device": "gpu" if gpus else "cpu",
        "gpu_models": sorted({device["name"] for device in gpus if device["name"]}),
        "vram_mib": max((device["memory_total_mib"] or 0 for device in gpus), default=0),
    }
    return offer | ({"region": region} if region else {})


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
    device = dict.fromkeys(_FIELDS)
    return device | {
        "type": "cpu",
        "index": 0,
        "name": _cpu_model(),
        "memory_total_mib": total,
        "memory_used_mib": used,
    }


_FIELDS = (
    *("vendor", "type", "index", "uuid", "name", "driver_version", "runtime_version", "compute_capability"),
    *("memory_total_mib", "memory_used_mib", "utilization", "temperature_celsius", "power_watts"),
    *("memory_is_shared", "fault"),
)


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


def _gpus() -> list[dict[str, Any]]:
    """NVIDIA's devices, through its own library; none where there is no library or no driver."""
    try:
        import pynvml as nvml
    except ImportError:
        return []
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return []
    try:
        return [_gpu_or_fault(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]
    except nvml.NVMLError:
        return []
    finally:
        with suppress(nvml.NVMLError):
            nvml.nvmlShutdown()


def _gpu_or_fault(nvml: Any, index: int) -> dict[str, Any]:
    """One device by itself: one that is lost is named with its fault, and hides none of the others."""
    try:
        return _gpu(nvml, index)
    except nvml.NVMLError as error:
        found = {"vendor": "NVIDIA", "type": "cuda", "index": index, "fault": str(error)[:128] or "unknown"}
        return dict.fromkeys(_FIELDS) | found


def _gpu(nvml: Any, index: int) -> dict[str, Any]:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)

    def read(call: Any, *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except nvml.NVMLError as error:
            if _is_lost(nvml, error):
                raise
            return None

    total, used, is_shared = _gpu_memory(nvml, handle)
    use = read(nvml.nvmlDeviceGetUtilizationRates, handle)
    capability = read(nvml.nvmlDeviceGetCudaComputeCapability, handle)
    runtime = read(nvml.nvmlSystemGetCudaDriverVersion)
    power = read(nvml.nvmlDeviceGetPowerUsage, handle)
    return {
        "vendor": "NVIDIA",
        "type": "cuda",
        "index": index,
        "uuid": read(nvml.nvmlDeviceGetUUID, handle),
        "name": read(nvml.nvmlDeviceGetName, handle),
        "driver_version": read(nvml.nvmlSystemGetDriverVersion),
        "runtime_version": f"{runtime // 1000}.{runtime % 1000 // 10}" if runtime else None,
        "compute_capability": f"{capability[0]}.{capability[1]}" if capability else None,
        "memory_total_mib": total,
        "memory_used_mib": used,
        "memory_is_shared": is_shared,
        "fault": None,
        "utilization": float(use.gpu) if use else None,
        "temperature_celsius": read(nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU),
        "power_watts": power / 1000 if power is not None else None,
    }


def _gpu_memory(nvml: Any, handle: Any) -> tuple[int | None, int | None, bool | None]:
    """Total and used memory of a device in MiB, and whether it is the host's.

    A GPU without memory of its own (GB10, Jetson) does not support the question: it works in the memory of its host.
    """
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    except nvml.NVMLError as error:
        if error.value == nvml.NVML_ERROR_NOT_SUPPORTED:
            host = _cpu()
            return host["memory_total_mib"], host["memory_used_mib"], True
        if _is_lost(nvml, error):
            raise
        return None, None, None
    return memory.total // MIB, memory.used // MIB, False


def _is_lost(nvml: Any, error: Any) -> bool:
    return error.value in (nvml.NVML_ERROR_GPU_IS_LOST, nvml.NVML_ERROR_RESET_REQUIRED)
