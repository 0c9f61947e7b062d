"""Which process serves which module, and on which ports: read from the settings, the same in every process of an installation."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from aitbc.kernel.listeners import Listener, gateway
from aitbc.kernel.settings import ConfigError, ModuleSettings, Settings

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
"""The older coordinator's, which all modules that choose `legacy` share."""
OLDER_PREFIXES: Mapping[str, str] = {
    **{name: name for name in ("gpu", "marketplace", "trading", "governance", "ai", "monitoring", "hermes")},
    "plugin": "plugins",
}
"""The first segment of an older path on the gateway, and the module that it is for."""


OLDER_PREFIX = {module: prefix for prefix, module in OLDER_PREFIXES.items()}
COORDINATOR_PREFIX = "coordinator"


class Places(Struct, frozen=True, kw_only=True):
    """What one process serves, and where everything else is."""

    me: str
    here: tuple[str, ...]
    """The modules of this process."""
    ports: Mapping[int, tuple[str, ...]]
    """Ports of this process beside the gateway's, each with the modules that answer on it."""
    trusting: frozenset[int]
    """Those of the ports on which a caller from this machine needs no key."""
    elsewhere: Mapping[str, Path]
    """For each module of another process the Unix socket at which that process is found."""
    socket: Path | None
    """Where the other processes find this one; none while there are no others."""

    @property
    def processes(self) -> Mapping[str, Path]:
        """The other processes that are known by module: those of split modules."""
        return {name: path for name, path in self.elsewhere.items() if path.stem == name}

    def listeners(self, settings: Settings) -> list[Listener]:
        """Every address this process listens on; the gateway's is the first one of the main process."""
        found = [gateway(settings.server)] if self.me == MAIN else []
        found += [
            Listener(name=" and ".join(modules), host=settings.server.host, port=port)
            for port, modules in self.ports.items()
        ]
        if self.socket is not None:
            found.append(Listener(name=f"inner door of {self.me}", path=self.socket))
        return found


def places(settings: Settings, modules: Sequence[str], me: str = MAIN) -> Places:
    """What the process `me` does. Raises `ConfigError` where the settings contradict each other."""
    split = [name for name in modules if _module(settings, name).place == "split"]
    if me != MAIN and me not in split:
        if me not in modules:
            raise ConfigError(f"there is no module {me}; there are {', '.join(modules)}")
        raise ConfigError(
            f'modules.{me}.place is not "split", so `aitbc serve` serves it already; set it to split it out'
        )
    ports = _ports(settings, modules)
    here = (me,) if me != MAIN else tuple(name for name in modules if name not in split)
    inner = settings.state_dir / "run"
    mine = {port: owners for port, owners in ports.items() if set(owners) & set(here)}
    trusting = {
        port for port, owners in mine.items() if all(_module(settings, name).trust == "loopback" for name in owners)
    }
    return Places(
        me=me,
        here=here,
        ports=mine,
        trusting=frozenset(trusting),
        elsewhere={name: inner / f"{name if name in split else MAIN}.sock" for name in modules if name not in here},
        socket=inner / f"{me}.sock" if split else None,
    )


def _module(settings: Settings, name: str) -> ModuleSettings:
    return settings.modules.get(name, ModuleSettings())


def _ports(settings: Settings, modules: Sequence[str]) -> dict[int, tuple[str, ...]]:
    """The modules behind each port. Raises `ConfigError` for a port that two of them cannot share."""
    owners: dict[int, list[str]] = defaultdict(list)
    for name in modules:
        module = _module(settings, name)
        if module.place == "mounted":
            continue
        for port in _ports_of(name, module.port):
            owners[port].append(name)
    for port, names in owners.items():
        if port == settings.server.port:
            raise ConfigError(
                f"port {port} is the gateway's (server.port) and also that of {' and '.join(names)}; change one"
            )
        splits = [name for name in names if _module(settings, name).place == "split"]
        if len(names) > 1 and (splits or port not in COORDINATOR_PORTS):
            raise ConfigError(
                f"port {port} is wanted by {' and '.join(names)}; two processes, or two modules with ports of their own, "
                "cannot share one: change modules.….port of one of them"
            )
    return {port: tuple(names) for port, names in owners.items()}


def _ports_of(name: str, port: str | int) -> tuple[int, ...]:
    if port == "legacy":
        return COORDINATOR_PORTS
    if port == "new":
        return (NEW_PORTS[name],) if name in NEW_PORTS else ()
    assert isinstance(port, int)
    return (port,)
