"""Listening sockets: bound before the server starts, with clear errors for taken ports and plain HTTP."""

import errno
import fcntl
import ipaddress
import os
import socket
import ssl
import stat
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from msgspec import Struct

from aitbc.kernel.primitives.errors import ConfigError
from aitbc.kernel.primitives.port_owner import process_on_port
from aitbc.server.config.settings import ServerSettings

BACKLOG = 2048
UNIX_PATH_BYTES_MAX = 107


class PortTaken(ConfigError):
    """Somebody else listens there."""

    code = "port_taken"


class PlainHttpRefused(ConfigError):
    """Keys and results would travel in the clear."""

    code = "plain_http_refused"


class Certificate(Struct, frozen=True, kw_only=True):
    """A certificate with its chain and its key, PEM, and the settings that name them."""

    chain: Path
    key: Path
    chain_setting: str = "server.tls_certificate"
    key_setting: str = "server.tls_key"


class Listener(Struct, frozen=True, kw_only=True):
    """One address to listen on: a host and a port, or the path of a Unix socket."""

    name: str
    """Its purpose, as people know it: `gateway`, `gpu`."""
    host: str = "127.0.0.1"
    port: int = 0
    path: Path | None = None
    setting: str = "server.port"
    """The setting by which an operator changes it."""
    certificate: Certificate | None = None
    """Its own, where it is not the server's."""
    is_inner: bool = False
    """Whether it is for other processes of the installation only; the server's settings then do not apply."""

    @property
    def address(self) -> str:
        """The address as people write it."""
        if self.path is not None:
            return str(self.path)
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def gateway(settings: ServerSettings) -> Listener:
    """The listener of the settings' own host and port."""
    return Listener(name="gateway", host=settings.host, port=settings.port)


def bind(listeners: Sequence[Listener], settings: ServerSettings) -> list[socket.socket]:
    """Bind and listen on all of them, or on none. Raises `ConfigError` with the address, the reason and the remedy."""
    sockets: list[socket.socket] = []
    try:
        for listener in listeners:
            sockets.append(_bind_path(listener) if listener.path else _bind_port(listener, settings))  # noqa: PERF401
    except BaseException:
        close(sockets)
        raise
    return sockets


def contexts(listeners: Sequence[Listener], sockets: Sequence[socket.socket]) -> dict[int, ssl.SSLContext | None]:
    """The TLS context of each listener with one of its own, by file descriptor; none for plain HTTP."""
    return {
        bound.fileno(): context_of(listener.certificate) if listener.certificate is not None else None
        for listener, bound in zip(listeners, sockets, strict=True)
        if listener.is_inner or listener.path is not None
    }


def close(sockets: Iterable[socket.socket]) -> None:
    """Close the sockets and take away the files of those that have one."""
    for each in sockets:
        if (path := path_of(each)) is not None:
            path.unlink(missing_ok=True)
        each.close()


def path_of(bound: socket.socket) -> Path | None:
    """The file of a Unix socket that is still open."""
    if bound.family != socket.AF_UNIX or bound.fileno() == -1:
        return None
    return Path(bound.getsockname())


def tls_context(settings: ServerSettings) -> ssl.SSLContext | None:
    """TLS 1.2 and later with the certificate of the settings; none without one. Raises `ConfigError`."""
    if settings.tls_certificate is None:
        return None
    assert settings.tls_key is not None
    return context_of(Certificate(chain=settings.tls_certificate, key=settings.tls_key))


def _require_files(certificate: Certificate) -> None:
    """Raises `ConfigError` for a file that cannot be read, and for a key that others can read."""
    chain, key = certificate.chain, certificate.key
    for name, path in ((certificate.chain_setting, chain), (certificate.key_setting, key)):
        if not path.is_file() or not os.access(path, os.R_OK):
            raise ConfigError(f"{name}: {path} cannot be read; name a PEM file that the server may read")
    if key.stat().st_mode & 0o007:
        raise ConfigError(f"{certificate.key_setting}: others can read {key}; run: chmod 600 {key}")


