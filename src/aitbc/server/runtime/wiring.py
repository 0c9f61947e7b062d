"""Wires the modules of a process: database, faces, event handlers, relay and periodic tasks of each.

The only place that distinguishes modules of this process from those of others.
"""

import asyncio
import inspect
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import structlog
from msgspec import Struct

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.events.bus import EventTransport
from aitbc.kernel.events.relay import EventHandler, Relay, Subscriber
from aitbc.kernel.module import Module
from aitbc.kernel.platform import Platform
from aitbc.kernel.primitives.tasks import cancel_and_wait
from aitbc.server.cluster.peers import Peer, RemoteHandler
from aitbc.server.cluster.stubs import local, remote
from aitbc.server.runtime.databases import Databases
from aitbc.server.runtime.periodic import Leadership, run_periodic_task
from aitbc.server.webhooks.fan_out import published_types

log = structlog.get_logger("aitbc.wiring")


@dataclass
class Wired:
    """The modules of one process, ready to serve."""

    modules: Sequence[Module]
    databases: dict[str, Database]
    services: dict[str, Any]
    relays: list[Relay]
    event_handlers: dict[str, EventHandler]
    """Every handler of this process by its name, for events that come from others."""
    platform: Platform
    event_transport: EventTransport | None = None
    """Carries events over the bus, where there is one."""

    def offered(self, module: Module) -> dict[str, Any]:
        """What the routes of a module may inject, by parameter name; no values for a module of another process."""
        service = self.services.get(module.name)
        return {module.name: service} | {name: getattr(service, name, None) for name in module.parts}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start services, relays and periodic tasks; at the end stop all of it, and close the pools."""
        async with AsyncExitStack() as stack:
            for database in self.databases.values():
                stack.push_async_callback(database.close)
            for service in self.services.values():
                if hasattr(service, "start"):
                    await service.start()
                if hasattr(service, "stop"):
                    stack.push_async_callback(service.stop)
            if self.platform.extensions is not None:
                await self.platform.extensions.start()
            leadership = Leadership(self.platform.kernel)
            stack.push_async_callback(leadership.close)
            if self.platform.bus is not None:
                await self.platform.bus.start()
                stack.push_async_callback(self.platform.bus.stop)
            tasks = [asyncio.create_task(relay.run()) for relay in self.relays]
            if self.platform.extensions is not None:
                tasks.append(asyncio.create_task(self.platform.extensions.run()))
            if self.event_transport is not None:
                tasks.append(asyncio.create_task(self.event_transport.run()))
            for module in self.modules:
                for task in module.periodic_tasks:
                    work = getattr(self.services[module.name], task.run.__name__)
                    tasks.append(asyncio.create_task(run_periodic_task(module.name, task, work, leadership)))
            stack.push_async_callback(cancel_and_wait, tasks)
            yield


def wire(
    modules: Sequence[Module],
    schemas: Databases,
    platform: Platform,
    webhooks: Subscriber | None = None,
    *,
    settings: Mapping[str, Struct],
    remote_peers: Mapping[str, Peer] | None = None,
) -> Wired:
    """Build the modules, the last of the list first, so that each finds the faces of those below it.

    `remote_peers` has the peer of each module of another process: its face is a stub that calls there.
    """
    remote_peers = remote_peers or {}
    databases: dict[str, Database] = {}
    services: dict[str, Any] = {}
    faces: dict[type, Any] = {}
    for module in reversed(modules):
        if module.name in remote_peers:
            faces[module.api] = remote(module.api, remote_peers[module.name].transport_to(module.name))
            continue
        databases[module.name] = schemas.open(module.name)
        services[module.name] = _service(module, databases[module.name], platform, settings.get(module.name), faces)
        faces[module.api] = local(module.api, services[module.name])
    modules_here = [module for module in modules if module.name in services]
    local_handlers = {
        name: handler for module in modules_here for name, handler in _handlers(module, databases, services)
    }
    event_transport = platform.bus.event_transport(local_handlers) if platform.bus is not None else None
    relays = _relays(modules, databases, local_handlers, remote_peers, event_transport, webhooks)
    return Wired(modules_here, databases, services, relays, local_handlers, platform, event_transport)


def _service(
    module: Module, database: Database, platform: Platform, settings: Struct | None, faces: Mapping[type, Any]
) -> Any:
    """A module's service, with what its constructor wants injected by parameter name.

    Raises `TypeError` for a name that nothing has, even where the parameter has a default: it would be left out unseen.
    """
    available = {"db": database, "platform": platform, "settings": settings}
    available |= {name: faces[api] for name, api in module.needs.items()}
    wanted = inspect.signature(module.service).parameters
    if strange := wanted.keys() - available.keys():
        raise TypeError(f"The service of {module.name} wants {', '.join(sorted(strange))}, which no module is given.")
    return module.service(**{name: value for name, value in available.items() if name in wanted})


def handler_name(module: Module, method: Callable[..., Any]) -> str:
    """The name of an event handler in inboxes and between processes."""
    return f"{module.name}.{method.__name__}"


def _handlers(
    module: Module, databases: Mapping[str, Database], services: Mapping[str, Any]
) -> Iterator[tuple[str, EventHandler]]:
    for method in dict.fromkeys(module.handles.values()):
        name = handler_name(module, method)
        yield name, EventHandler(databases[module.name], name, getattr(services[module.name], method.__name__))


def _relays(
    modules: Sequence[Module],
    databases: Mapping[str, Database],
    local_handlers: Mapping[str, EventHandler],
    remote_peers: Mapping[str, Peer],
    event_transport: EventTransport | None,
    webhooks: Subscriber | None,
) -> list[Relay]:
    """A relay for each outbox of this process, with the subscribers of all modules, in any process, and webhooks."""
    by_kind: dict[str, list[Subscriber]] = defaultdict(list)
    for module in modules:
        for event, method in module.handles.items():
            name = handler_name(module, method)
            by_kind[event.kind].append(
                local_handlers.get(name)
                or _remote_subscriber(remote_peers[module.name], module.name, name, event_transport)
            )
    if webhooks is not None:
        for kind in published_types():
            by_kind[kind].append(webhooks)
    return [Relay(database, by_kind) for database in databases.values()]


def _remote_subscriber(peer: Peer, module: str, name: str, event_transport: EventTransport | None) -> Subscriber:
    direct = RemoteHandler(peer, module, name)
    return direct if event_transport is None else event_transport.subscriber(direct)
