"""Stands between the platform and its database, and cuts the connection while a transaction commits."""

import asyncio
import struct
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from msgspec.structs import replace

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives.tasks import cancel_and_wait

COMMITS = (b"Q\0\0\0\x0bCOMMIT\0", b"Q\0\0\0\x0cCOMMIT;\0", b"\0COMMIT\0\0\0")
"""A statement of its own, as our two ways to the data write it, and what goes with the last statement."""
READY = b"Z\0\0\0\5"


class CuttingProxy:
    """Forwards everything until it is told to cut a COMMIT of a role."""

    def __init__(self, target: Target) -> None:
        self._socket = f"{target.host}/.s.PGSQL.{target.port}"
        self._armed: tuple[str, bool] | None = None
        self.cuts = 0

    def cut_next(self, role: str, *, arrives: bool) -> None:
        """Cut the next COMMIT of this role: before it reaches the database, or once it was done there and nobody told."""
        self._armed = (role, arrives)

    def disarm(self) -> None:
        """Cut nothing any more."""
        self._armed = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of the platform's."""
        upstream, downstream = await asyncio.open_unix_connection(self._socket)
        answers = asyncio.create_task(_pass_on(upstream, writer))
        try:
            head = await reader.readexactly(4)
            start = await reader.readexactly(struct.unpack("!i", head)[0] - 4)
            words = start[4:].split(b"\x00")
            role = words[words.index(b"user") + 1].decode() if b"user" in words else "nobody: it cancels a statement"
            downstream.write(head + start)
            while data := await reader.read(65_536):
                if any(commit in data for commit in COMMITS) and self._armed is not None and self._armed[0] == role:
                    arrives, self._armed = self._armed[1], None
                    self.cuts += 1
                    await cancel_and_wait([answers])
                    if arrives:
                        downstream.write(data)
                        await _done(upstream)
                    return
                downstream.write(data)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            answers.cancel()
            for one in (writer, downstream):
                one.close()


async def _done(reader: asyncio.StreamReader) -> None:
    """Until the database is ready for the next statement."""
    told = b""
    while READY not in told and (data := await reader.read(65_536)):
        told += data


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()


@asynccontextmanager
async def cutting(target: Target, *, by_tcp: bool) -> AsyncIterator[tuple[CuttingProxy, Target]]:
    """The proxy before a database, and the way through it: a Unix socket, where COMMIT goes with a statement, or TCP."""
    proxy = CuttingProxy(target)
    with tempfile.TemporaryDirectory(prefix="cut") as folder:
        if by_tcp:
            server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
            way = replace(target, host="127.0.0.1", port=server.sockets[0].getsockname()[1])
        else:
            server = await asyncio.start_unix_server(proxy.serve, Path(folder, f".s.PGSQL.{target.port}"))
            way = replace(target, host=folder)
        async with server:
            yield proxy, way
