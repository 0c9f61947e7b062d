"""The sources of settings: files, environment, credentials and flags, each with its own error messages."""

import errno
import os
import stat
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from aitbc.kernel.primitives.errors import ConfigError
from aitbc.server.config.keys import Key, printable, retired, tables_of, unknown_setting

FILE_BYTES_MAX = 1 << 20
CLIENT_TABLES = frozenset({"profile", "profiles", "cli"})
"""Tables of the user's file that belong to the command line."""
CLIENT_VARIABLES = frozenset(
    f"AITBC_{name}"
    for name in (
        *("URL", "API_KEY", "API_KEY_FILE", "OUTPUT", "PROFILE", "PROJECT", "TIMEOUT", "NO_INPUT", "QUIET", "COLUMNS"),
        *("CONFIG", "JOB_ID", "ATTEMPT", "WORKER"),
    )
)
"""Variables of the command line and of the programs that a miner runs; the server knows them and leaves them alone."""
CLIENT_PREFIXES = ("AITBC_MINER_",)
PLATFORM_SECRETS = (Path("/run/secrets"), Path("/var/run/secrets"))
"""Where container platforms put secrets; they choose the modes there, and nobody else can enter."""


class Raw(Struct, frozen=True):
    """A raw value, before it is parsed."""

    value: Any
    where: str
    text: bool
    """Whether it is a string from outside a file, to be read by the setting's type."""
    base: Path
    """What a relative path in it is relative to."""


def read_private(path: Path, where: str) -> str:
    """The one line of a file that holds a secret. Raises `ConfigError` where others can read it."""
    text, mode = _read(path, where)
    if mode & 0o007 and not any(folder in path.parents for folder in PLATFORM_SECRETS):
        raise ConfigError(f"{path}: others can read this secret ({where}); run: chmod 600 {path}")
    line = text.rstrip("\r\n")
    if not line or not line.isprintable():
        raise ConfigError(f"{path}: a secret is one line of printable text ({where}); write it there and nothing else")
    return line


def _read(path: Path, where: str) -> tuple[str, int]:
    """Text and mode of a regular file; pipes and devices are refused before they can block."""
    name = printable(str(path))
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                kind = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
                raise ConfigError(f"{name}: it is {kind} ({where}); name a file")
            content = file.read(FILE_BYTES_MAX + 1)
    except ValueError:
        raise ConfigError(f"{name}: this cannot be the name of a file ({where}); name another") from None
    except IsADirectoryError:
        raise ConfigError(f"{name}: it is a folder ({where}); name a file") from None
    except OSError as error:
        fix = "create it" if error.errno == errno.ENOENT else "let the user who runs aitbc read it"
        raise ConfigError(f"{name}: cannot be read: {error.strerror} ({where}); {fix}, or name another") from None
    if len(content) > FILE_BYTES_MAX:
        raise ConfigError(f"{name}: it is longer than {FILE_BYTES_MAX} bytes ({where}); name the right file")
    if content.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise ConfigError(f"{name}: it begins with a byte order mark; save it as UTF-8 without one")
    try:
        return content.decode(), status.st_mode
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name}: byte {error.start} is not UTF-8; save the file as UTF-8") from None


def from_file(path: Path, keys: Mapping[str, Key], *, required: bool) -> dict[str, Raw]:
    """The settings of one TOML file; nothing if it may be missing and is."""
    if not required and not os.path.lexists(path):
        return {}
    text, mode = _read(path, "a file of settings")
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(_syntax(path, text, str(error), keys)) from None
    except RecursionError:
        raise ConfigError(f"{path}: it is nested too deep; settings need three levels") from None
    tree = {name: value for name, value in document.items() if name not in CLIENT_TABLES}
    found = dict(_flat(tree, "", path, keys, tables_of([*keys, *retired(keys)])))
    for name in found:
        if keys[name].secret and mode & 0o007:
            raise ConfigError(f"{path}: {name}: others can read this secret; run: chmod 600 {path}")
    return {name: Raw(value, str(path), text=False, base=path.parent) for name, value in found.items()}


