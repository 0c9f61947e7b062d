"""The directory: which process serves which module, asked of the processes of the installation."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec import Struct

from aitbc.server.cluster.peers import Peer, Process


class Placed(Struct, frozen=True, kw_only=True):
    """Where a module runs, as described by the process that serves it."""

    module: str
    """The module. For example `ai`."""
    process: str
    """`main`, or the module's own name. For example `main`."""
    answers: bool
    """Whether its process answers now. For example `true`."""
    pid: int | None = None
    """The number of its process; null where it is unknown. For example `4711`."""
    ports: tuple[int, ...] = ()
    """Ports on which this module answers, beside the gateway's."""
    trusting: tuple[int, ...] = ()
    """Those of them on which callers from that machine need no key: they act as the account `local`."""
    reason: str | None = None
    """Why its process is not started again, where it refused its configuration."""
    version: str | None = None
    """The release that it runs. For example `0.1.0`."""
    started_at: datetime | None = None
    """When its process started."""

    @classmethod
    def of(cls, module: str, name: str, process: Process | None, reason: str | None = None) -> "Placed":
        """A module of a process; none for a process that does not answer."""
        if process is None:
            return cls(module=module, process=name, answers=False, reason=reason)
        ports = tuple(int(port) for port, modules in process.ports.items() if module in modules)
        return cls(
            module=module,
            process=name,
            answers=module in process.modules,
            pid=process.pid,
            ports=ports,
            trusting=tuple(port for port in ports if port in process.trusting),
            version=process.version,
            started_at=process.started_at,
        )


class Directory:
    """The directory of the installation: which process serves which module, asked of the processes."""

    def __init__(self, own: Process, modules: Sequence[str], peers: Mapping[str, Peer]) -> None:
        self._own = own
        self._modules = modules
        self._peers = peers

    async def placements(self) -> list[Placed]:
        """The placement of every module."""
        asked = list({one.name: one for one in self._peers.values()}.values())
        answers = await asyncio.gather(*(one.process() for one in asked), return_exceptions=True)
        running = {self._own.name: self._own, **{one.name: one for one in answers if isinstance(one, Process)}}
        names = {module: far.name for module, far in self._peers.items()}
        found = {module: names.get(module, self._own.name) for module in self._modules}
        gave_up = {module: far.gave_up for module, far in self._peers.items()}
        return [Placed.of(module, name, running.get(name), gave_up.get(module)) for module, name in found.items()]
