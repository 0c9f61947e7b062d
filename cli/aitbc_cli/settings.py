"""Which server to ask, and with which key: flag, environment, profile, then the server that runs on this machine."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aitbc_cli.exits import NOT_ALLOWED, Stop, bad_configuration, usage

DEFAULT_URL = "http://127.0.0.1:8080"
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
SERVER_FILE = "server.json"
ADMIN_KEY_FILE = "admin.key"
PLATFORM_SECRETS = (Path("/run/secrets"), Path("/var/run/secrets"), Path("/run/credentials"))
"""Where container platforms and systemd put secrets: they choose the modes there."""
FILE_BYTES_MAX = 1 << 20
KEY_LENGTH_MAX = 4096
PROFILE_FIELDS = ("url", "api_key", "api_key_file")


@dataclass(frozen=True)
class Where:
    """The server to ask and the key to ask with, each with where it was found."""

    url: str
    url_origin: str
    key: str | None
    key_origin: str
    profile: str | None
    state_dir: Path

    def __repr__(self) -> str:
        return f"Where(url={self.url!r}, key={'***' if self.key else None})"


@dataclass(frozen=True)
class Flags:
    """What the command line itself said."""

    url: str | None = None
    key_file: Path | None = None
    profile: str | None = None


def find(flags: Flags, environ: Mapping[str, str]) -> Where:
    """Settle every question. Raises `Stop` with exit code 78 for a configuration that cannot be used.

    A key goes only to the server that it is meant for: one from a profile to the profile's URL, the local admin's key
    to the local server. A URL from a stronger source leaves such keys behind.
    """
    name, profile = _profile(flags, environ)
    state_dir = state_folder(environ)
    local = local_url(state_dir)
    if flags.url is not None:
        url, url_origin = flags.url, "flag"
    elif environ.get("AITBC_URL"):
        url, url_origin = environ["AITBC_URL"], "AITBC_URL"
    elif "url" in profile:
        url, url_origin = str(profile["url"]), f"profile {name}"
    elif local is not None:
        url, url_origin = local, str(state_dir / SERVER_FILE)
    else:
        url, url_origin = _configured_url(environ)
    url = _checked_url(url, url_origin)
    if local is not None and is_same_server(url, local):
        url = local.rstrip("/")
    key, key_origin = _key(flags, environ, profile, name, url, local, state_dir)
    return Where(url, url_origin, key, key_origin, name, state_dir)


def local_url(state_dir: Path) -> str | None:
    """Where the server that keeps its state here says it listens; none when no server runs."""
    import json

    from aitbc.kernel.primitives.server_file import server_file_of

    try:
        server = json.loads(server_file_of(state_dir).read_bytes())
        return str(server["url"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def signed_in(where: Where) -> str:
    """The key. Raises `Stop` with exit code 4 where there is none."""
    if where.key is None:
        raise Stop(
            f"no API key for {where.url}",
            exit_code=NOT_ALLOWED,
            code="no_api_key",
            hint="set AITBC_API_KEY or AITBC_API_KEY_FILE, or write a profile; on the server's own machine run as the "
            f"user of the server, who can read {where.state_dir / ADMIN_KEY_FILE}",
        )
    return where.key


# Files ---------------------------------------------------------------------------------------------------------------


def state_folder(environ: Mapping[str, str]) -> Path:
    """The state folder of the local server, found as the server finds its own: variable, files, default."""
    from aitbc.kernel.primitives.settings_files import default_state_dir

    named, _, folder = _configured(environ, "state_dir")
    if isinstance(named, str):
        return Path.cwd() / folder / Path(named).expanduser()
    return default_state_dir(environ)


def is_same_server(one: str, other: str) -> bool:
    """Whether two URLs name one server: the names of this machine's loopback are one."""
    return _server_of(one) == _server_of(other)


def _server_of(url: str) -> tuple[str, str, int | None, str]:
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    try:
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        port = None
    host = parts.hostname or ""
    return parts.scheme, "localhost" if host in LOOPBACK else host, port, parts.path.rstrip("/")


def _configured_url(environ: Mapping[str, str]) -> tuple[str, str]:
    """Where the server of this machine is set to listen, and which source says so."""
    from aitbc.kernel.primitives.settings_files import HOST, PORT, url_of

    host, host_origin, _ = _configured(environ, "server.host")
    port, port_origin, _ = _configured(environ, "server.port")
    certificate, _, _ = _configured(environ, "server.tls_certificate")
    number = int(port) if str(port).isdecimal() and 0 < int(port) < 1 << 16 else PORT  # 0 is any free one
    url = url_of(host if isinstance(host, str) and host else HOST, number, tls=bool(certificate))
    return url, next((origin for origin in (port_origin, host_origin) if origin), "default")


def _configured(environ: Mapping[str, str], name: str) -> tuple[Any, str, Path]:
    """A setting of the server's, as it would find it; with its source, and what a path in it is relative to."""
    from aitbc.kernel.primitives.settings_files import settings_files

    variable = f"AITBC_{name.replace('.', '__').upper()}"
    if environ.get(variable):
        return environ[variable], variable, Path()
    for file in settings_files(environ, Path()):
        value: Any = _document(file)
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None:
            return value, str(file), file.parent
    return None, "", Path()


