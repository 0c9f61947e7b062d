"""Loads the settings, once at the start: flags, environment, files and defaults, in this order of precedence."""

import os
from collections.abc import Collection, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import msgspec
from msgspec import NODEFAULT, Struct

from aitbc.kernel.hooks.settings import HookSettings
from aitbc.kernel.primitives.errors import ConfigError
from aitbc.kernel.primitives.secret import MASK, Secret
from aitbc.kernel.primitives.settings_files import SYSTEM_FILE, default_state_dir, settings_files
from aitbc.kernel.telemetry.logs import LogSettings
from aitbc.server.config.keys import Key, keys_of, toml_text, value_of
from aitbc.server.config.settings import (
    DatabaseSettings,
    GatewaySettings,
    ModuleSettings,
    NatsSettings,
    ServerSettings,
    Settings,
    TraceSettings,
    WebhookSettings,
)
from aitbc.server.config.sources import (
    Raw,
    from_credentials,
    from_environment,
    from_file,
    from_flags,
    read_private,
)


class Loaded(Struct, frozen=True, kw_only=True):
    """The settings, where each came from, and what standard variables say about this process."""

    settings: Settings
    origins: dict[str, str]
    """By dotted name: `flag`, a variable, a file, or `default`."""
    values: dict[str, Any]
    """By dotted name, in the order of the documentation."""
    no_color: bool
    notify_socket: str | None
    """The socket of sd_notify."""
    watchdog_seconds: float | None
    """The watchdog timeout of systemd."""

    @property
    def secrets(self) -> list[str]:
        """All secrets in plain text, for the log to mask."""
        return [value.reveal() for value in self.values.values() if isinstance(value, Secret)]


class Row(Struct, frozen=True):
    """One line of `aitbc config show --origin`."""

    key: str
    value: str
    origin: str


def load(
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    cwd: Path,
    tables: Mapping[str, type[Struct]],
    *,
    modules: Collection[str] = (),
    system_file: Path = SYSTEM_FILE,
) -> Loaded:
    """Read every source and check all of it. Raises `ConfigError` with source, setting and remedy.

    `flags` maps dotted names to values, and `config` to one more file that comes before the project's;
    `tables` maps a module's name to the Struct of its own table, `modules` names those without one.
    """
    keys = keys_of(tables, modules)
    values, origins = _merge(_layers(dict(flags), environ, cwd, keys, system_file), keys)
    values.setdefault("state_dir", default_state_dir(environ))
    complete = _with_defaults(values, keys)
    settings = _build(complete, tables, modules)
    _check(settings, origins)
    return Loaded(
        settings=settings,
        origins={name: origins.get(name, "default") for name in complete},
        values=complete,
        no_color=bool(environ.get("NO_COLOR")),
        notify_socket=environ.get("NOTIFY_SOCKET") or None,
        watchdog_seconds=_watchdog(environ),
    )


def _layers(
    flags: dict[str, Any], environ: Mapping[str, str], cwd: Path, keys: Mapping[str, Key], system_file: Path
) -> list[Mapping[str, Raw]]:
    """The settings of each source, the highest precedence first."""
    named = flags.pop("config", None)
    files = settings_files(environ, cwd, named=named, system_file=system_file)
    is_named = bool(named or environ.get("AITBC_CONFIG"))  # one that is named must be there
    return [
        from_flags(flags, keys, cwd),
        from_environment(environ, keys, cwd),
        from_credentials(environ, keys),
        *(from_file(file, keys, required=is_named and not index) for index, file in enumerate(files)),
    ]


def describe(loaded: Loaded) -> Sequence[Row]:
    """Every setting with its value, secrets masked, and its origin."""
    rows = []
    for name, value in loaded.values.items():
        text = MASK if isinstance(value, Secret) else "" if value is None else toml_text(value)
        rows.append(Row(name, text, loaded.origins[name]))
    return rows


def schema(tables: Mapping[str, type[Struct]], modules: Collection[str] = ()) -> dict[str, Any]:
    """The JSON Schema of a file of settings."""
    names = sorted({*modules, *tables})
    module_table = msgspec.defstruct(
        "Modules", [(name, ModuleSettings, ModuleSettings()) for name in names], forbid_unknown_fields=True
    )
    fields: list[tuple[str, Any, Any]] = []
    for field in msgspec.structs.fields(Settings):
        if field.name not in ("modules", "tables"):
            default = None if field.default is NODEFAULT else field.default
            fields.append((field.name, field.type | None if default is None else field.type, default))
    fields.append(("modules", module_table | None, None))
    fields += [(name, table | None, None) for name, table in tables.items() if name not in {f[0] for f in fields}]
    root = msgspec.defstruct("Configuration", fields, forbid_unknown_fields=True)
    return msgspec.json.schema(root, schema_hook=_as_text)


