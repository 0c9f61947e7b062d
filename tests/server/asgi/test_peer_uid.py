"""The user at the other end of a loopback connection: the table of the kernel, and a caller of another user."""

import os
import socket

import pytest

from aitbc.server.asgi.peer_uid import peer_uid_of, uid_of
from aitbc.server.cluster.gateway import _is_local_program

ANOTHER = 33
"""www-data of Debian."""


def listening(family: socket.AddressFamily, host: str) -> socket.socket:
    """A listener on loopback; skips where the machine has no such addresses."""
    listener = socket.socket(family)
    listener.settimeout(30)
    try:
        listener.bind((host, 0))
    except OSError:
        pytest.skip(f"this machine has no {host}")
    listener.listen()
    return listener


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_the_user_is_found_while_the_connection_is_open_and_nobody_after(
    family: socket.AddressFamily, host: str
) -> None:
    with listening(family, host) as listener:
        ours = socket.socket(family)
        ours.connect(listener.getsockname())
        accepted, peer = listener.accept()
        with accepted:
            assert uid_of(peer, listener.getsockname()) == os.geteuid()
            ours.close()  # the kernel shows such a socket as root's
            assert uid_of(peer, listener.getsockname()) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a program of another user")
def test_a_program_of_another_user_is_trusted_only_where_the_setting_names_it() -> None:
    with listening(socket.AF_INET, "127.0.0.1") as listener:
        child = os.fork()
        if child == 0:
            try:
                os.setuid(ANOTHER)
                theirs = socket.socket()
                theirs.connect(listener.getsockname())
                theirs.recv(1)
            finally:
                os._exit(0)
        accepted, peer = listener.accept()
        with accepted:
            scope = {"client": peer, "server": listener.getsockname(), "headers": [(b"host", b"127.0.0.1")]}
            assert peer_uid_of(scope) == ANOTHER
            assert not _is_local_program(scope, frozenset({os.geteuid()}))
            assert _is_local_program(scope, frozenset({os.geteuid(), ANOTHER}))
        os.waitpid(child, 0)


@pytest.mark.parametrize("client", [None, ("10.0.0.1", 5), ("nowhere", 5), ("127.0.0.1", 1)])
def test_who_cannot_be_found_is_nobody(client: tuple[str, int] | None) -> None:
    assert uid_of(client, ("127.0.0.1", 2)) is None


@pytest.mark.parametrize(
    "name",
    [
        "Forwarded",
        "Via",
        "X-Real-IP",
        "X-Forwarded-Proto",
        "X-Forwarded-For",
        "CF-Ray",
        "CF-Connecting-IP",
        "True-Client-IP",
    ],
)
def test_a_mark_of_a_proxy_is_enough_to_be_refused(name: str) -> None:
    with listening(socket.AF_INET, "127.0.0.1") as listener, socket.create_connection(listener.getsockname()):
        accepted, peer = listener.accept()
        with accepted:
            headers = [(b"host", b"127.0.0.1")]
            scope = {"client": peer, "server": listener.getsockname(), "headers": headers}
            assert _is_local_program(scope, frozenset({os.geteuid()}))
            headers.append((name.lower().encode(), b""))
            assert not _is_local_program(scope, frozenset({os.geteuid()}))
