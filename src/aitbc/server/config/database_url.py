"""Parser of database URLs: libpq's form and words, refused where they cannot be kept, and never printed."""

import re
from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import unquote

from aitbc.kernel.database.target import CHECKED_MODES, SSL_MODES, SYSTEM, Target
from aitbc.kernel.primitives.errors import ConfigError

FORM = "postgresql://user:password@host:5432/database"
FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
PARAMETERS = ("host", "port", "user", "password", "dbname", "sslmode", *FILES, "target_session_attrs")
"""The parameters that are honoured; any other is refused."""
UNREAD = re.compile(
    "application_name|channel_binding|client_encoding|connect_timeout|gssencmode|hostaddr|load_balance_hosts|options|passfile|"
    "pgbouncer|replication|require_auth|requirepeer|schema|service|ssl|ssl_(max|min)_protocol_version|sslcertmode|"
    "sslcompression|sslcrldir|sslnegotiation|sslpassword|sslsni|tcp_user_timeout|keepalives(_[a-z]+)?"
)
"""Parameters of libpq and of other drivers, to be named when refused; anything else may be a piece of a password."""
SESSION_ATTRIBUTES = ("any", "primary", "read-write")
ENCODE = (
    "in a user's name or password write reserved letters percent-encoded: @ as %40, / as %2F, : as %3A, ? as %3F, # as "
    "%23, % as %25"
)


def target_of(url: str) -> Target:
    """Parse `postgresql://user:password@host:port/database?sslmode=…`.

    Raises `ConfigError`, never with a value of it.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.partition("+")[0] not in ("postgresql", "postgres"):
        raise _refused(f"it must read {FORM}")
    found = _authority_and_path(rest)
    found |= _parameters(rest.partition("?")[2] if "?" in found.pop("tail") else "")
    if not found.get("dbname"):
        raise _refused(f"it names no database; it must read {FORM}")
    host = found.get("host") or "localhost"
    if "," in host or "," in found.get("port", ""):
        raise _refused(
            "it names more than one host; name one that always leads to the primary: a floating address, a DNS name, or "
            "a proxy such as HAProxy"
        )
    target = Target(
        host=host,
        port=_port(found.get("port") or "5432"),
        user=found.get("user") or "postgres",
        database=found["dbname"],
        password=found.get("password") or None,
        sslmode=_mode(found, host),
        target_session_attrs=_one_of("target_session_attrs", found, SESSION_ATTRIBUTES) or "any",
        sslrootcert=found.get("sslrootcert") or None,
        sslcert=found.get("sslcert") or None,
        sslkey=found.get("sslkey") or None,
        sslcrl=found.get("sslcrl") or None,
    )
    _check_files(target)
    target.tls_context()  # a file that cannot be used is refused here
    return target


def _refused(problem: str) -> ConfigError:
    return ConfigError(f"database.url: {problem}")


def _authority_and_path(rest: str) -> dict[str, str]:
    """User, password, host, port and database before the parameters, and the `tail` that holds the parameters.

    As in libpq, what stands before the first `@` is user and password, and a `/` ends it.
    """
    found: dict[str, str] = {}
    before, at, after = rest.partition("@")
    if at and "/" not in before:
        user, colon, password = before.partition(":")
        found["user"] = _decoded("user", user)
        if colon:
            found["password"] = _decoded("password", password)
    else:
        after = rest
    place, question, query = after.partition("?")
    address, _, database = place.partition("/")
    if "@" in after:
        raise _refused(ENCODE)
    match = re.fullmatch(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::([^:]*))?", address)
    if match is None and "," not in address:
        raise _refused(f"its host and port cannot be read; an IPv6 address stands in brackets; {ENCODE}")
    if match is not None:
        found["host"], found["port"] = _decoded("host", match[1].strip("[]")), match[2] or ""
    else:
        found["host"] = address
    found["dbname"] = _decoded("database", database)
    found["tail"] = question + query
    return found


def _parameters(query: str) -> dict[str, str]:
    """The parameters, decoded. Raises `ConfigError` for one that is unknown, twice there, or has no value."""
    found: dict[str, str] = {}
    for pair in query.split("&") if query else []:
        name, equals, raw = pair.partition("=")
        if (name, raw) == ("ssl", "true"):  # JDBC's word, which libpq takes too
            name, raw = "sslmode", "require"
        if name not in PARAMETERS:
            shown = name if UNREAD.fullmatch(name) else "what stands behind the ?"
            raise _refused(f"{shown} is not a parameter that is read here; those are {', '.join(PARAMETERS)}")
        if name in found or not equals:
            raise _refused(f"{name} must stand there once, with a value")
        found[name] = _decoded(name, raw)
    return found


def _decoded(name: str, raw: str) -> str:
    """Percent-decoded text."""
    if re.search(r"%(?![0-9a-fA-F]{2})", raw):
        raise _refused(f"{name}: a % stands before two hexadecimal digits; {ENCODE}")
    try:
        decoded = unquote(raw, errors="strict")
    except UnicodeDecodeError:
        raise _refused(f"{name}: what is percent-encoded there is not UTF-8") from None
    if "\0" in decoded:
        raise _refused(f"{name}: %00 cannot stand there")
    return decoded


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 5 and 0 < int(text) < 65536):
        raise _refused(f"its port is no number from 1 to 65535; {ENCODE}")
    return int(text)


def _mode(found: Mapping[str, str], host: str) -> str:
    """The mode that is written; else `prefer` on this machine, and `verify-full` to any other."""
    named = _one_of("sslmode", found, SSL_MODES)
    if named is not None:
        return named
    if found.get("sslrootcert") or not _is_local(host):
        return "verify-full"
    return "prefer"


def _one_of(name: str, found: Mapping[str, str], words: tuple[str, ...]) -> str | None:
    if name not in found:
        return None
    if found[name] not in words:
        raise _refused(f"{name} must be one of {', '.join(words)}")
    return found[name]


def _is_local(host: str) -> bool:
    if host.startswith("/") or host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _check_files(target: Target) -> None:
    """Refuse certificates that the mode would leave unused, and modes that lack theirs."""
    mode = target.sslmode
    unused = [name for name in FILES if getattr(target, name) is not None]
    if unused and mode not in CHECKED_MODES:
        raise _refused(f"{unused[0]} protects nothing with sslmode={mode}; write one of {', '.join(CHECKED_MODES)}")
    if target.sslkey is not None and target.sslcert is None:
        raise _refused("sslkey is there without sslcert; set both")
    if target.sslrootcert == SYSTEM and mode != "verify-full":
        raise _refused("sslrootcert=system needs sslmode=verify-full, for anybody can get a certificate of those")
    if mode == "verify-ca" and target.roots() is None:
        raise _refused(
            "sslmode=verify-ca needs sslrootcert: the file of the certificates that may vouch for the server"
        )
    if target.sslcrl is not None and target.roots() is None:
        raise _refused("sslcrl needs sslrootcert: the file of the certificates that may vouch for the server")