def context_of(certificate: Certificate) -> ssl.SSLContext:
    """TLS 1.2 and later with this certificate. Raises `ConfigError`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    _require_files(certificate)
    chain, key = certificate.chain, certificate.key
    try:
        # An encrypted key would make OpenSSL ask on the terminal; a server has nobody to answer.
        context.load_cert_chain(chain, key, password=lambda: "")
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(
            f"{certificate.chain_setting}: {chain} and {key} are no pair of certificate and "
            f"key ({getattr(error, 'reason', None) or error}); give a PEM chain and its unencrypted key"
        ) from None
    return context


def _bind_port(listener: Listener, settings: ServerSettings) -> socket.socket:
    family, address = _resolve(listener)
    if not ipaddress.ip_address(address[0].partition("%")[0]).is_loopback:
        _check_plain_http(listener, settings)
    bound = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        bound.setblocking(False)
        bound.bind(address)
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        raise _bind_error(listener, error) from None
    return bound


def _resolve(listener: Listener) -> tuple[int, tuple[str, int]]:
    try:
        family, _, _, _, address = socket.getaddrinfo(
            listener.host, listener.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError):
        raise ConfigError(
            f"server.host: {listener.host} is no address of this machine; give an IP address, 127.0.0.1 for instance"
        ) from None
    return family, address  # type: ignore[return-value]


def _check_plain_http(listener: Listener, settings: ServerSettings) -> None:
    """Raises `PlainHttpRefused` for an address that others reach without TLS, unless that is accepted."""
    if listener.certificate is not None:
        return
    if not listener.is_inner and (settings.tls_certificate is not None or settings.i_accept_plain_http):
        return
    raise PlainHttpRefused(
        f"{listener.address}: others can reach this address, and without TLS they can read keys and results on the way; "
        "set server.tls_certificate and server.tls_key, or listen on 127.0.0.1 behind a proxy with TLS, "
        "or accept it with server.i_accept_plain_http = true"
    )


def _bind_error(listener: Listener, error: OSError) -> ConfigError:
    if error.errno == errno.EADDRINUSE:
        process = process_on_port(listener.port)
        who = f"is taken by {process}" if process else "is taken by another program"
        return PortTaken(
            f"{listener.address}: port {listener.port} {who}; stop it, or choose another with {listener.setting}"
        )
    if error.errno == errno.EACCES:
        return ConfigError(
            f"{listener.address}: ports below 1024 are for root; choose another with {listener.setting}, or give the "
            "program CAP_NET_BIND_SERVICE"
        )
    return ConfigError(f"{listener.address}: cannot listen there: {error.strerror}; give an address of this machine")


def _bind_path(listener: Listener) -> socket.socket:
    """Bind a Unix socket that only its owner may use; a stale file is replaced, a live one is not."""
    path = listener.path
    assert path is not None
    if len(os.fsencode(path)) > UNIX_PATH_BYTES_MAX:
        raise ConfigError(f"{path}: the path of a socket has {UNIX_PATH_BYTES_MAX} bytes at most; choose a shorter one")
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        with _folder_lock(path.parent):  # two that start at one time would each take the other's socket for a stale one
            _remove_stale_socket(listener, path)
            bound.setblocking(False)
            before = os.umask(0o177)
            try:
                bound.bind(str(path))
            finally:
                os.umask(before)
            bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        raise ConfigError(f"{path}: cannot listen there: {error.strerror}; choose another path") from None
    except ConfigError:
        bound.close()
        raise
    return bound


@contextmanager
def _folder_lock(folder: Path) -> Iterator[None]:
    """Lock a folder, so that no other process binds in it meanwhile."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _remove_stale_socket(listener: Listener, path: Path) -> None:
    if not os.path.lexists(path):
        return
    if not stat.S_ISSOCK(path.lstat().st_mode):
        raise ConfigError(f"{path}: there is a file that is no socket; choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        with suppress(ConnectionRefusedError):
            probe.connect(str(path))
            process, _, _ = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            remedy = "choose another path"
            if listener.name.startswith("internal API"):
                remedy = "give this one a state folder of its own (state_dir), with copies of secret.key and node.key"
            raise PortTaken(
                f"{path}: another server (pid {process}) listens on this socket, so this one (pid {os.getpid()}) cannot be the "
                f"{listener.name}; stop one of the two, or {remedy}"
            )
    path.unlink()
