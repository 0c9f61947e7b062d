"""BEGIN and COMMIT that travel with a transaction's first and last statement, without round trips of their own.

asyncpg waits for the answer to each statement before it sends the next. Between it and a Unix socket stands a `Wire`,
which adds messages of the extended protocol to what passes: before a transaction's first message, and before the
`Sync` of its last. The server skips what follows an error, so no COMMIT comes after a statement that failed; asyncpg
passes over the answers to what it did not ask (ADR-0134).
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from aitbc.kernel.database.connect import connect
from aitbc.kernel.database.target import Connection

SYNC = b"S\0\0\0\x04"


def _messages(statement: bytes) -> bytes:
    """Parse, Bind and Execute of a statement without parameters, which no `Sync` ends."""
    parse = b"\0" + statement + b"\0\0\0"
    return b"P" + (len(parse) + 4).to_bytes(4) + parse + b"B\0\0\0\x0c" + bytes(8) + b"E\0\0\0\x09" + bytes(5)


BEGIN, COMMIT = _messages(b"BEGIN"), _messages(b"COMMIT")


class Wire:
    """The transport of a connection, with what is to be added to what asyncpg sends next."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self.begins = self.is_committing = False
        self.commits: bytes | None = None
        """How the Bind of the statement goes on, behind its length, that COMMIT goes with."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: Any) -> None:
        """Send what asyncpg sends, and what goes with it."""
        if not (self.begins or self.commits):
            self._transport.write(data)
            return
        sent = [BEGIN, data] if self.begins else [data]
        if self.commits and data[:1] == b"B" and data[5 : 5 + len(self.commits)] == self.commits and data[-5:] == SYNC:
            sent[-1:] = [data[:-5], COMMIT, SYNC]
            self.commits, self.is_committing = None, True
        self.begins = False
        self._transport.writelines(sent)


async def connect_wired(arguments: Mapping[str, Any]) -> Connection:
    """A new connection with these arguments for asyncpg, over a `Wire` if it goes through a Unix socket."""
    connection = await connect({**arguments, "loop": _WiringLoop()})
    connection._loop = asyncio.get_running_loop()  # type: ignore[attr-defined]  # noqa: SLF001
    return connection


class _WiringLoop:
    """The event loop as asyncpg sees it while it connects: the Unix sockets that it opens get a `Wire`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.call_later = self._loop.call_later

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    async def create_unix_connection(self, factory: Callable[[], Any], path: str) -> tuple[Any, Any]:
        """As the loop's."""
        _, starter = await self._loop.create_unix_connection(lambda: _Starter(factory()), path)
        return starter.wire, starter.protocol


class _Starter(asyncio.Protocol):
    """Hands a new connection over to asyncpg's protocol, with a `Wire` for its transport."""

    def __init__(self, protocol: Any) -> None:
        self.protocol = protocol

    def connection_made(self, transport: Any) -> None:
        self.wire = Wire(transport)
        transport.set_protocol(self.protocol)
        self.protocol.connection_made(self.wire)


class Transaction:
    """A transaction on a raw connection; where that has no `Wire`, each step is a statement."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._wire = _wire_of(connection)
        self._is_committing = False

    @property
    def is_committing(self) -> bool:
        """Whether COMMIT was sent."""
        return self._is_committing or (self._wire is not None and self._wire.is_committing)

    async def begin(self) -> None:
        """Begin, with the next statement where that is possible."""
        if self._wire is None:
            await self._connection.execute("BEGIN")
        else:
            self._wire.begins, self._wire.commits, self._wire.is_committing = True, None, False

    async def commit(self) -> None:
        """Commit, unless its last statement has, or there was none."""
        if self.is_committing or self._has_no_statement():
            return
        self._is_committing = True
        await self._connection.execute("COMMIT")

    async def roll_back(self) -> None:
        """Roll back; a connection that cannot is closed, so that nobody acquires it inside a transaction."""
        if self._has_no_statement():
            return
        try:
            await self._connection.execute("ROLLBACK")
        except Exception:  # noqa: BLE001
            self._connection.terminate()

    def _has_no_statement(self) -> bool:
        """Whether nothing was sent, not even BEGIN; what was to go with a statement is forgotten."""
        if self._wire is None:
            return False
        was_due, self._wire.begins, self._wire.commits = self._wire.begins, False, None
        return was_due


def commit_with(connection: Connection, sql: str) -> None:
    """Commit the open transaction of a connection with this statement, which comes next, where that is possible.

    It must be prepared already: before it prepares one, asyncpg may ask for what it does not know of its types.
    """
    wire = _wire_of(connection)
    if wire is not None:
        key = (sql, connection._protocol.get_record_class(), False)  # type: ignore[attr-defined]  # noqa: SLF001
        prepared = connection._stmt_cache.get(key, promote=False)  # type: ignore[attr-defined]  # noqa: SLF001
        wire.commits = None if prepared is None else b"\0" + prepared.name.encode() + b"\0"


def _wire_of(connection: Connection) -> Wire | None:
    wire = connection._transport  # type: ignore[attr-defined]  # noqa: SLF001
    return wire if isinstance(wire, Wire) else None
