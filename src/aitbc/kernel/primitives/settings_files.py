"""Where settings are looked for and what they mean before the server runs: one answer for server and command line.

Of the standard library alone, since every command asks.
"""

import os
from collections.abc import Mapping
from pathlib import Path

SYSTEM_FILE = Path("/etc/aitbc/config.toml")
HOST, PORT = "127.0.0.1", 8080
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what a client asks instead


def settings_files(
    environ: Mapping[str, str], folder: Path, *, named: str | None = None, system_file: Path = SYSTEM_FILE
) -> list[Path]:
    """The files of settings, the highest precedence first: the named one, the project's, the user's, the system's.

    `named` comes before `AITBC_CONFIG`; `folder` is where the process stands.
    """
    extra = named or environ.get("AITBC_CONFIG")
    first = [folder / Path(extra).expanduser()] if extra else []
    return [*first, folder / "aitbc.toml", config_home(environ) / "aitbc" / "config.toml", system_file]


def config_home(environ: Mapping[str, str]) -> Path:
    """`$XDG_CONFIG_HOME`, or what it is when not set."""
    return _home(environ, "XDG_CONFIG_HOME", ".config")


def default_state_dir(environ: Mapping[str, str]) -> Path:
    """The state folder where no setting names one."""
    if os.geteuid() == 0 and not environ.get("XDG_STATE_HOME", "").startswith("/"):
        return Path("/var/lib/aitbc")
    return _home(environ, "XDG_STATE_HOME", ".local/state") / "aitbc"


def url_of(host: str, port: int, *, tls: bool) -> str:
    """The URL by which programs of this machine ask a server that listens there."""
    host = _ANY.get(host, host)
    return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


def _home(environ: Mapping[str, str], variable: str, below_home: str) -> Path:
    """A folder of the XDG base directories; a relative one counts as not set, as the specification says."""
    named = environ.get(variable, "")
    return Path(named) if named.startswith("/") else Path(environ.get("HOME") or "/") / below_home
