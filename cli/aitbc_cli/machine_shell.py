"""A shell on a booked machine, at this terminal or between pipes, and local ports that lead to ports inside."""

import asyncio
import contextlib
import os
import signal
import sys
import termios
import threading
import tty
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from aitbc_cli.exits import Stop, usage
from aitbc_cli.machines import ERR, Line, Lines, copied
from aitbc_cli.terminal import say

READ_BYTES = 1 << 15


async def run(lines: Lines, command: Sequence[str], *, ports: Sequence[tuple[int, int]], has_shell: bool) -> int:
    """A shell or a command with these ports forwarded beside; without a shell the ports alone, until a signal."""
    async with contextlib.AsyncExitStack() as open_until_the_end:
        for local, remote in ports:
            await open_until_the_end.enter_async_context(_forwarded(lines, local, remote))
        if not has_shell:
            await asyncio.Event().wait()
        wanted: dict[str, Any] = {"terminal": _size()} if _is_watched() else {}
        async with lines.open("shell", command=list(command), **wanted) as line:
            return await (_at_terminal(line) if wanted else _between_pipes(line))


def _is_watched() -> bool:
    """Whether both ends of this command are a terminal: then what it runs has one too."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def _size() -> dict[str, int]:
    try:
        columns, rows = os.get_terminal_size(sys.stdout.fileno())
    except OSError:
        columns, rows = 80, 24
    return {"rows": min(max(rows, 1), 4096), "columns": min(max(columns, 1), 4096)}


async def _at_terminal(line: Line) -> int:
    loop = asyncio.get_running_loop()
    resizing: set[asyncio.Task[None]] = set()

    def resize() -> None:
        task = loop.create_task(line.say({"resize": _size()}))
        resizing.add(task)
        task.add_done_callback(resizing.discard)

    loop.add_signal_handler(signal.SIGWINCH, resize)
    try:
        with _raw():
            return await _between_pipes(line)
    finally:
        loop.remove_signal_handler(signal.SIGWINCH)


@contextlib.contextmanager
def _raw() -> Iterator[None]:
    """The terminal hands every key on, and shows nothing by itself."""
    before = termios.tcgetattr(sys.stdin.fileno())
    tty.setraw(sys.stdin.fileno())
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, before)


async def _between_pipes(line: Line) -> int:
    """Carry standard input, output and error; gives the exit code of what ran there."""
    loop = asyncio.get_running_loop()
    threading.Thread(target=_read_input, args=(line, loop), daemon=True).start()
    await copied(line.pieces(), _write)
    return 0 if line.exit_code is None else line.exit_code


def _read_input(line: Line, loop: asyncio.AbstractEventLoop) -> None:
    """In a thread of its own: standard input may wait for ever. Each piece is sent before the next one is read."""
    with contextlib.suppress(Stop, RuntimeError, OSError):
        while piece := os.read(sys.stdin.fileno(), READ_BYTES):
            asyncio.run_coroutine_threadsafe(line.send(piece), loop).result()
        asyncio.run_coroutine_threadsafe(line.say({"eof": True}), loop).result()


def _write(stream: int, piece: bytes) -> None:
    where = sys.stderr if stream == ERR else sys.stdout
    view = memoryview(piece)
    while view:
        view = view[os.write(where.fileno(), view) :]


@contextlib.asynccontextmanager
async def _forwarded(lines: Lines, local: int, remote: int) -> AsyncIterator[None]:
    """Listen on loopback, and carry each connection to the port of the machine. Raises a usage error."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with lines.open("port", port=remote) as line:
                giving = asyncio.create_task(_give(reader, line))
                try:
                    async for _, piece in line.pieces():
                        writer.write(piece)
                        await writer.drain()
                    if writer.can_write_eof():
                        writer.write_eof()
                    await giving
                finally:
                    giving.cancel()
                    await asyncio.gather(giving, return_exceptions=True)
        except Stop as stop:
            say(f"port {remote}: {stop.message}")
        except OSError:
            pass  # who connected here has gone
        finally:
            writer.close()

    try:
        server = await asyncio.start_server(carry, "127.0.0.1", local)
    except OSError as error:
        raise usage(
            f"port {local} of this machine cannot be had: {error.strerror}", hint="--forward 8889:8888"
        ) from None
    async with server:
        say(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]} leads to port {remote} of the machine")
        yield


async def _give(reader: asyncio.StreamReader, line: Line) -> None:
    while piece := await reader.read(READ_BYTES):
        await line.send(piece)
    await line.say({"eof": True})
