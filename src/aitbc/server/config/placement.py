"""Placement: which process serves which module, on which ports. The same in every process of an installation."""

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from aitbc.kernel.primitives.errors import ConfigError
from aitbc.server.config.hosts import PeerHost, internal_listener_of, peer_host
from aitbc.server.config.listeners import Listener, gateway
from aitbc.server.config.settings import ModuleSettings, Settings

MAIN = "main"
"""The process with the gateway; a split module's process has the module's name."""
NEW_PORTS: Mapping[str, int] = {
    "gpu": 8101,
    "marketplace": 8102,
    "trading": 8104,
    "governance": 8105,
    "ai": 8106,
    "monitoring": 8107,
    "hermes": 8108,
    "plugins": 8109,
}
COORDINATOR_PORTS = (8011, 8000)
"""The ports of the legacy coordinator, shared by all modules with `port = "legacy"`."""
LEGACY_PREFIXES: Mapping[str, str] = {
    **{name: name for name in ("gpu", "marketplace", "trading", "governance", "ai", "monitoring", "hermes")},
    "plugin": "plugins",
}
"""The first segment of a legacy path on the gateway, and the module that answers it."""


EXCHANGE_PATHS = "/api/v1/exchange/"
"""Legacy paths on the port of marketplace that trading answers: of the older exchange both have a part."""
PROTOCOL_PREFIXES: Mapping[str, str] = {"v1": "ai", "a2a": "hermes"}
"""The first segment of the paths of a public protocol, and the module that speaks it."""
LEGACY_PREFIX = {module: prefix for prefix, module in LEGACY_PREFIXES.items()}
LEGACY_COORDINATOR_PREFIX = "coordinator"


class Placement(Struct, frozen=True, kw_only=True):
    """The placement of one process: what it serves, and where its peers are."""

    process: str
    modules_here: tuple[str, ...]
    """The modules of this process."""
    ports: Mapping[int, tuple[str, ...]]
    """Ports of this process beside the gateway's, each with the modules that answer on it."""
    trusting_ports: Mapping[int, frozenset[int]]
    """Those of the ports on which a program of this machine needs no key, each with the ids of its users."""
    peer_hosts: Mapping[str, PeerHost]
    """The host of each module of another process."""
    socket: Path | None
    """The Unix socket for peers on this machine; none without such peers."""
    main_host: PeerHost | None = None
    """The host of the main process, for the others; it may serve no module."""
    internal_listener: Listener | None = None
    """The listener for peers on other machines; none without such peers."""

    @property
    def has_peers(self) -> bool:
        """Whether there are peers."""
        return self.socket is not None or self.internal_listener is not None

    def listeners(self, settings: Settings) -> list[Listener]:
        """Every address this process listens on; the gateway's is the first one of the main process."""
        found = [gateway(settings.server)] if self.process == MAIN else []
        found += [
            Listener(
                name=" and ".join(modules), host=settings.server.host, port=port, setting=f"modules.{modules[0]}.port"
            )
            for port, modules in self.ports.items()
        ]
        if self.socket is not None:
            found.append(Listener(name=f"internal API of {self.process}", path=self.socket))
        if self.internal_listener is not None:
            found.append(self.internal_listener)
        return found


def placement_of(settings: Settings, modules: Sequence[str], process: str = MAIN) -> Placement:
    """The placement of `process`. Raises `ConfigError` for settings that contradict each other."""
    split = [name for name in modules if _settings_of(settings, name).place == "split"]
    if process != MAIN and process not in split:
        if process not in modules:
            raise ConfigError(f"there is no module {process}; there are {', '.join(modules)}")
        raise ConfigError(
            f'modules.{process}.place is not "split", so `aitbc serve` serves it already; set it to split it out'
        )
    hosts = _peer_hosts(settings, modules, split)
    ports = _ports(settings, modules)
    modules_here = (process,) if process != MAIN else tuple(name for name in modules if name not in split)
    mine = {port: owners for port, owners in ports.items() if set(owners) & set(modules_here)}
    trusting_ports = {
        port: frozenset({os.geteuid()}).union(
            frozenset.intersection(*(frozenset(_settings_of(settings, name).trust_uids) for name in owners))
        )
        for port, owners in mine.items()
        if all(_settings_of(settings, name).trust == "loopback" for name in owners)
    }
    return Placement(
        process=process,
        modules_here=modules_here,
        ports=mine,
        trusting_ports=trusting_ports,
        peer_hosts={name: hosts[name if name in split else MAIN] for name in modules if name not in modules_here},
        socket=hosts[process].socket if split else None,
        main_host=hosts[MAIN] if process != MAIN else None,
        internal_listener=_internal_listener(settings, process, {settings.server.port, *ports})
        if split and hosts[process].url is not None
        else None,
    )


