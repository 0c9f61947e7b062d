"""One statement over PostgreSQL's protocol, without a driver and an event loop: how the supervisor finds the server ready."""

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


class Refused(Exception):
    """The server answered with an error; `state` is its five-letter SQLSTATE."""

    def __init__(self, state: str, message: str) -> None:
        super().__init__(f"{message} ({state})")
        self.state = state


def query(address: Address, database: str, statement: str) -> None:
    """Open a session, run one statement, leave: the little of the protocol that needs no driver and no event loop."""
    words = ["user", address.user, "database", database, "application_name", "aitbc supervisor"]
    startup = struct.pack("!I", 3 << 16) + b"".join(word.encode() + b"\0" for word in words) + b"\0"
    with socket.socket(socket.AF_UNIX) as door:
        door.settimeout(QUERY_SECONDS)
        door.connect(f"{address.host}/.s.PGSQL.{address.port}")
        with door.makefile("rb") as answers:
            door.sendall(struct.pack("!I", len(startup) + 4) + startup)
            _read_until_ready(answers)
            text = statement.encode() + b"\0"
            door.sendall(b"Q" + struct.pack("!I", len(text) + 4) + text)
            _read_until_ready(answers)
            door.sendall(b"X\0\0\0\4")


def _read_until_ready(answers: BinaryIO) -> None:
    while (kind := _exactly(answers, 1)) != b"Z":
        (length,) = struct.unpack("!I", _exactly(answers, 4))
        body = _exactly(answers, length - 4)
        if kind == b"E":
            fields = {field[:1]: field[1:].decode("utf-8", "replace") for field in body.split(b"\0") if field}
            raise Refused(fields.get(b"C", "?????"), fields.get(b"M", "no message"))
    _exactly(answers, 5)


def _exactly(answers: BinaryIO, count: int) -> bytes:
    got = answers.read(count)
    if len(got) != count:
        raise ConnectionResetError(errno.ECONNRESET, "PostgreSQL closed the connection")
    return got
