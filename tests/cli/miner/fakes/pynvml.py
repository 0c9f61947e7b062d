"""Stands for NVIDIA's library, in whichever process imports it: its devices are those of `nvml.json` beside it.

A device has a field for each reading; one that lacks the field does not support the question, and `fails` maps calls to
the errors that they end with. A file `held/PID` beside it says what that process holds: `UUID MIB`, and a file
`events/NAME.xid` what the driver reports next: `INDEX CODE`.
"""

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

HERE = Path(__file__).parent
MIB = 1 << 20
NVML_ERROR_NOT_SUPPORTED, NVML_ERROR_FUNCTION_NOT_FOUND, NVML_ERROR_GPU_IS_LOST = 3, 13, 15
NVML_ERROR_TIMEOUT, nvmlEventTypeXidCriticalError = 10, 8  # noqa: N816
NVML_ERROR_RESET_REQUIRED, NVML_ERROR_NOT_FOUND, NVML_ERROR_UNKNOWN = 16, 6, 999
NVML_TEMPERATURE_GPU = NVML_MEMORY_ERROR_TYPE_UNCORRECTED = NVML_VOLATILE_ECC = 0
nvmlMemory_v2 = 33554472  # noqa: N816 - names of the library
nvmlClocksEventReasonGpuIdle, nvmlClocksEventReasonSwPowerCap, nvmlClocksEventReasonHwSlowdown = 1, 4, 8  # noqa: N816
nvmlClocksEventReasonSwThermalSlowdown, nvmlClocksEventReasonHwThermalSlowdown = 32, 64  # noqa: N816
nvmlClocksEventReasonHwPowerBrakeSlowdown = 128  # noqa: N816
FIELDS = {
    "nvmlDeviceGetUUID": "uuid",
    "nvmlDeviceGetName": "name",
    "nvmlDeviceGetPowerUsage": "power",
    "nvmlDeviceGetTemperature": "temperature",
    "nvmlDeviceGetCudaComputeCapability": "capability",
    "nvmlDeviceGetCurrentClocksEventReasons": "reasons",
    "nvmlDeviceGetCurrentClocksThrottleReasons": "throttle",
    "nvmlDeviceGetTotalEccErrors": "ecc",
    "nvmlDeviceGetRemappedRows": "rows",
    "nvmlDeviceGetTotalEnergyConsumption": "energy",
}
SAID = {3: "Not Supported", 13: "Function Not Found", 15: "GPU is lost", 16: "GPU requires reset", 999: "Unknown Error"}


class NVMLError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(SAID.get(value, f"error {value}"))
        self.value = value


def device(index: int, **changes: Any) -> dict[str, Any]:
    """A sound H100 that does nothing."""
    return {
        "uuid": f"GPU-{index:08d}",
        "name": f"Card {index}",
        "total": 81_559 * MIB,
        "reserved": 480 * MIB,
        "used": 3 * MIB,
        "gpu": 5,
        "power": 78_000,
        "temperature": 40,
        "capability": [9, 0],
        "reasons": 1,
        "ecc": 0,
        "rows": [0, 0, 0, 0],
        "energy": 1000,
    } | changes


def write(folder: Path, devices: list[dict[str, Any]], **fails: int) -> None:
    """Set what the library in a folder says from now on; `fails` are its calls that end with an error."""
    (folder / "held").mkdir(exist_ok=True)
    new = folder / "nvml.new"
    new.write_text(json.dumps({"devices": devices, "fails": fails}))
    new.rename(folder / "nvml.json")


def _state() -> dict[str, Any]:
    state: dict[str, Any] = json.loads((HERE / "nvml.json").read_text())
    return state


def _check(call: str, fails: dict[str, int]) -> None:
    if call in fails:
        raise NVMLError(fails[call])


def nvmlInit() -> None:  # noqa: N802
    _check("nvmlInit", _state()["fails"])


def nvmlShutdown() -> None:  # noqa: N802
    """Nothing to close."""


def nvmlDeviceGetCount() -> int:  # noqa: N802
    state = _state()
    _check("nvmlDeviceGetCount", state["fails"])
    return len(state["devices"])


def nvmlSystemGetDriverVersion() -> str:  # noqa: N802
    return "580.159"


def nvmlSystemGetCudaDriverVersion() -> int:  # noqa: N802
    return 13_000


def _device(handle: int, call: str) -> dict[str, Any]:
    found: dict[str, Any] = _state()["devices"][handle]
    _check(call, found.get("fails", {}))
    return found


def nvmlDeviceGetHandleByIndex(index: int) -> int:  # noqa: N802
    _device(index, "nvmlDeviceGetHandleByIndex")
    return index


def nvmlDeviceGetHandleByUUID(uuid: str) -> int:  # noqa: N802
    for index, found in enumerate(_state()["devices"]):
        if found["uuid"] == uuid:
            return nvmlDeviceGetHandleByIndex(index)
    raise NVMLError(NVML_ERROR_NOT_FOUND)


def nvmlDeviceGetMemoryInfo(handle: int, version: int | None = None) -> SimpleNamespace:  # noqa: N802
    found = _device(handle, "nvmlDeviceGetMemoryInfo_v2" if version else "nvmlDeviceGetMemoryInfo")
    if "total" not in found:
        raise NVMLError(NVML_ERROR_NOT_SUPPORTED)
    if version:
        return SimpleNamespace(total=found["total"], reserved=found["reserved"], used=found["used"])
    return SimpleNamespace(total=found["total"], used=found["used"] + found["reserved"])


def nvmlDeviceGetUtilizationRates(handle: int) -> SimpleNamespace:  # noqa: N802
    return SimpleNamespace(gpu=_field(handle, "nvmlDeviceGetUtilizationRates", "gpu"))


def nvmlDeviceGetComputeRunningProcesses(handle: int) -> list[SimpleNamespace]:  # noqa: N802
    uuid = _device(handle, "nvmlDeviceGetComputeRunningProcesses")["uuid"]
    found = []
    for file in (HERE / "held").iterdir():
        try:
            said = file.read_text().split()
        except FileNotFoundError:
            continue  # its program has just ended
        if said[:1] == [uuid] and len(said) == 2:  # a program that has just begun has written nothing yet
            found.append(SimpleNamespace(pid=int(file.name), usedGpuMemory=int(said[1]) * MIB))
    return found


def nvmlEventSetCreate() -> str:  # noqa: N802
    (HERE / "events").mkdir(exist_ok=True)
    return "events"


def nvmlDeviceRegisterEvents(handle: int, kinds: int, events: str) -> None:  # noqa: N802
    _device(handle, "nvmlDeviceRegisterEvents")


def nvmlEventSetWait_v2(events: str, milliseconds: int) -> SimpleNamespace:  # noqa: N802
    """The next of the events that a test has written: a file with the index of the device and the code."""
    end = time.monotonic() + milliseconds / 1000
    while time.monotonic() < end:
        for file in sorted((HERE / events).glob("*.xid")):
            device, code = file.read_text().split()
            file.unlink()
            return SimpleNamespace(device=int(device), eventData=int(code))
        time.sleep(0.01)
    raise NVMLError(NVML_ERROR_TIMEOUT)


def _field(handle: int, call: str, name: str) -> Any:
    found = _device(handle, call)
    if name not in found:
        raise NVMLError(NVML_ERROR_NOT_SUPPORTED)
    return found[name]


def __getattr__(name: str) -> Any:
    if name not in FIELDS:
        raise AttributeError(name)
    return lambda handle, *_: _field(handle, name, FIELDS[name])
