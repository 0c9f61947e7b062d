"""The files that a container left in its folder: plain ones, bounded in number and size, and no links are followed."""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

FILES_MAX = 32
DEPTH_MAX = 8
PATH_CHARACTERS_MAX = 200
FILES = "files/"
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9 ._+=-]*\Z")


class FilesRefused(Exception):
    """The folder holds what cannot be delivered; the message says what."""


def collected(folder: Path, target: Path, *, file_bytes: int) -> dict[str, Path]:
    """The files below a folder by their paths there, moved into `target`. Nobody writes to either any more.

    Raises `FilesRefused` for too many, too large ones, and names that cannot be told.
    """
    files: dict[str, Path] = {}
    for number, (name, path, size) in enumerate(_walk(folder, "", 0)):
        if number >= FILES_MAX:
            raise FilesRefused(f"/out holds more than {FILES_MAX} files; pack them into one.")
        if size > file_bytes:
            raise FilesRefused(f"/out/{name} has {size} bytes; {file_bytes} are allowed.")
        files[FILES + name] = target / f"output-file-{number}"
        path.rename(files[FILES + name])
        if os.getuid() != files[FILES + name].lstat().st_uid:
            os.chown(files[FILES + name], os.getuid(), os.getgid(), follow_symlinks=False)
        files[FILES + name].chmod(0o600)
    return files


def _walk(folder: Path, prefix: str, depth: int) -> Iterator[tuple[str, Path, int]]:
    if depth > DEPTH_MAX:
        raise FilesRefused(f"/out/{prefix} lies too deep; {DEPTH_MAX} folders are allowed.")
    folder.chmod(0o700)
    for path in sorted(folder.iterdir()):
        name = f"{prefix}{path.name}"
        told = path.lstat()
        if stat.S_ISDIR(told.st_mode):
            yield from _walk(path, f"{name}/", depth + 1)
        elif stat.S_ISREG(told.st_mode):
            if not _PART.match(path.name) or len(name) > PATH_CHARACTERS_MAX:
                raise FilesRefused(f"/out/{name[:100]!r} is no name for a file that can be delivered.")
            yield name, path, told.st_size
