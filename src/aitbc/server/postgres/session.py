"""A minimal client of PostgreSQL's wire protocol: one statement, without driver and event loop, for the supervisor."""

import errno
import socket
import struct
from dataclasses import dataclass
from typing import BinaryIO

QUERY_SECONDS = 60.0


@dataclass(frozen=True)
class Address:
    """Where the running server is reached: `host` is the folder of its Unix socket."""

    host: str
    port: int
    user: str
    database: str


class QueryFailed(Exception):
    """The server answered with an error; `state` is its five-letter SQLSTATE."""

    def __init__(self, state: str, message: str) -> None:
        super().__init__(f"{message} ({state})")
        self.state = state


def query(address: Address, database: str, statement: str) -> None:
    """Open a session, run one statement with the simple query protocol, and terminate."""
    words = ["user", address.user, "database", database, "application_name", "aitbc supervisor"]
    startup = struct.pack("!I", 3 << 16) + b"".join(word.encode() + b"\0" for word in words) + b"\0"
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(QUERY_SECONDS)
        connection.connect(f"{address.host}/.s.PGSQL.{address.port}")
        with connection.makefile("rb") as stream:
            connection.sendall(struct.pack("!I", len(startup) + 4) + startup)
            _read_until_ready(stream)
            text = statement.encode() + b"\0"
            connection.sendall(b"Q" + struct.pack("!I", len(text) + 4) + text)
            _read_until_ready(stream)
            connection.sendall(b"X\0\0\0\4")


def _read_until_ready(stream: BinaryIO) -> None:
    while (kind := _read_exactly(stream, 1)) != b"Z":
        (length,) = struct.unpack("!I", _read_exactly(stream, 4))
        body = _read_exactly(stream, length - 4)
        if kind == b"E":
            fields = {field[:1]: field[1:].decode("utf-8", "replace") for field in body.split(b"\0") if field}
            raise QueryFailed(fields.get(b"C", "?????"), fields.get(b"M", "no message"))
    _read_exactly(stream, 5)


def _read_exactly(stream: BinaryIO, count: int) -> bytes:
    data = stream.read(count)
    if len(data) != count:
        raise ConnectionResetError(errno.ECONNRESET, "PostgreSQL closed the connection")
    return data
