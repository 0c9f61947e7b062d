"""Copying files and folders to a booked machine and back, as tar archives that are never on the disk."""

import asyncio
import io
import shutil
import tarfile
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from aitbc_cli.exits import FAILED, Stop, usage
from aitbc_cli.machines import ERR, Line, Lines

BUFFER_BYTES = 1 << 16


async def put(lines: Lines, source: Path, target: str) -> None:
    """A file or folder of this machine to a path there: into the folder where the path ends with a slash."""
    folder, name = _place_there(source, target)
    async with lines.open("put", path=folder) as line:
        loop = asyncio.get_running_loop()

        def send(piece: bytes) -> None:
            asyncio.run_coroutine_threadsafe(line.send(piece), loop).result()

        packing = asyncio.create_task(asyncio.to_thread(_pack, source, name, send))
        ending = asyncio.create_task(_ended(line))
        await asyncio.wait({packing, ending}, return_when=asyncio.FIRST_COMPLETED)
        if not ending.done():
            await packing
            await line.say({"eof": True})
        await ending


async def get(lines: Lines, source: str, target: Path) -> None:
    """A file or folder of the machine to a path here: into it where it is a folder. All of it, or nothing."""
    name, place = _place_here(source, target)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=".aitbc-cp-") as temporary:
        async with lines.open("get", path=source) as line:
            await _unpacked(line, Path(temporary))
        found = Path(temporary) / name
        if not _is_there(found):
            raise Stop(f"the machine sent something else than {name}", exit_code=FAILED, code="machine_failed")
        shutil.move(found, place)


def _place_there(source: Path, target: str) -> tuple[str, str]:
    """The folder of the machine that is unpacked into, and the name there."""
    folder, slash, name = target.rpartition("/")
    if not slash:
        folder = "."
    return folder or "/", name or source.resolve().name


def _place_here(source: str, target: Path) -> tuple[str, Path]:
    """The name of what comes, and where it goes. Raises a usage error."""
    name = source.rstrip("/").rpartition("/")[2]
    if name in ("", ".", ".."):
        raise usage(f"{source!r} names no file or folder of the machine")
    place = target / name if target.is_dir() else target
    if place.is_dir():
        raise usage(f"{place} is a folder already", hint="name another one")
    return name, place


def _is_there(path: Path) -> bool:
    return path.is_symlink() or path.exists()


async def _ended(line: Line) -> None:
    """Wait for the end of what runs there. Raises `Stop` where it failed."""
    said = b""
    async for stream, piece in line.pieces():
        if stream == ERR:
            said = (said + piece)[-4096:]
    _require_done(line, said)


def _require_done(line: Line, said: bytes) -> None:
    if line.exit_code != 0:
        why = "; ".join(said.decode("utf-8", "replace").split("\n")[:3]).strip("; ") or f"exit code {line.exit_code}"
        if line.exit_code in (126, 127):
            why = f"its image has no tar, which files are copied with ({why})"
        raise Stop(f"the machine could not copy it: {why}", exit_code=FAILED, code="machine_failed")


def _pack(source: Path, name: str, send: Callable[[bytes], None]) -> None:
    with tarfile.open(fileobj=_Writer(send), mode="w|", bufsize=BUFFER_BYTES) as archive:
        archive.add(source, name)


class _Writer(io.RawIOBase):
    """A file whose bytes are sent."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, content: Any) -> int:
        """Send some bytes."""
        self._send(bytes(content))
        return len(content)


async def _unpacked(line: Line, folder: Path) -> None:
    """Unpack what comes. Raises `Stop` where the machine failed, or sent what must not be unpacked."""
    loop = asyncio.get_running_loop()
    reader = _Reader(line, loop)
    try:
        await asyncio.to_thread(_unpack, reader, folder)
        await reader.rest()
    except (tarfile.TarError, OSError) as error:
        if line.exit_code is None:
            await reader.rest()
        _require_done(line, reader.said)
        raise Stop(f"what came cannot be unpacked: {error}", exit_code=FAILED, code="machine_failed") from None
    _require_done(line, reader.said)


def _unpack(reader: "_Reader", folder: Path) -> None:
    with tarfile.open(fileobj=reader, mode="r|", bufsize=BUFFER_BYTES) as archive:
        archive.extractall(folder, filter="data")  # refuses what leads out of the folder, devices, and set-user-id bits


class _Reader(io.RawIOBase):
    """A file whose bytes come from a line; read in a thread."""

    def __init__(self, line: Line, loop: asyncio.AbstractEventLoop) -> None:
        self._pieces: AsyncIterator[tuple[int, bytes]] = line.pieces()
        self._loop = loop
        self._left = b""
        self._is_over = False
        self.said = b""

    def readable(self) -> bool:
        """It is."""
        return True

    def read(self, size: int = -1) -> bytes:
        """So many bytes, fewer at the end."""
        while (size < 0 or len(self._left) < size) and not self._is_over:
            asyncio.run_coroutine_threadsafe(self._more(), self._loop).result()
        found, self._left = (self._left, b"") if size < 0 else (self._left[:size], self._left[size:])
        return found

    async def _more(self) -> None:
        try:
            stream, piece = await anext(self._pieces)
        except StopAsyncIteration:
            self._is_over = True
            return
        if stream == ERR:
            self.said = (self.said + piece)[-4096:]
        else:
            self._left += piece

    async def rest(self) -> None:
        """Read to the end what nobody wants."""
        while not self._is_over:
            self._left = b""
            await self._more()
