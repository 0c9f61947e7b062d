"""Files that commands read and write: written whole or not at all, `-` for the standard streams."""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from aitbc_cli.exits import Stop, usage

STANDARD = "-"


def read(name: str, *, bytes_max: int) -> bytes:
    """A whole file, or standard input. Raises `Stop` for one that is not there or too long."""
    if name == STANDARD:
        content = sys.stdin.buffer.read(bytes_max + 1)
    else:
        with opened(Path(name)) as file:
            content = file.read(bytes_max + 1)
    if len(content) > bytes_max:
        raise usage(f"{name} has more than {bytes_max} bytes")
    return content


def lines_of(text: str) -> list[str]:
    """The lines that are not blank; they end at CR and LF alone: other ends of Unicode are parts of a text."""
    return [line for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n") if line.strip()]


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A file to read. Raises `Stop` where it cannot be."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise usage(f"{path}: {error.strerror}") from None
    with file:
        yield file


@contextmanager
def replacing(path: Path, *, private: bool = False) -> Iterator[BinaryIO]:
    """A file that takes the place of another once it is complete; a failure on the way leaves what was there."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600 if private else 0o666)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        raise Stop(f"{path} cannot be written: {error.strerror}", code="file_not_written") from None
    finally:
        fresh.unlink(missing_ok=True)


def save(name: str, pieces: Iterable[bytes], *, private: bool = False) -> int:
    """Write pieces to a file or to standard output, and give their size."""
    total = 0
    if name == STANDARD:
        for piece in pieces:
            sys.stdout.buffer.write(piece)
            total += len(piece)
        sys.stdout.buffer.flush()
        return total
    with replacing(Path(name), private=private) as file:
        for piece in pieces:
            file.write(piece)
            total += len(piece)
    return total
