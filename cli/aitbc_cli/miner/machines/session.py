"""One connection to a machine, on the miner's side: a program with its streams, or a port, at the end of a WebSocket.

Messages of bytes are what a program or a port reads, and what it writes, behind a byte that says which stream it is.
Messages of text are JSON: `{"eof": true}`, `{"resize": {"rows": 24, "columns": 80}}`, `{"exit": 0}`,
`{"error": "why"}`.
"""

import asyncio
import fcntl
import json
import os
import signal
import struct
import termios
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import aiohttp

from aitbc.kernel.primitives.tasks import cancel_and_wait, end_process
from aitbc_cli.miner.containers.runtime import environment
from aitbc_cli.miner.executors import process_tree
from aitbc_cli.miner.machines import inside
from aitbc_cli.miner.machines.machine import WORK, Machine, MachineFailed

PIECE_BYTES = 1 << 15
OUT, ERR = b"\x01", b"\x02"
END_SECONDS = 5.0
LOGIN = ("/bin/sh", "-c", "if command -v bash >/dev/null 2>&1; then exec bash -l; else exec sh -l; fi")
_PACKED = ("-cf", "-", "-C")
Socket = aiohttp.ClientWebSocketResponse


async def serve(socket: "Socket[bool]", session: str, wanted: Mapping[str, Any], machine: Machine) -> None:
    """Serve one connection to its end. Raises `MachineFailed` for what the other side is to be told."""
    if wanted["purpose"] == "port":
        await _serve_port(socket, int(wanted["port"]), machine)
        return
    program = _Program(socket, machine, session)
    try:
        await program.start(_words(wanted, session, machine), wanted.get("terminal"))
        await program.serve()
    finally:
        await program.end()


def _words(wanted: Mapping[str, Any], session: str, machine: Machine) -> list[str]:
    """What the runtime is called with."""
    if wanted["purpose"] == "shell":
        given = ["--workdir", WORK, "--env", f"AITBC_SESSION={session}"]
        if wanted.get("terminal"):
            given = ["-t", *given, "--env", "TERM=xterm-256color"]
        return ["exec", "-i", *given, machine.name, *(wanted["command"] or LOGIN)]
    path = str(wanted["path"])
    path = path if path.startswith("/") else f"{WORK}/{path}"
    folder, _, name = path.rstrip("/").rpartition("/")
    within = ["exec", "-i", "--env", f"AITBC_SESSION={session}", machine.name, "tar"]
    # By the image's own tar, as the machine's own user: nothing of a stranger's paths is looked at from outside.
    return (
        [*within, "-xf", "-", "-C", path]
        if wanted["purpose"] == "put"
        else [*within, *_PACKED, folder or "/", f"./{name}"]
    )


