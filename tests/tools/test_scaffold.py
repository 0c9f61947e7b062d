"""A module that was laid out a moment ago passes every check, at once and as it is."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scale import FULL, scaled
from tools import scaffold
from tools.scaffold import PLACES, Refused, lay

ROOT = Path(__file__).resolve().parents[2]
NAME = "parcels"
BIN = Path(sys.executable).parent
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with the new module in it."""
    place = tmp_path_factory.mktemp("scaffold")
    for folder in ("src", "cli", "tests", "tools", "migrations", "docs"):
        shutil.copytree(ROOT / folder, place / folder)  # with what is compiled: eight programs load it
    shutil.copy(ROOT / "pyproject.toml", place)
    if FULL and (ROOT / ".mypy_cache").is_dir():  # what `make check` knows already of the files that are not new
        shutil.copytree(ROOT / ".mypy_cache", place / "types")
    done = run(place, BIN / "python", "-m", "tools.scaffold", NAME)
    assert done.returncode == 0, done.stdout + done.stderr
    return place


def run(place: Path, *command: object) -> subprocess.CompletedProcess[str]:
    """A command in the copy, which sees the copy's code and no other."""
    path = os.pathsep.join(str(place / folder) for folder in ("src", "cli", "."))
    environment = {**os.environ, "PYTHONPATH": path, "PYTEST_ADDOPTS": ""}
    environment.pop("PYTEST_XDIST_WORKER", None)
    return subprocess.run([str(word) for word in command], cwd=place, env=environment, capture_output=True, text=True)


def laid(place: Path) -> list[Path]:
    """The files of the new module."""
    return [place / path.format(name=NAME) for path in PLACES.values()]


CHECKS: list[tuple[str, ...]] = [
    ("ruff", "format", "--check", "{files}"),
    ("ruff", "check", "--no-cache", "{files}"),
    ("lint-imports", "--no-logo", "--no-cache"),
    ("python", "-m", "tools.documents", "check"),
]
SLOW_CHECKS: list[tuple[str, ...]] = [
    ("pytest", "-q", f"tests/modules/{NAME}"),
    ("python", "-m", "tools.schema", "check"),
    ("python", "-m", "tools.api", "check"),
    (
        "pytest",
        "-q",
        "tests/architecture/test_faces.py",
        "tests/architecture/test_tables.py",
        "tests/server/asgi/test_reference.py",
    ),
    ("mypy", "--cache-dir=types", "{files}"),
    # Its operations are poisoned as those of all others, with nothing written for them.
    ("pytest", "-q", "tests/poison/test_matrix.py", "-k", NAME),
]


@pytest.mark.parametrize(
    "check",
    scaled(CHECKS, [*CHECKS, *SLOW_CHECKS]),
    ids=lambda check: " ".join(check[:3]).removesuffix(" {files}"),
)
def test_a_new_module_passes(copy: Path, check: tuple[str, ...]) -> None:
    program, *arguments = check
    files = [*laid(copy), copy / "src/aitbc/app.py"]
    # Of types, what the module itself gives: the rest of the checkout has its own turn.
    words = [word for argument in arguments for word in (files if argument == "{files}" else [argument])]
    done = run(copy, BIN / program, *words)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_new_module_takes_its_place_on_top_or_where_it_was_foreseen(copy: Path) -> None:
    order = scaffold._order_in((copy / "pyproject.toml").read_text())
    assert order[0] == NAME
    app = (copy / "src/aitbc/app.py").read_text()
    assert f"= ({NAME}, " in app
    foreseen = 'id = "order"\nlayers = [\n    "(top)",\n    "(middle)",\n    "low",\n]\n'
    assert scaffold._placed("middle", foreseen) == foreseen.replace("(middle)", "middle")


@pytest.mark.parametrize(
    "name", ["", "Gpu", "two_words", "x", "class", "json", "kernel", "query", "../up", "trading", "a" * 31]
)
def test_a_name_that_cannot_be_a_module_is_refused_and_writes_nothing(copy: Path, name: str) -> None:
    before = sorted(copy.rglob("*"))
    with pytest.raises(Refused):
        lay(name, copy)
    assert sorted(copy.rglob("*")) == before
