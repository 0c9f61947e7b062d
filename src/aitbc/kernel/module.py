"""The module manifest: what a module offers, needs, handles and runs periodically.

Data only: the wiring, the map, the migrations and the command line read it.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from litestar import Controller
from msgspec import Struct
from sqlalchemy import MetaData

from aitbc.kernel.database.outbox import Event
from aitbc.kernel.http.dialects import Dialect
from aitbc.kernel.parameters import Parameter


@dataclass(frozen=True)
class PeriodicTask:
    """A method of the service that runs periodically."""

    run: Callable[[Any], Awaitable[object]]
    """The method of the service class: without parameters, and safe to cancel at any await."""
    every_seconds: float
    leader: bool = True
    """Run by one process at a time over all replicas, under an advisory lock."""


@dataclass(frozen=True)
class Module:
    """A module, as the app mounts it."""

    name: str
    api: type
    """The face: the Protocol that other modules call."""
    service: Callable[..., Any]
    """The class that implements `api`; its constructor takes `db` and, if named, `settings`, `platform`, the needs."""
    metadata: MetaData
    routes: tuple[type[Controller], ...]
    needs: Mapping[str, type] = field(default_factory=dict)
    """By constructor parameter: the Protocol of a module lower in the list."""
    handles: Mapping[type[Event], Callable[[Any, Any, Sequence[Any]], Awaitable[None]]] = field(default_factory=dict)
    """By event: the method of the service class that handles it, `(self, unit of work or raw connection, events)`.

    The method's name is stored in the inbox, so it is never renamed.
    """
    parts: Mapping[str, type] = field(default_factory=dict)
    """By parameter name: the parts of the service that its routes may ask for, attributes of it, with their class.

    A name belongs to one module of the app.
    """
    scopes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By kind of key, `live` (also `test`) or `miner`: the scopes of a new key; other scopes are for admins."""
    settings: type[Struct] | None = None
    """The settings of the module: its own table of the configuration."""
    parameters: tuple[Parameter, ...] = ()
    """What governance may change of the module while it runs."""
    periodic_tasks: tuple[PeriodicTask, ...] = ()
    legacy: tuple[type[Controller], ...] = ()
    """The routes of the service that this module replaces: bare on its own port, under its prefix on the gateway."""
    legacy_coordinator: tuple[type[Controller], ...] = ()
    """The routes of the legacy coordinator that became this module's; below `/coordinator` on the gateway."""
    legacy_elsewhere: Mapping[str, tuple[type[Controller], ...]] = field(default_factory=dict)
    """By module: single paths, without parameters, of the service that it replaces, which this module answers on its
    port and under its prefix."""
    protocol: tuple[type[Controller], ...] = ()
    """The routes of a public protocol that this module speaks, at the paths that the protocol fixes."""
    dialect: Dialect | None = None
    """The paths of that protocol, and the form of its errors."""
