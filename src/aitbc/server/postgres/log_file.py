"""The log file of the embedded PostgreSQL: rotation, and its last lines for error messages."""

import os
import shutil
from pathlib import Path

LOG_BYTES = 10 * 1024 * 1024
"""A longer log becomes the previous log, of which one is kept."""


def previous(log: Path) -> Path:
    """The previous log file."""
    return log.with_name(log.name + ".1")


def rotate_if_long(log: Path) -> None:
    """Rotate a long log: copied and truncated, since the server goes on appending to this very file.

    Where there is no room for the copy there is none for the log either: it is truncated all the same.
    """
    if log.exists() and log.stat().st_size > LOG_BYTES:
        try:
            shutil.copyfile(log, previous(log))
            previous(log).chmod(0o600)
        except OSError:
            previous(log).unlink(missing_ok=True)
        os.truncate(log, 0)


def read_from(log: Path, position: int) -> bytes:
    """What was written from a position on."""
    with log.open("rb") as file:
        file.seek(position)
        return file.read(LOG_BYTES)


def last_lines(output: bytes) -> str:
    """The last lines, as part of a message."""
    lines = output.decode("utf-8", "replace").strip().splitlines()
    return "\n".join(f"  {line[:300]}" for line in lines[-12:]) or "  (it said nothing)"
