"""The user at the other end of a loopback connection, as the kernel's table of TCP sockets has it."""

import sys
from ipaddress import ip_address
from pathlib import Path
from typing import Any

PEER_UID = "aitbc.peer_uid"
"""The scope's key of the `PeerUid` of its connection."""
TABLES = Path("/proc/self/net")
_ESTABLISHED = "01"


class PeerUid:
    """The user who opened the other end of a connection, looked up at the first call and then remembered."""

    __slots__ = ("_client", "_found", "_server", "_uid")

    def __init__(self, client: Any, server: Any) -> None:
        self._client = client
        self._server = server
        self._found = False
        self._uid: int | None = None

    def __call__(self) -> int | None:
        """The user id; none where it cannot be found."""
        if not self._found:
            self._found, self._uid = True, uid_of(self._client, self._server)
        return self._uid


def peer_uid_of(scope: Any) -> int | None:
    """The user at the other end of the connection of this request; a WebSocket is looked up by itself."""
    known = scope.get(PEER_UID)
    uid: int | None = (known or PeerUid(scope.get("client"), scope.get("server")))()
    return uid


def uid_of(client: Any, server: Any) -> int | None:
    """The user who owns the socket that is bound to `client` and connected to `server`: `(address, port)` each."""
    try:
        addresses = ip_address(client[0]), ip_address(server[0])
        pair = [
            f"{_table_form(address.packed)}:{end[1]:04X}"
            for address, end in zip(addresses, (client, server), strict=True)
        ]
        name = "tcp" if addresses[0].version == 4 else "tcp6"
        with (TABLES / name).open(encoding="ascii") as table:
            for line in table:
                fields = line.split()
                # A socket that its program has closed has no inode, and is shown as root's
                if fields[1:3] == pair and fields[3] == _ESTABLISHED and fields[9] != "0":
                    return int(fields[7])
    except (OSError, ValueError, IndexError, TypeError):
        return None
    return None


def _table_form(packed: bytes) -> str:
    """An address as the table shows it: words of 32 bits, each a number of this machine's byte order."""
    words = (packed[at : at + 4] for at in range(0, len(packed), 4))
    return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words)
