"""Waits end alike on each Python: they are tested on the one that runs the tests, and on every newer one that is there.

`make test` runs what is plain Python there, `make test-all` everything that waits, with the packages of that Python.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scale import FULL

HERE = Path(__file__)
ROOT = HERE.parents[3]
WAITS = HERE.with_name("test_tasks.py")
"""Its subject and what it needs are plain Python, so that any interpreter can run it with our packages."""
NEWER = ("3.11", "3.12", "3.13", "3.14")
WAITING = (
    *("tests/kernel/primitives/test_tasks.py", "tests/kernel/events", "tests/kernel/database", "tests/kernel/identity"),
    *("tests/modules/ai/test_followers.py", "tests/cli/miner/test_streaming.py"),
    *("tests/server/webhooks", "tests/server/cluster", "tests/server/asgi"),
)
"""All that is asynchronous below the modules, and what streams."""
INSTALLING_SECONDS = 1800
OPTIONS = (
    "-q",
    "-k",
    "not trio",
    "--noconftest",
    "-p",
    "anyio.pytest_plugin",
    "-p",
    "no:cacheprovider",
    "-c",
    os.devnull,
)


def interpreter(version: str) -> str | None:
    """A Python of this version: on the path, or one of pyenv's."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [shutil.which(f"python{version}"), *sorted(str(path) for path in root.glob(f"{version}.*/bin/python"))]
    for program in found:
        if program is not None and answers(program) == version:
            return program
    return None


def answers(program: str) -> str | None:
    """The version that a program says it is; none where it does not run, as a shim of pyenv may."""
    ask = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([program, "-c", ask], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


@pytest.mark.parametrize("version", NEWER)
def test_waits_end_on_this_interpreter(version: str, tmp_path: Path) -> None:
    program = interpreter(version)
    if program is None:
        pytest.skip(f"Python {version} is not installed")
    packages = Path(pytest.__file__).parents[1]
    paths = os.pathsep.join(map(str, (ROOT / "src", ROOT / "cli", ROOT, packages)))
    environment = {**os.environ, "PYTHONPATH": paths, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
    words = [program, "-m", "pytest", *OPTIONS, "-o", "anyio_mode=auto", "--rootdir", str(tmp_path), str(WAITS)]
    done = subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "no tests ran" not in done.stdout


def installed(program: str, checkout: Path) -> str:
    """Why the packages of this checkout cannot be installed for a Python; empty once they are."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    for name in listing.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, checkout / name)
    environment = {**os.environ, "PYTHON": program}
    words = [str(checkout / ".ci/setup"), "dev"]
    done = subprocess.run(
        words, env=environment, cwd=checkout, capture_output=True, text=True, timeout=INSTALLING_SECONDS
    )
    return "" if done.returncode == 0 else done.stderr[-500:]


@pytest.mark.skipif(not FULL, reason="make test-all: installs all packages for each newer Python")
@pytest.mark.timeout(2 * INSTALLING_SECONDS)
@pytest.mark.parametrize("version", [version for version in NEWER if version != "3.11"])
def test_all_that_waits_passes_on_this_interpreter(version: str, tmp_path: Path) -> None:
    program = interpreter(version)
    if program is None:
        pytest.skip(f"Python {version} is not installed")
    lacking = installed(program, tmp_path)
    if lacking:
        pytest.skip(f"the packages cannot be installed for Python {version}: {lacking}")
    words = [str(tmp_path / ".venv/bin/pytest"), "-q", "-n", "0", *WAITING]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "TEST_ALL"))}
    done = subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]


def test_the_one_that_runs_the_tests_is_among_them() -> None:
    assert f"{sys.version_info.major}.{sys.version_info.minor}" in NEWER
