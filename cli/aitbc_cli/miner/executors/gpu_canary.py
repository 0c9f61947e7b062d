"""A small program of the miner's own that shows whether programs can use a GPU here, under the limits that they get."""

import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

SECONDS = 60
_PYTHON = re.compile(r"python(\d(\.\d+)?)?")

# Runs in the interpreter that the allowed programs run in, with the libraries that they find there. A library that is
# there and does not load is a failure; one that was built without CUDA is passed over.
SOURCE = r"""
import ctypes, importlib.util, sys

SIZE = 64
EXPECTED = 6.0 * SIZE**3

def check(name, version, total):
    if total != EXPECTED:
        sys.exit(f"{name} {version} computed {total} instead of {EXPECTED} on the GPU")
    print(name, version)
    sys.exit(0)

def try_torch():
    import torch
    if getattr(torch.version, "cuda", None) is None:
        return
    one = torch.full((SIZE, SIZE), 2.0, device="cuda")
    other = torch.full((SIZE, SIZE), 3.0, device="cuda")
    check("torch", torch.__version__, float((one @ other).sum().item()))

def try_cupy():
    import cupy
    one, other = cupy.full((SIZE, SIZE), 2.0, dtype="f4"), cupy.full((SIZE, SIZE), 3.0, dtype="f4")
    check("cupy", cupy.__version__, float((one @ other).sum()))

def try_driver():
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        sys.exit(f"neither torch nor cupy is here, and the driver's library cannot be loaded: {error}")
    def call(name, *arguments):
        answer = getattr(cuda, name)(*arguments)
        if answer:
            sys.exit(f"{name} of the CUDA driver answered {answer}")
    device, context, address = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_uint64()
    call("cuInit", 0)
    call("cuDeviceGet", ctypes.byref(device), 0)
    call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    call("cuCtxSetCurrent", context)
    call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(4 * SIZE))
    call("cuMemsetD32_v2", address, ctypes.c_uint(6), ctypes.c_size_t(SIZE))
    values = (ctypes.c_uint * SIZE)()
    call("cuMemcpyDtoH_v2", values, address, ctypes.c_size_t(4 * SIZE))
    check("driver", "only", float(sum(values) * SIZE**2))

if importlib.util.find_spec("torch"):
    try_torch()
if importlib.util.find_spec("cupy"):
    try_cupy()
try_driver()
"""


def interpreters(commands: Sequence[Sequence[str]]) -> list[str]:
    """The Python interpreters that programs run in, each once; the miner's own where no program is in Python."""
    found = dict.fromkeys(filter(None, (_interpreter(command[0]) for command in commands)))
    return list(found) or [sys.executable]


def _interpreter(path: str) -> str | None:
    if _PYTHON.fullmatch(Path(path).name):
        return path
    with suppress(OSError, UnicodeDecodeError), Path(path).open("rb") as file:
        first = file.readline(256).decode()
        words = first.removeprefix("#!").split() if first.startswith("#!") else []
        if words and _PYTHON.fullmatch(Path(words[0]).name):
            return words[0]
    return None


# Said by CUDA and the libraries above it when it is the machine that fails: its driver, its devices, the way to them.
# An out-of-memory error, an illegal address or a failed assertion is the program's own.
_MACHINE_FAULTS = re.compile(
    r"CUDA driver initialization failed|CUDA driver version is insufficient|CUDA unknown error"
    r"|CUDA initialization:|Found no NVIDIA driver|no CUDA-capable device is detected|No CUDA GPUs are available"
    r"|CUDA error: (initialization error|unknown error|system not yet initialized|uncorrectable)"
    r"|CUDA-capable device\(s\) is/are busy or unavailable|system has unsupported display driver"
    r"|CUDA_ERROR_(NOT_INITIALIZED|NO_DEVICE|DEVICE_UNAVAILABLE|SYSTEM_|UNKNOWN|ECC_|NVLINK|COMPAT_|HARDWARE)"
    r"|cudaError(InitializationError|InsufficientDriver|NoDevice|DevicesUnavailable|SystemNotReady|SystemDriver|ECC)"
    r"|uncorrectable (ECC|NVLink) error|GPU is lost|fallen off the bus|Driver/library version mismatch"
    r"|libcuda\.so[.\d]*: cannot open"
)


def machine_fault(stderr: str) -> str | None:
    """The line of a program's standard error that says that the machine's CUDA failed, if there is one."""
    return next((line.strip() for line in reversed(stderr.splitlines()) if _MACHINE_FAULTS.search(line)), None)
