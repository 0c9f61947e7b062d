"""The settings as data: name, type, default, environment variables, and the parsing of raw values."""

import difflib
import math
import tomllib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, Struct

from aitbc.kernel.primitives.errors import ConfigError
from aitbc.kernel.primitives.secret import Secret
from aitbc.server.config.settings import ModuleSettings, Settings

ALIASES = {
    "database.url": "AITBC_DATABASE_URL",
    "database.url_file": "AITBC_DATABASE_URL_FILE",
    "nats.url": "AITBC_NATS_URL",
    "nats.url_file": "AITBC_NATS_URL_FILE",
    "gateway.require_auth": "API_GATEWAY_REQUIRE_AUTH",
    "gateway.auth_key": "API_GATEWAY_KEY",
}
"""Well-known names beside the regular ones (`AITBC_DATABASE__URL`)."""
RETIRED = {
    "ai.hot": "commands are always batched",
    "gpu.hot": "commands are always batched",
    "trading.hot": "commands are always batched",
}
"""Settings of earlier versions, each with the reason why it is gone."""
SECRET_LENGTH_MAX = 64 * 1024


class Key(Struct, frozen=True):
    """A setting."""

    name: str
    """Dotted: `server.port`."""
    type: Any
    default: Any
    """Its default; `NODEFAULT` where it must be set."""
    secret: bool = False
    points_to: str | None = None
    """The secret whose value is in the file that this setting names."""

    @property
    def variables(self) -> tuple[str, ...]:
        """Its names in the environment."""
        regular = "AITBC_" + self.name.replace(".", "__").upper()
        return (regular, ALIASES[self.name]) if self.name in ALIASES else (regular,)

    @property
    def example(self) -> str:
        """An example line for a settings file."""
        leaf = self.name.rpartition(".")[2]
        if self.default not in (NODEFAULT, None) and not self.secret:
            return f"{leaf} = {toml_text(self.default)}"
        plain = {bool: "true", int: "1", float: "1.0"}.get(_bare_type(self.type), '"…"')
        return f"{leaf} = {plain}"


def keys_of(tables: Mapping[str, type[Struct]], modules: Collection[str]) -> dict[str, Key]:
    """Every setting of an installation with these modules, by dotted name."""
    found = [key for key in _keys_in(Settings, "") if key.name not in ("modules", "tables")]
    for module in sorted({*modules, *tables}):
        found += _keys_in(ModuleSettings, f"modules.{module}.")
        if module in tables:
            found += _keys_in(tables[module], f"{module}.")
    return {key.name: key for key in found}


def _keys_in(struct: type[Struct], prefix: str) -> Iterable[Key]:
    for field in msgspec.structs.fields(struct):
        name = prefix + field.name
        kind = _bare_type(field.type)
        if isinstance(kind, type) and issubclass(kind, Struct):
            yield from _keys_in(kind, name + ".")
            continue
        default = field.default
        if default is NODEFAULT and field.default_factory is not NODEFAULT:
            default = field.default_factory()
        secret = kind is Secret
        yield Key(name, field.type, default, secret)
        if secret:
            yield Key(f"{name}_file", Path, None, points_to=name)


def _bare_type(kind: Any) -> Any:
    """The type without annotations and `None`; a union of several stays one."""
    if get_origin(kind) is Annotated:
        return _bare_type(get_args(kind)[0])
    members = [member for member in get_args(kind) if member is not type(None)]
    if _is_union(kind) and len(members) == 1:
        return _bare_type(members[0])
    return kind


def _is_union(kind: Any) -> bool:
    return get_origin(kind) is Union or type(kind).__name__ == "UnionType"


def tables_of(keys: Iterable[str]) -> set[str]:
    """The dotted names that are tables of these settings."""
    found = set()
    for key in keys:
        while "." in key:
            key = key.rpartition(".")[0]
            found.add(key)
    return found


def retired(keys: Collection[str]) -> list[str]:
    """The retired settings, less those that are settings."""
    return [name for name in RETIRED if name not in keys]


def unknown_setting(where: str, written: str, name: str, keys: Collection[str], known: Iterable[str]) -> ConfigError:
    """The error for a name that is not a setting: why it is gone if it is retired, else what was meant.

    `written` is the name as the source has it, a variable for instance; `name` is the dotted one.
    """
    if name in retired(keys):
        return ConfigError(f"{where}: {printable(written)} is gone: {RETIRED[name]}; remove it")
    return ConfigError(f"{where}: {printable(written)} is not a setting{suggestion(written, known)}")


def suggestion(name: str, known: Iterable[str]) -> str:
    """The end of a sentence: `; did you mean …?`, or where all the settings are listed."""
    match = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {match[0]}?" if match else "; `aitbc config schema` lists all of them"


def printable(text: str) -> str:
    """Untrusted text as part of a one-line message."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:100])


def toml_text(value: Any) -> str:
    """A value as a file of settings writes it; a secret as stars."""
    if isinstance(value, Mapping):
        inner = ", ".join(f"{key} = {toml_text(item)}" for key, item in value.items())
        return f"{{{inner}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_text, value))}]"
    if isinstance(value, Secret | Path):
        value = str(value)
    return msgspec.json.encode(value, enc_hook=str).decode()


def value_of(key: Key, raw: Any, *, text: bool, base: Path) -> Any:
    """Parse a raw value; `text` for strings from outside a file, `base` is what paths are relative to.

    Raises `ConfigError` with what is wrong and an example, and never with the value itself.
    """

    def decode(kind: type, value: Any) -> Any:
        if kind in (Secret, Path) and not isinstance(value, str):
            raise ValueError(f"Expected `str`, got `{type(value).__name__}`")
        if kind is Secret:
            return Secret(checked_secret(value))
        if kind is Path:
            return base / Path(value).expanduser()
        raise ValueError(f"a {kind.__name__} cannot be set")

    try:
        if text:
            raw = _from_text(key, raw)
        value = msgspec.convert(raw, key.type, strict=not text, dec_hook=decode)
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError("Expected a finite number")
    except (ValueError, RuntimeError, tomllib.TOMLDecodeError) as error:
        problem = "the value does not fit" if key.secret and not isinstance(error, ValueError) else str(error)
        raise ConfigError(f"{printable(problem)}{_choices(key)}; write for instance: {key.example}") from None
    return value


def checked_secret(value: str) -> str:
    """A secret as it may be used: not empty, one line, of a sane length."""
    if not value or not value.isprintable() or len(value) > SECRET_LENGTH_MAX:
        raise ValueError("Expected one line of printable text")
    return value


def _from_text(key: Key, raw: str) -> Any:
    kind = get_origin(_bare_type(key.type))
    if kind not in (list, dict):
        return raw
    if raw.lstrip().startswith(("[", "{")):
        return tomllib.loads(f"value = {raw}")["value"]
    items = [item.strip() for item in raw.split(",") if item.strip()]
    if kind is list:
        return items
    return {name.strip(): value.strip() for name, _, value in (item.partition("=") for item in items)}


def _choices(key: Key) -> str:
    members = [key.type, *get_args(key.type)]
    words = [str(word) for member in members if get_origin(member) is Literal for word in get_args(member)]
    return f" (one of: {', '.join(words)})" if words else ""
