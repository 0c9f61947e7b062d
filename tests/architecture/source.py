"""The source as these tests read it: where it lies, its modules, its syntax trees."""

import ast
import functools
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODULES = ROOT / "src/aitbc/modules"


def module_folders() -> list[Path]:
    """The folders of the modules."""
    return sorted(path for path in MODULES.iterdir() if path.is_dir() and path.name != "__pycache__")


def python_files(*folders: str) -> list[Path]:
    """Our Python files under these folders of the checkout."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


@functools.cache
def tree(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function in a file, methods and inner ones too."""
    return (node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@functools.cache
def tracked_files() -> tuple[Path, ...]:
    """What the repository keeps; in an unpacked archive without history, everything that is there and not made here."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listing.returncode == 0:
        return tuple(ROOT / name for name in listing.stdout.decode().split("\0") if name and (ROOT / name).is_file())
    made = {".venv", "build", "dist", "__pycache__", ".git"}
    return tuple(path for path in ROOT.rglob("*") if path.is_file() and not made & set(path.relative_to(ROOT).parts))