def _peer_hosts(settings: Settings, modules: Sequence[str], split: Sequence[str]) -> dict[str, PeerHost]:
    """The host of each process: URLs where there are several machines, else Unix sockets."""
    _check_urls(settings, modules, split)
    far = [name for name in split if _settings_of(settings, name).url is not None]
    if not far:
        return {
            name: PeerHost(process=name, socket=settings.state_dir / "run" / f"{name}.sock") for name in (MAIN, *split)
        }
    _check_shared(settings, split, far)
    found = {name: peer_host(f"modules.{name}", name, _settings_of(settings, name)) for name in far}
    return {MAIN: peer_host("gateway", MAIN, settings.gateway), **found}


def _check_urls(settings: Settings, modules: Sequence[str], split: Sequence[str]) -> None:
    for name in modules:
        module = _settings_of(settings, name)
        if module.url is not None and name not in split:
            raise ConfigError(
                f'modules.{name}.url: modules.{name}.place is "{module.place}", so it lives in the main process; '
                'set place = "split", or take the url away'
            )
        if module.inner is not None and module.url is None:
            raise ConfigError(f"modules.{name}.inner: nobody would find it; set modules.{name}.url beside it")


def _check_shared(settings: Settings, split: Sequence[str], far: Sequence[str]) -> None:
    """Check what processes on several machines must share. Raises `ConfigError`."""
    first = far[0]
    for name in split:
        if name not in far:
            raise ConfigError(
                f"modules.{name}.url: it must be set, since {first} lives on another machine and could not find {name}"
            )
    for setting, missing, remedy in (
        ("gateway.url", settings.gateway.url is None, "say where that machine finds this process"),
        ("database.url", settings.database.url is None, "the embedded database cannot be reached from there"),
        (
            "secret_key",
            settings.secret_key is None,
            "service tokens are signed with it: on each machine name a copy of one file with secret_key_file",
        ),
    ):
        if missing:
            raise ConfigError(f"{setting}: it must be set, since {first} lives on another machine; {remedy}")


def _internal_listener(settings: Settings, process: str, taken: set[int]) -> Listener:
    """The listener for peers on other machines. Raises `ConfigError` for a port that callers know."""
    table, where = (
        ("gateway", settings.gateway) if process == MAIN else (f"modules.{process}", _settings_of(settings, process))
    )
    listener = internal_listener_of(table, process, where)
    if listener.port in taken:
        raise ConfigError(
            f"{table}.inner: port {listener.port} is one that callers know; choose another for the internal API"
        )
    return listener


def _settings_of(settings: Settings, name: str) -> ModuleSettings:
    return settings.modules.get(name, ModuleSettings())


def _ports(settings: Settings, modules: Sequence[str]) -> dict[int, tuple[str, ...]]:
    """The modules behind each port. Raises `ConfigError` for a port that two of them cannot share."""
    owners: dict[int, list[str]] = defaultdict(list)
    for name in modules:
        module = _settings_of(settings, name)
        if module.place == "mounted":
            continue
        for port in _ports_of(name, module.port):
            owners[port].append(name)
    for port, names in owners.items():
        if port == settings.server.port:
            raise ConfigError(
                f"port {port} is the gateway's (server.port) and also that of {' and '.join(names)}; change one"
            )
        splits = [name for name in names if _settings_of(settings, name).place == "split"]
        if len(names) > 1 and (splits or port not in COORDINATOR_PORTS):
            raise ConfigError(
                f"port {port} is wanted by {' and '.join(names)}; two processes, or two modules with ports of their own, "
                "cannot share one: change modules.….port of one of them"
            )
    return {port: tuple(names) for port, names in owners.items()}


def _ports_of(name: str, port: str | int) -> tuple[int, ...]:
    if isinstance(port, int):
        return (port,)
    new = (NEW_PORTS[name],) if name in NEW_PORTS and port in ("new", "both") else ()
    return new + (COORDINATOR_PORTS if port in ("legacy", "both") else ())
