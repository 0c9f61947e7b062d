"""Stands for PyTorch in the interpreter of a program: `torch.mode` beside it says where it fails.

Like the real one it reserves far more address space than it uses.
"""

import mmap
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

MODE = Path(__file__).with_name("torch.mode").read_text().split()
_reserved = mmap.mmap(-1, 18 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)  # MAP_NORESERVE
__version__ = "2.11.0"
version = SimpleNamespace(cuda=None if "cpu" in MODE else "13.0")


def _fails(step: str) -> bool:
    """Whether this step fails on the device that the program has."""
    return any(each in (step, f"{step}@{os.environ['CUDA_VISIBLE_DEVICES']}") for each in MODE)


if _fails("import"):
    raise ImportError("libcudart.so.13: failed to map segment from shared object")


class Tensor:
    def __init__(self, value: float, size: int) -> None:
        self.value, self.size = value, size

    def __matmul__(self, other: "Tensor") -> "Tensor":
        if _fails("hang"):
            import time

            time.sleep(600)
        if _fails("memory"):
            held = bytearray(1)
            while True:
                held += b"x" * (8 << 20)
        return Tensor(self.value * other.value * self.size - _fails("product"), self.size)

    def sum(self) -> "Tensor":
        return Tensor(self.value * self.size**2, self.size)

    def item(self) -> float:
        return self.value


def full(shape: tuple[int, int], value: float, **_: Any) -> Tensor:
    if _fails("init"):
        sys.stderr.write("/x/torch/cuda/__init__.py:182: UserWarning: CUDA initialization: unknown error\n")
        raise RuntimeError("CUDA driver initialization failed, you might not have a CUDA gpu.")
    if _fails("allocation"):
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 MiB.")
    return Tensor(value, shape[0])