def _syntax(path: Path, text: str, problem: str, keys: Mapping[str, Key]) -> str:
    """The error for a file that is not TOML: with the line's key, never with its value.

    What is not the name of a setting may be a line of a secret, and is not repeated.
    """
    problem, _, place = printable(problem).partition(" (at ")
    lines = text.splitlines() or [""]
    number = int(place.removeprefix("line ").partition(",")[0]) if place.startswith("line ") else len(lines)
    key = lines[min(number, len(lines)) - 1].partition("=")[0].strip()
    known = {*keys, *(name.rpartition(".")[2] for name in keys), *(f"[{table}]" for table in tables_of(keys))}
    key = f"{key}: " if key in known else ""
    if problem.startswith(("Cannot overwrite", "Cannot declare", "Cannot mutate", "Duplicate")):
        return f"{path}: line {number}: {key}this is set twice; keep one of the two"
    return f"{path}: line {number}: {key}this is not TOML ({problem.lower()}); correct the line"


def _flat(
    tree: Mapping[str, Any], prefix: str, path: Path, keys: Mapping[str, Key], tables: set[str]
) -> Iterable[tuple[str, Any]]:
    for part, value in tree.items():
        name = prefix + part
        if name in keys:
            yield name, value
        elif name not in tables:
            raise unknown_setting(str(path), name, name, keys, [*keys, *tables])
        elif not isinstance(value, dict):
            raise ConfigError(f"{path}: {name} is a table of settings; write [{name}] and its settings below")
        else:
            yield from _flat(value, f"{name}.", path, keys, tables)


def from_environment(environ: Mapping[str, str], keys: Mapping[str, Key], cwd: Path) -> dict[str, Raw]:
    """The `AITBC_*` variables. One that is empty counts as not set; one that means nothing is refused."""
    by_variable = {variable: name for name, key in keys.items() for variable in key.variables}
    found: dict[str, Raw] = {}
    for variable, value in environ.items():
        if not value or not (variable.startswith("AITBC_") or variable in by_variable):
            continue
        if variable in CLIENT_VARIABLES or variable.startswith(CLIENT_PREFIXES):
            continue
        name = by_variable.get(variable)
        if name is None:
            dotted = variable.removeprefix("AITBC_").lower().replace("__", ".")
            raise unknown_setting("environment", variable, dotted, keys, by_variable)
        if name in found:
            raise ConfigError(f"environment: {variable}: {found[name].where} says the same; unset one of the two")
        if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise ConfigError(f"environment: {variable}: it is not UTF-8; set it again")
        found[name] = Raw(value, variable, text=True, base=cwd)
    return found


def from_credentials(environ: Mapping[str, str], keys: Mapping[str, Key]) -> dict[str, Raw]:
    """Secrets that systemd hands over (`LoadCredential=database.url:/…`): files named like their settings."""
    folder = environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        return {}
    found = {}
    for name, key in keys.items():
        path = Path(folder) / name
        if key.secret and path.is_file():
            text, _ = _read(path, "a credential")
            found[name] = Raw(text.rstrip("\r\n"), str(path), text=True, base=Path(folder))
    for name in retired(keys):
        if (Path(folder) / name).is_file():
            raise unknown_setting(folder, name, name, keys, keys)
    return found


def from_flags(flags: Mapping[str, Any], keys: Mapping[str, Key], cwd: Path) -> dict[str, Raw]:
    """Settings given on the command line by dotted name; None is one that was not given."""
    found = {}
    for name, value in flags.items():
        if name not in keys:
            raise unknown_setting("flag", name, name, keys, keys)
        if value is not None:
            found[name] = Raw(value, "flag", text=isinstance(value, str), base=cwd)
    return found
