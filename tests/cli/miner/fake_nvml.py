"""NVIDIA's library as the tests have it: in this process, and in the processes that it starts."""

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FAKES = Path(__file__).parent / "fakes"
SOURCE = FAKES / "pynvml.py"


class FakeNvml:
    """One library in a folder of its own."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        shutil.copy(SOURCE, folder / "pynvml.py")
        self.module = _loaded(folder / "pynvml.py")
        monkeypatch.setitem(sys.modules, "pynvml", self.module)
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *sys.path]))
        self.devices: list[dict[str, Any]] = []
        self.show()

    def show(self, *devices: dict[str, Any], **fails: int) -> None:
        """Have these devices from now on."""
        self.devices = list(devices)
        self.module.write(self.folder, self.devices, **fails)

    def count(self, count: int) -> None:
        """Have so many sound devices from now on."""
        self.show(*(self.module.device(index) for index in range(count)))

    def change(self, index: int, **changes: Any) -> None:
        """Change what one device says; None takes a field away."""
        changed = self.devices[index] | changes
        self.devices[index] = {name: value for name, value in changed.items() if value is not None}
        self.module.write(self.folder, self.devices)

    def report(self, index: int, code: int) -> None:
        """Have the driver report an error of a device."""
        (self.folder / "events").mkdir(exist_ok=True)
        new = self.folder / "events" / "new"
        new.write_text(f"{index} {code}")
        new.rename(self.folder / "events" / "1.xid")


def python_with_torch(folder: Path, mode: str = "") -> str:
    """A Python that finds the tests' PyTorch, which fails where `mode` says so."""
    shutil.copy(FAKES / "torch.py", folder)
    (folder / "torch.mode").write_text(mode)
    python = folder / "python3"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={folder} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return str(python)


def _loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("pynvml", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