class _Program:
    """A call of the runtime whose streams are carried over a WebSocket."""

    def __init__(self, socket: "Socket[bool]", machine: Machine, session: str) -> None:
        self._socket = socket
        self._machine = machine
        self._session = session
        self._process: asyncio.subprocess.Process | None = None
        self._master = -1
        self._input: asyncio.StreamWriter | None = None
        self._outputs: list[tuple[bytes, asyncio.StreamReader]] = []

    async def start(self, words: Sequence[str], terminal: Mapping[str, Any] | None) -> None:
        """Start it, on a terminal of its own if one is wanted."""
        assert self._machine.given is not None
        called = (*self._machine.given.runtime.words, *words)
        how: dict[str, Any] = {"env": environment(), "cwd": self._machine.folder, "start_new_session": True}
        if terminal is None:
            pipe = asyncio.subprocess.PIPE
            self._process = await asyncio.create_subprocess_exec(*called, stdin=pipe, stdout=pipe, stderr=pipe, **how)
            assert self._process.stdout and self._process.stderr
            self._input = self._process.stdin
            self._outputs = [(OUT, self._process.stdout), (ERR, self._process.stderr)]
            return
        self._master, slave = os.openpty()
        try:
            self._resize(terminal)
            self._process = await asyncio.create_subprocess_exec(
                *called, stdin=slave, stdout=slave, stderr=slave, **how
            )
        finally:
            os.close(slave)
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=PIECE_BYTES)
        await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(os.dup(self._master), "rb", 0)
        )
        transport, protocol = await loop.connect_write_pipe(
            asyncio.streams.FlowControlMixin,
            os.fdopen(os.dup(self._master), "wb", 0),
        )
        self._input = asyncio.StreamWriter(transport, protocol, None, loop)
        self._outputs = [(OUT, reader)]

    async def serve(self) -> None:
        """Carry its streams until it has ended and all that it wrote is sent, or the other side has gone."""
        assert self._process is not None
        taking = asyncio.create_task(self._take())
        giving = asyncio.create_task(self._give())
        try:
            await asyncio.wait({taking, giving}, return_when=asyncio.FIRST_COMPLETED)
            if giving.done():
                giving.result()
                await self._socket.send_str(json.dumps({"exit": await self._process.wait()}))
        finally:
            await cancel_and_wait([taking, giving])

    async def _give(self) -> None:
        await asyncio.gather(*(self._give_stream(mark, reader) for mark, reader in self._outputs))

    async def _give_stream(self, mark: bytes, reader: asyncio.StreamReader) -> None:
        while True:
            try:
                piece = await reader.read(PIECE_BYTES)
            except OSError:  # a terminal ends so
                return
            if not piece:
                return
            await self._socket.send_bytes(mark + piece)

    async def _take(self) -> None:
        """What the other side sends, until it has gone."""
        assert self._input is not None
        while (message := await _received(self._socket)) is not None:
            if isinstance(message, bytes):
                with suppress(OSError):  # it reads no more
                    self._input.write(message)
                    await self._input.drain()
            elif message.get("eof") and self._master < 0:
                self._input.close()
            elif isinstance(message.get("resize"), dict):
                self._resize(message["resize"])

    def _resize(self, size: Mapping[str, Any]) -> None:
        """Give its terminal another size, and tell it."""
        with suppress(OSError, struct.error, TypeError, ValueError):
            packed = struct.pack("HHHH", int(size.get("rows", 24)), int(size.get("columns", 80)), 0, 0)
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, packed)
            if self._process is not None:
                self._process.send_signal(signal.SIGWINCH)

    async def end(self) -> None:
        """End the call, and what it runs in the machine."""
        if self._input is not None:
            self._input.close()
        if self._master >= 0:
            os.close(self._master)
        if self._process is None:
            return
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()
            await asyncio.to_thread(process_tree.kill_marked, f"AITBC_SESSION={self._session}")
        await end_process(self._process)


async def _serve_port(socket: "Socket[bool]", port: int, machine: Machine) -> None:
    """Carry one connection to a port of the machine. Raises `MachineFailed`."""
    try:
        reached = await inside.connect(machine.pid, port)
    except inside.NotReached as error:
        raise MachineFailed(str(error)) from None
    reader, writer = await asyncio.open_connection(sock=reached)
    said_all = asyncio.Event()
    taking = asyncio.create_task(_to_port(socket, writer, said_all))
    giving = asyncio.create_task(_from_port(reader, socket))
    silent = asyncio.create_task(said_all.wait())
    try:
        await asyncio.wait({taking, giving}, return_when=asyncio.FIRST_COMPLETED)
        if giving.done() and not giving.exception():
            await asyncio.wait({taking, silent}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await cancel_and_wait([taking, giving, silent])
        writer.close()


async def _from_port(reader: asyncio.StreamReader, socket: "Socket[bool]") -> None:
    with suppress(ConnectionError):  # the program there closed it in haste
        while piece := await reader.read(PIECE_BYTES):
            await socket.send_bytes(OUT + piece)
    await socket.send_str('{"eof": true}')


async def _to_port(socket: "Socket[bool]", writer: asyncio.StreamWriter, said_all: asyncio.Event) -> None:
    """Carry what the other side sends, until it has gone."""
    while (message := await _received(socket)) is not None:
        with suppress(OSError):  # what the program does not read any more
            if isinstance(message, bytes):
                writer.write(message)
                await writer.drain()
            elif message.get("eof"):
                said_all.set()
                writer.write_eof()


async def _received(socket: "Socket[bool]") -> bytes | dict[str, Any] | None:
    """The next message; none when the other side has gone. What makes no sense is passed over."""
    while True:
        message = await socket.receive()
        if message.type is aiohttp.WSMsgType.BINARY:
            return bytes(message.data)
        if message.type is not aiohttp.WSMsgType.TEXT:
            return None
        with suppress(ValueError, RecursionError):
            told = json.loads(message.data)
            if isinstance(told, dict):
                return told
