"""The hosts of peers: where processes on other machines are found, and where this one listens for them."""

import ssl
from pathlib import Path
from urllib.parse import urlsplit

from msgspec import Struct

from aitbc.kernel.primitives.errors import ConfigError
from aitbc.server.config.listeners import Certificate, Listener
from aitbc.server.config.settings import GatewaySettings, ModuleSettings

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class PeerHost(Struct, frozen=True, kw_only=True):
    """Another process of the installation: at a Unix socket of this machine, or at a URL on another."""

    process: str
    """`main`, or the split module that it serves."""
    socket: Path | None = None
    url: str | None = None
    """Its base URL, or that of a load balancer, without a slash at the end; where there is no socket."""
    ca: Path | None = None
    """The CA file for its certificate; none for those that the system trusts."""

    def tls_context(self) -> ssl.SSLContext | None:
        """The TLS context of a client; none without TLS. Raises `ConfigError`."""
        if self.url is None or self.url.startswith("http://"):
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except (ssl.SSLError, OSError) as error:
            table = "gateway" if self.process == "main" else f"modules.{self.process}"
            raise ConfigError(
                f"{table}.ca: {self.ca} cannot be used ({getattr(error, 'reason', None) or error}); "
                "name a PEM file of certificates that this process may read"
            ) from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context


def peer_host(table: str, process: str, where: GatewaySettings | ModuleSettings) -> PeerHost:
    """The host that a table of settings names. Raises `ConfigError` for plain http to another machine."""
    assert where.url is not None
    try:
        parts = urlsplit(where.url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host:
        raise ConfigError(f'{table}.url: this is no URL; write for instance: url = "https://gpu.internal:8443"')
    if parts.scheme == "http" and host not in LOOPBACK:
        raise ConfigError(
            f"{table}.url: keys and results would travel to {host} in the clear; write https://, and name with "
            f"{table}.ca the certificate that vouches for it where the system does not know it"
        )
    return PeerHost(process=process, url=where.url.rstrip("/"), ca=where.ca)


def internal_listener_of(table: str, process: str, where: GatewaySettings | ModuleSettings) -> Listener:
    """The listener for processes on other machines. Raises `ConfigError` for settings missing or not safe."""
    if where.inner is None:
        raise ConfigError(
            f"{table}.inner: it must be set, since the others find this process at {where.url}; "
            'write for instance: inner = "0.0.0.0:8443"'
        )
    host, _, port = where.inner.rpartition(":")
    host = host.strip("[]")
    if not 0 < int(port) < 65536:
        raise ConfigError(f"{table}.inner: {port} is no port; choose one from 1 to 65535")
    certificate = _internal_certificate(table, where)
    if certificate is None and host not in LOOPBACK:
        raise ConfigError(
            f"{table}.inner: others can reach {where.inner}, and the internal API is never served without TLS; set "
            f"{table}.inner_certificate and {table}.inner_key, or listen on 127.0.0.1 behind a proxy with TLS"
        )
    return Listener(
        name=f"internal API of {process}",
        host=host,
        port=int(port),
        setting=f"{table}.inner",
        certificate=certificate,
        is_inner=True,
    )


def _internal_certificate(table: str, where: GatewaySettings | ModuleSettings) -> Certificate | None:
    if where.inner_certificate is None and where.inner_key is None:
        return None
    if where.inner_certificate is None or where.inner_key is None:
        missing = "inner_key" if where.inner_key is None else "inner_certificate"
        raise ConfigError(f"{table}.{missing}: it is missing beside the other one; set both")
    return Certificate(
        chain=where.inner_certificate,
        key=where.inner_key,
        chain_setting=f"{table}.inner_certificate",
        key_setting=f"{table}.inner_key",
    )