def _as_text(kind: type) -> dict[str, Any]:
    if kind in (Path, Secret):
        return {"type": "string"}
    raise NotImplementedError(kind.__name__)


# Merging -------------------------------------------------------------------------------------------------------------


def _merge(layers: Sequence[Mapping[str, Raw]], keys: Mapping[str, Key]) -> tuple[dict[str, Any], dict[str, str]]:
    """The value of the first layer that has one, for each setting; every layer is checked, the hidden ones too."""
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in layers:
        for name, raw in layer.items():
            target = keys[name].points_to
            if target is not None and target in layer:
                raise ConfigError(f"{raw.where}: {name}: {target} is set beside it; keep one of the two")
            value = _checked(keys[name], raw)
            name = target or name
            if name not in values:
                origins[name] = raw.where
                values[name] = Secret(read_private(value, f"{raw.where} names it")) if target else value
    return values, origins


def _checked(key: Key, raw: Raw) -> Any:
    try:
        return value_of(key, raw.value, text=raw.text, base=raw.base)
    except ConfigError as error:
        raise ConfigError(f"{raw.where}: {key.name}: {error.message}") from None


def _with_defaults(values: Mapping[str, Any], keys: Mapping[str, Key]) -> dict[str, Any]:
    complete = {}
    for name, key in keys.items():
        if key.points_to is not None:
            continue
        value = values.get(name, key.default)
        if value is NODEFAULT:
            raise ConfigError(f"{name} must be set; write for instance: {key.example}, or set {key.variables[0]}")
        complete[name] = value
    return complete


def _build(values: Mapping[str, Any], tables: Mapping[str, type[Struct]], modules: Collection[str]) -> Settings:
    tree: dict[str, Any] = {}
    for name, value in values.items():
        *folders, leaf = name.split(".")
        reduce(lambda inner, part: inner.setdefault(part, {}), folders, tree)[leaf] = value
    names = sorted({*modules, *tables})
    try:
        return Settings(
            state_dir=tree["state_dir"],
            secret_key=tree["secret_key"],
            server=ServerSettings(**tree["server"]),
            database=DatabaseSettings(**tree["database"]),
            log=LogSettings(**tree["log"]),
            gateway=GatewaySettings(**tree["gateway"]),
            nats=NatsSettings(**tree["nats"]),
            webhooks=WebhookSettings(**tree["webhooks"]),
            hooks=HookSettings(**tree["hooks"]),
            traces=TraceSettings(**tree["traces"]),
            modules={name: ModuleSettings(**tree["modules"][name]) for name in names},
            tables={name: _module_struct(table, tree.get(name, {}), name) for name, table in tables.items()},
        )
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _module_struct(kind: type[Struct], tree: Mapping[str, Any], name: str) -> Struct:
    """A module's Struct from values that are checked already; what it refuses by itself becomes our error."""
    values = {
        field.name: _module_struct(field.type, tree[field.name], f"{name}.{field.name}")
        if isinstance(field.type, type) and issubclass(field.type, Struct)
        else tree[field.name]
        for field in msgspec.structs.fields(kind)
    }
    try:
        return kind(**values)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{name}: {error}") from None


# What one setting alone cannot tell ----------------------------------------------------------------------------------


def _check(settings: Settings, origins: Mapping[str, str]) -> None:
    server = settings.server
    if (server.tls_certificate is None) != (server.tls_key is None):
        there, missing = ("tls_key", "tls_certificate") if server.tls_key else ("tls_certificate", "tls_key")
        raise ConfigError(f"{origins[f'server.{there}']}: server.{missing}: it is needed beside {there}; set both")
    key = settings.gateway.auth_key
    if key is not None and any(not "!" <= letter <= "~" for letter in key.reveal()):
        where = origins["gateway.auth_key"]
        raise ConfigError(
            f"{where}: gateway.auth_key: a header carries it: write ASCII without spaces, and no quotes in it"
        )
    for host in server.hosts:
        if "*" in host or "/" in host or not host.isascii() or not host.isprintable() or " " in host:
            where = origins["server.hosts"]
            raise ConfigError(f'{where}: server.hosts: each is one name without scheme, like "node.example.org"')


def _watchdog(environ: Mapping[str, str]) -> float | None:
    """systemd's limit is meant for the process it names, and for no other."""
    microseconds, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not microseconds.isdecimal() or int(microseconds) == 0 or pid not in ("", str(os.getpid())):
        return None
    return int(microseconds) / 1_000_000
