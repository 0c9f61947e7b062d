"""NVIDIA's devices as their driver describes them, through its own library; null for what it does not give."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

MIB = 1 << 20
FIELDS = (
    *("vendor", "type", "index", "uuid", "name", "driver_version", "runtime_version", "compute_capability"),
    *("memory_total_mib", "memory_reserved_mib", "memory_used_mib", "memory_sellable_mib", "memory_is_shared"),
    *("utilization", "temperature_celsius", "power_watts", "brake_reasons", "fault"),
)
NVIDIA = {"vendor": "NVIDIA", "type": "cuda"}
IDENTITY = ("uuid", "name", "driver_version", "runtime_version", "compute_capability")
BRAKES = {
    "power_cap": "nvmlClocksEventReasonSwPowerCap",
    "slowdown": "nvmlClocksEventReasonHwSlowdown",
    "thermal": "nvmlClocksEventReasonSwThermalSlowdown",
    "thermal_hardware": "nvmlClocksEventReasonHwThermalSlowdown",
    "power_brake": "nvmlClocksEventReasonHwPowerBrakeSlowdown",
}
"""What holds a device's clocks back. That it idles, or that somebody set its clocks, is no brake."""
SHARED_MEMORY: dict[str, int | bool | None] = {"memory_is_shared": True}
Read = Callable[..., Any]
Answer = TypeVar("Answer")


class Nvml:
    """The library, opened at the first question and kept open: opening it can take a second a device.

    One that fails as a whole (a driver that was reloaded) is opened anew at the next question.
    """

    def __init__(self) -> None:
        self._library: Any = None
        self._seen: dict[int, dict[str, Any]] = {}
        """What each device said of its identity: one that is lost says nothing any more."""

    def devices(self) -> list[dict[str, Any]]:
        """All devices with their readings now; none where there is no library or no driver."""
        library = self._opened()
        if library is None:
            return []
        try:
            return [self._device(library, index) for index in range(library.nvmlDeviceGetCount())]
        except library.NVMLError:
            self.close()
            return []

    def processes_mib(self, uuid: str) -> dict[int, int] | None:
        """The memory that each process holds on a device; none where the driver does not say."""
        return self._ask(uuid, _processes_mib)

    def memory_used_mib(self, uuid: str) -> int | None:
        """What of a device's memory is in use; none where the driver does not say."""
        used = self._ask(uuid, lambda library, handle: _memory(library, handle).get("memory_used_mib"))
        return None if used is None else int(used)

    def fault(self, uuid: str) -> str | None:
        """Why a device cannot be trusted with work now; none where it can, or does not say."""
        library = self._opened()
        if library is None:
            return None

        def read(call: str, *arguments: Any) -> Any:
            try:
                return getattr(library, call)(*arguments)
            except library.NVMLError as error:
                if _is_lost(library, error):
                    raise
                return None

        try:
            return _fault(library, read, library.nvmlDeviceGetHandleByUUID(uuid))
        except library.NVMLError as error:
            return str(error)[:128] if _is_lost(library, error) else None

    def energy_millijoules(self, uuid: str) -> int | None:
        """The device's energy counter; none where it has none."""
        return self._ask(uuid, lambda library, handle: int(library.nvmlDeviceGetTotalEnergyConsumption(handle)))

    def close(self) -> None:
        """Let the library go."""
        library, self._library = self._library, None
        if library is not None:
            with suppress(library.NVMLError):
                library.nvmlShutdown()

    def _opened(self) -> Any:
        if self._library is None:
            try:
                import pynvml as library

                library.nvmlInit()
            except ImportError:
                return None
            except library.NVMLError:
                return None
            self._library = library
        return self._library

    def _ask(self, uuid: str, question: Callable[[Any, Any], Answer]) -> Answer | None:
        """The answer to one question about a device; none where there is none."""
        library = self._opened()
        if library is None:
            return None
        try:
            return question(library, library.nvmlDeviceGetHandleByUUID(uuid))
        except library.NVMLError:
            return None

    def _device(self, library: Any, index: int) -> dict[str, Any]:
        """One device by itself: one that is lost is named with its fault, and hides none of the others."""
        try:
            found = _readings(library, index)
        except library.NVMLError as error:
            lost = {"index": index, "fault": str(error)[:128] or "unknown"}
            return dict.fromkeys(FIELDS) | NVIDIA | self._seen.get(index, {}) | lost
        self._seen[index] = {name: found[name] for name in IDENTITY}
        return found


