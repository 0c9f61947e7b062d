"""The manifest: what a module offers, needs, hears and does by itself. Data only; wiring, map, migrations and command line read it."""  # noqa: E501

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from litestar import Controller
from msgspec import Struct
from sqlalchemy import MetaData

from aitbc.kernel.database.outbox import Event


@dataclass(frozen=True)
class PeriodicTask:
    """Work that a service does by itself, again and again."""

    run: Callable[[Any], Awaitable[object]]
    """The method of the service class: it takes nothing and is safe to cancel at any await."""
    every_seconds: float
    leader: bool = True
    """Done by one process at a time over all replicas, under an advisory lock."""


@dataclass(frozen=True)
class Module:
    """One domain, as the app mounts it."""

    name: str
    api: type
    """The Protocol that other modules see."""
    service: Callable[..., Any]
    """The class that keeps it. Its constructor takes, by name, `db`, and as it likes `settings`, `platform` and the needs."""
    metadata: MetaData
    routes: tuple[type[Controller], ...]
    needs: Mapping[str, type] = field(default_factory=dict)
    """Constructor parameter to the Protocol of a module lower in the list."""
    handles: Mapping[type[Event], Callable[[Any, Any, Sequence[Any]], Awaitable[None]]] = field(default_factory=dict)
    """Event to the method of the service class, `(self, unit of work or raw connection, events)`, that handles it. Its name is kept in the inbox: never renamed."""  # noqa: E501
    parts: Mapping[str, type] = field(default_factory=dict)
    """What its routes may ask for beside the service, by the name of the parameter: attributes of the service, each with its class.

    A name belongs to one module of the app.
    """
    scopes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """What a new key may do here, by its kind: `live` (and so `test`) or `miner`; a scope that is not named is for admins."""
    settings: type[Struct] | None = None
    """The module's own table of the configuration."""
    periodic_tasks: tuple[PeriodicTask, ...] = ()
    older: tuple[type[Controller], ...] = ()
    """The paths of the service that this module replaces, bare: on the module's own port, and under its prefix on the gateway."""
    coordinator: tuple[type[Controller], ...] = ()
    """The paths of the older coordinator that became this module's: on its ports, and under `/coordinator` on the gateway."""