def read_private(path: Path, why: str) -> str:
    """The one line of a file that holds a secret. Raises `Stop` where others can read it."""
    try:
        mode = path.stat().st_mode
        text = path.read_bytes()[:FILE_BYTES_MAX].decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise bad_configuration(f"{path} cannot be read: {reason} ({why})", hint="name another file") from None
    if mode & 0o077 and not any(folder in path.absolute().parents for folder in PLATFORM_SECRETS):
        raise bad_configuration(f"others can read the key in {path} ({why})", hint=f"run: chmod 600 {path}")
    return checked_key(text, f"{path} ({why})")


def checked_key(text: str, source: str) -> str:
    """A key or token as a header can carry it, without the space around it.

    Raises `Stop` with the source, and never with a piece of the key.
    """
    key = text.strip()
    if not key or len(key) > KEY_LENGTH_MAX or any(not "!" <= letter <= "~" for letter in key):
        raise bad_configuration(
            f"{source} must hold a key and nothing else: one line of ASCII without spaces",
            hint="copy the key again, without quotes and without line breaks in it",
        )
    return key


def _profile(flags: Flags, environ: Mapping[str, str]) -> tuple[str | None, Mapping[str, Any]]:
    from aitbc.kernel.primitives.settings_files import config_home

    file = config_home(environ) / "aitbc" / "config.toml"
    document = _document(file)
    profiles = document.get("profiles", {})
    name = flags.profile or environ.get("AITBC_PROFILE") or document.get("profile")
    if name is None:
        return None, {}
    if not isinstance(profiles, dict) or not isinstance(profiles.get(name), dict):
        known = ", ".join(sorted(profiles)) if isinstance(profiles, dict) and profiles else "none"
        raise bad_configuration(
            f"there is no profile {name!r} in {file}", hint=f"profiles there: {known}; add one as [profiles.{name}]"
        )
    chosen: Mapping[str, Any] = profiles[name]
    for field, value in chosen.items():
        if field not in PROFILE_FIELDS:
            raise bad_configuration(
                f"{file}: profiles.{name}.{field} is not a setting", hint=f"a profile has {', '.join(PROFILE_FIELDS)}"
            )
        if not isinstance(value, str):
            raise bad_configuration(f"{file}: profiles.{name}.{field} must be a string")
    if "api_key" in chosen and file.stat().st_mode & 0o077:
        raise bad_configuration(f"others can read the key in {file}", hint=f"run: chmod 600 {file}")
    return name, chosen


def _key(
    flags: Flags,
    environ: Mapping[str, str],
    profile: Mapping[str, Any],
    name: str | None,
    url: str,
    local: str | None,
    state_dir: Path,
) -> tuple[str | None, str]:
    if flags.key_file is not None:
        return read_private(flags.key_file, "--api-key-file"), "flag"
    if environ.get("AITBC_API_KEY"):
        return checked_key(environ["AITBC_API_KEY"], "AITBC_API_KEY"), "AITBC_API_KEY"
    if environ.get("AITBC_API_KEY_FILE"):
        return read_private(Path(environ["AITBC_API_KEY_FILE"]), "AITBC_API_KEY_FILE"), "AITBC_API_KEY_FILE"
    if profile.get("url", url).rstrip("/") == url:
        if "api_key" in profile:
            return checked_key(profile["api_key"], f"profile {name}: api_key"), f"profile {name}"
        if "api_key_file" in profile:
            return read_private(Path(profile["api_key_file"]).expanduser(), f"profile {name}"), f"profile {name}"
    file = state_dir / ADMIN_KEY_FILE
    if local is not None and local.rstrip("/") == url and os.access(file, os.R_OK):
        return read_private(file, "the local admin's key"), str(file)
    return None, "none"


def _document(file: Path) -> Mapping[str, Any]:
    """A TOML file, empty when it is not there. Raises `Stop` when it cannot be read."""
    try:
        text = file.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise bad_configuration(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = str(error).rpartition(" (at ")[2].rstrip(")")
        raise bad_configuration(f"{file} is not TOML ({place})", hint="correct the line") from None


def _has_host(url: str) -> bool:
    from urllib.parse import urlsplit

    try:
        return bool(urlsplit(url).hostname)
    except ValueError:  # as of a bracket that is not closed
        return False


def _checked_url(url: str, origin: str) -> str:
    scheme, _, rest = url.partition("://")
    if (
        scheme not in ("http", "https")
        or not rest
        or any(letter in rest for letter in " @?#\\")
        or not url.isprintable()
        or not _has_host(url)
    ):
        shown = "what stands there" if "@" in url else repr(url)  # a password may stand before the @
        complaint = f"{shown} is no URL of a server ({origin})"
        hint = "write for instance http://127.0.0.1:8080 or https://aitbc.example.org"
        raise usage(complaint, hint=hint) if origin == "flag" else bad_configuration(complaint, hint=hint)
    return url.rstrip("/")
