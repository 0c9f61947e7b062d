"""A fresh virtual environment with this checkout's wheel and what it asks for, copied from here and not fetched."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import venv
from importlib.metadata import Distribution
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.architecture.source import ROOT

SECONDS = 60


class FreshInstall:
    """The program as a stranger has it who installed the wheel, without an extra."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "venv/bin/python"
        self.aitbc = folder / "venv/bin/aitbc"
        venv.create(folder / "venv", with_pip=False)
        self._packages = next((folder / "venv/lib").glob("python3*")) / "site-packages"
        for distribution in wanted("aitbc").values():
            self._copy(distribution)
        command = [*_installer(self.python), "--no-deps", "--no-index", str(wheel(folder))]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        assert done.returncode == 0, done.stdout + done.stderr

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(file.stat().st_size for file in self._packages.rglob("*") if file.is_file())

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """`aitbc` with these words, in a folder and with a home of its own."""
        return self.program(str(self.aitbc), *words, **environment)

    def program(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Any program of the installation."""
        return subprocess.run(
            words,
            env=self.environment(**environment),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )

    def environment(self, **more: str) -> dict[str, str]:
        """Nothing of the surroundings: no settings, and no other installation's programs."""
        state = {"HOME": str(self.folder), "AITBC_STATE_DIR": str(self.folder / "state"), "AITBC_NO_INPUT": "1"}
        return {"PATH": f"{self.python.parent}:{os.defpath}", "LANG": "C.UTF-8", **state, **more}

    def _copy(self, distribution: Distribution) -> None:
        root = Path(str(distribution.locate_file(".")))
        for file in distribution.files or ():
            source, target = root / file, self._packages / file
            if ".." not in file.parts and source.exists():  # programs that it brings stay away
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)


def _installer(python: Path) -> list[str]:
    """The one that set up this checkout. Skips where it has gone."""
    if find_spec("pip") is not None:
        return [sys.executable, "-m", "pip", "--quiet", "--python", str(python), "install"]
    if shutil.which("uv") is None:
        pytest.skip("neither pip nor uv is installed")
    return ["uv", "pip", "install", "--quiet", "--python", str(python)]


def wheel(folder: Path) -> Path:
    """The wheel of this checkout."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "wheels")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = (folder / "wheels").glob("*.whl")
    return built


def wanted(name: str) -> dict[str, Distribution]:
    """The distributions that one asks for without an extra, and those that they ask for; not itself."""
    found: dict[str, Distribution] = {}
    waiting = [Requirement(name)]
    while waiting:
        asking = waiting.pop()
        for line in importlib.metadata.distribution(asking.name).requires or ():
            each = Requirement(line)
            is_asked = each.marker is None or any(
                each.marker.evaluate({"extra": extra}) for extra in asking.extras or {""}
            )
            if is_asked and each.name not in found:
                found[each.name] = importlib.metadata.distribution(each.name)
                waiting.append(each)
    return found
