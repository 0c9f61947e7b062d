"""Connection targets: a database, the user to connect as, and how TLS protects the connection."""

import os
import ssl
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg
from msgspec import Struct

from aitbc.kernel.primitives.errors import ConfigError

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

CLOSE_SECONDS = 2.0
CONNECT_SECONDS = 5.0
"""How long the server may take to answer a new connection."""
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
"""libpq's words, from the weakest to the strictest."""
CHECKED_MODES = SSL_MODES[3:]
"""The modes that never fall back to a plain connection."""
SYSTEM = "system"
"""As `sslrootcert`: the certificates that the system trusts."""


class BoundedCloseConnection(asyncpg.Connection):
    """A connection whose `close` does not wait long for a server that no longer answers."""

    async def close(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 - the signature of what it replaces
        """Close gracefully, within `CLOSE_SECONDS` at most."""
        await super().close(timeout=CLOSE_SECONDS if timeout is None else min(timeout, CLOSE_SECONDS))


class PooledConnection(BoundedCloseConnection):
    """A connection through a pooler."""


class Target(Struct, frozen=True):
    """A database and the user to connect as."""

    host: str
    """A name, an address, or the folder of a Unix socket."""
    port: int
    user: str
    database: str
    password: str | None = None
    sslmode: str = "disable"
    """One of `SSL_MODES`; means nothing on a Unix socket."""
    sslrootcert: str | None = None
    sslcert: str | None = None
    sslkey: str | None = None
    sslcrl: str | None = None
    target_session_attrs: str = "any"
    pooled: bool = False
    """Whether a pooler stands before it, to which settings are not said at startup."""

    def connect_arguments(self, *, application: str, statement_seconds: float) -> dict[str, Any]:
        """The arguments for asyncpg: UTC, and timeouts for every statement and every lock."""
        return {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "password": self.password,
            "database": self.database,
            "ssl": self.tls_context() or self.sslmode,
            "target_session_attrs": self.target_session_attrs,
            "timeout": CONNECT_SECONDS,
            "connection_class": PooledConnection if self.pooled else BoundedCloseConnection,
            "command_timeout": statement_seconds + 5.0,
            "server_settings": {
                "application_name": application,
                "timezone": "UTC",
                "statement_timeout": str(int(statement_seconds * 1000)),
                "lock_timeout": str(int(statement_seconds * 1000)),
                "idle_in_transaction_session_timeout": str(int(statement_seconds * 6000)),
            },
        }

    def tls_context(self) -> ssl.SSLContext | None:
        """The TLS of a mode that insists on it; none for the others, which asyncpg does by their name.

        Raises `ConfigError` for a file that cannot be used.
        """
        if self.sslmode not in CHECKED_MODES or self.host.startswith("/"):
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = self.sslmode == "verify-full"
        roots = self.roots()
        if roots is None:
            context.verify_mode = ssl.CERT_NONE
        elif roots == SYSTEM:
            context.load_default_certs()
        else:
            _load("sslrootcert", lambda: context.load_verify_locations(cafile=roots))
        if self.sslcrl is not None:
            _load("sslcrl", lambda: context.load_verify_locations(cafile=self.sslcrl))
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
        if (certificate := self.sslcert) is not None:
            _load("sslcert or sslkey", lambda: context.load_cert_chain(certificate, self.sslkey, password=""))
        return context

    def roots(self) -> str | None:
        """The file of the certificates that may vouch for the server, or `SYSTEM`; none where nothing is verified.

        As in libpq a file in the home folder counts too, and makes `require` verify. `verify-full` without any file
        trusts what the system trusts.
        """
        if self.sslrootcert is not None:
            return self.sslrootcert
        own = Path(os.environ.get("HOME") or "/") / ".postgresql" / "root.crt"
        if os.access(own, os.R_OK):
            return str(own)
        return SYSTEM if self.sslmode == "verify-full" else None

    def environment(self) -> dict[str, str]:
        """The variables by which PostgreSQL's own programs connect with the same password and the same TLS."""
        roots = self.roots() if self.sslmode in CHECKED_MODES else None
        variables = {
            "PGPASSWORD": self.password,
            "PGSSLMODE": self.sslmode,
            "PGSSLROOTCERT": roots,
            "PGSSLCERT": self.sslcert,
            "PGSSLKEY": self.sslkey,
            "PGSSLCRL": self.sslcrl,
            "PGTARGETSESSIONATTRS": self.target_session_attrs,
        }
        return {name: value for name, value in variables.items() if value is not None}


def _load(parameter: str, load: Any) -> None:
    try:
        load()
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is not PEM"
        if isinstance(error, ssl.SSLError):
            reason = "it holds no PEM that fits"
        raise ConfigError(f"database.url: {parameter}: the file cannot be used: {reason}; name another") from None