def _processes_mib(library: Any, handle: Any) -> dict[int, int]:
    held: dict[int, int] = {}
    for process in library.nvmlDeviceGetComputeRunningProcesses(handle):
        if process.usedGpuMemory is not None:
            held[process.pid] = held.get(process.pid, 0) + process.usedGpuMemory // MIB
    return held


def _readings(library: Any, index: int) -> dict[str, Any]:
    handle = library.nvmlDeviceGetHandleByIndex(index)

    def read(call: str, *arguments: Any) -> Any:
        try:
            return getattr(library, call)(*arguments)
        except library.NVMLError as error:
            if _is_lost(library, error):
                raise
            return None

    use = read("nvmlDeviceGetUtilizationRates", handle)
    capability = read("nvmlDeviceGetCudaComputeCapability", handle)
    runtime = read("nvmlSystemGetCudaDriverVersion")
    power = read("nvmlDeviceGetPowerUsage", handle)
    return (
        dict.fromkeys(FIELDS)
        | NVIDIA
        | {
            "index": index,
            "uuid": read("nvmlDeviceGetUUID", handle),
            "name": read("nvmlDeviceGetName", handle),
            "driver_version": read("nvmlSystemGetDriverVersion"),
            "runtime_version": f"{runtime // 1000}.{runtime % 1000 // 10}" if runtime else None,
            "compute_capability": f"{capability[0]}.{capability[1]}" if capability else None,
            **_memory(library, handle),
            "utilization": float(use.gpu) if use else None,
            "temperature_celsius": read("nvmlDeviceGetTemperature", handle, library.NVML_TEMPERATURE_GPU),
            "power_watts": power / 1000 if power is not None else None,
            "brake_reasons": _brake_reasons(library, read, handle),
            "fault": _fault(library, read, handle),
        }
    )


def _memory(library: Any, handle: Any) -> dict[str, int | bool | None]:
    """Total, reserved, used and sellable memory of a device in MiB, and whether it is the host's.

    The first version of the call counts what the driver reserves as used; it is asked only where the second is unknown.
    A GPU without memory of its own (GB10, Jetson) does not support the question: it works in the memory of its host.
    """
    try:
        memory = library.nvmlDeviceGetMemoryInfo(handle, library.nvmlMemory_v2)
        reserved = memory.reserved // MIB
    except library.NVMLError as error:
        if _is_lost(library, error):
            raise
        reserved = None
        try:
            memory = library.nvmlDeviceGetMemoryInfo(handle)
        except library.NVMLError as again:
            if _is_lost(library, again):
                raise
            return SHARED_MEMORY if again.value == library.NVML_ERROR_NOT_SUPPORTED else {}
    return {
        "memory_total_mib": memory.total // MIB,
        "memory_reserved_mib": reserved,
        "memory_used_mib": memory.used // MIB,
        "memory_sellable_mib": None if reserved is None else (memory.total - memory.reserved) // MIB,
        "memory_is_shared": False,
    }


def _brake_reasons(library: Any, read: Read, handle: Any) -> list[str] | None:
    bits = read("nvmlDeviceGetCurrentClocksEventReasons", handle)
    if bits is None:  # a driver before 535 knows them under their earlier name
        bits = read("nvmlDeviceGetCurrentClocksThrottleReasons", handle)
    return None if bits is None else [name for name, bit in BRAKES.items() if bits & getattr(library, bit)]


def _fault(library: Any, read: Read, handle: Any) -> str | None:
    """Why the device cannot be trusted with work, although it answers."""
    errors = read(
        *("nvmlDeviceGetTotalEccErrors", handle),
        *(library.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, library.NVML_VOLATILE_ECC),
    )
    if errors:
        return f"{errors} uncorrected memory errors (ECC) since the driver was loaded: reset the GPU"
    _, _, is_pending, has_failed = read("nvmlDeviceGetRemappedRows", handle) or (0, 0, 0, 0)
    if has_failed:
        return "a row of its memory could not be remapped: have the card checked"
    if is_pending:
        return "rows of its memory wait to be remapped: reset the GPU"
    return None


def _is_lost(library: Any, error: Any) -> bool:
    return error.value in (library.NVML_ERROR_GPU_IS_LOST, library.NVML_ERROR_RESET_REQUIRED)
