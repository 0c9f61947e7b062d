"""The running build: version, commit, interpreter."""

import platform
import re
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from msgspec import Struct

API = "v1"
_COMMIT = re.compile(r"[0-9a-f]{40,64}")


class Build(Struct, frozen=True, kw_only=True):
    """The version, commit and interpreter of the running program."""

    version: str
    python: str
    api: str = API
    commit: str | None = None
    """The git commit, when the program runs from a checkout."""


def this_build() -> Build:
    """The running build; read once, at the start."""
    try:
        number = version("aitbc")
    except PackageNotFoundError:  # run from a checkout that was never installed
        number = "0"
    return Build(version=number, python=platform.python_version(), commit=commit_of(Path(__file__).parents[4]))


def commit_of(checkout: Path) -> str | None:
    """The commit checked out in a folder, read from git's own files; none outside of a checkout."""
    git = checkout / ".git"
    with suppress(OSError, UnicodeDecodeError):
        head = (git / "HEAD").read_text().strip()
        reference = head.removeprefix("ref: ")
        if reference == head:
            return head if _COMMIT.fullmatch(head) else None
        if (git / reference).is_file():
            found = (git / reference).read_text().strip()
        else:
            packed = (git / "packed-refs").read_text().splitlines()
            found = next((line.split(" ")[0] for line in packed if line.endswith(f" {reference}")), "")
        return found if _COMMIT.fullmatch(found) else None
    return None
