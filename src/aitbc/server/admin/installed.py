"""The installation as its own modules may look at it: its parts, their figures, and the upkeep of its database."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from aitbc.kernel.database.connect import connect
from aitbc.kernel.database.unit_of_work import Database, Target
from aitbc.kernel.events.bus import Bus
from aitbc.kernel.platform import Finding, InstalledPart
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError, NotDone
from aitbc.kernel.telemetry import logs
from aitbc.kernel.telemetry.metrics import Metrics
from aitbc.server.admin.inspection import set_own_levels
from aitbc.server.admin.operations import Operations
from aitbc.server.admin.retention import Retention
from aitbc.server.cluster.peers import FIGURES_OPERATION, LEVELS_OPERATION, UPKEEP_OPERATION, Peer
from aitbc.server.config.placement import MAIN

EVENT_DELAY_MAX = timedelta(seconds=60)
"""An event that is due for longer shows that its module does not do all of its work."""
FIGURES_SECONDS = 5.0
"""How long another process may take to tell its figures."""
REINDEX_SECONDS = 600.0
BACKUPS_KEPT = 5
"""How many backups of its own making the server keeps; the oldest goes for a new one."""
OLDEST_DUE = "SELECT min(due_at) FROM {schema}.outbox WHERE delivered_at IS NULL AND dead_at IS NULL"

Backup = Callable[[Path], object]
"""Writes a backup of this installation into a file; it blocks."""
Check = Callable[[], Awaitable[str | None]]


class InstalledParts:
    """Looks at the parts of an installation from inside of one of its processes."""

    def __init__(
        self, process: str, databases: Mapping[str, Database], peers: Mapping[str, Peer], bus: Bus | None = None
    ) -> None:
        """`databases` are those of this process, by module.

        `peers` has the peer of each module of another process, and under its own name that of the main process.
        """
        self._process = process
        self._databases = databases
        self._peers = peers
        self._bus = bus
        self.checks: Mapping[str, Check] = {}
        """What this process checks of itself beside its databases, by name."""

    def parts(self) -> Sequence[InstalledPart]:
        """Its processes, modules, the databases of this process, and the bus where there is one."""
        far = {peer.name for peer in self._peers.values()}
        modules = sorted({*self._databases, *self._peers} - {"kernel", MAIN})
        return [
            *(InstalledPart("process", name) for name in sorted({self._process, *far})),
            *(InstalledPart("module", name) for name in modules),
            *(InstalledPart("database", name) for name in sorted(self._databases)),
            *([InstalledPart("bus", "nats")] if self._bus is not None else []),
        ]

    async def look(self, part: InstalledPart) -> Finding:
        """Look at one of the parts now; whatever it raises is what was found."""
        try:
            return await self._look(part)
        except AppError as error:
            return Finding(works=False, reason=error.message)
        except OSError as error:
            return Finding(works=False, reason=type(error).__name__)

    async def _look(self, part: InstalledPart) -> Finding:
        if part.kind == "bus":
            is_up = self._bus is not None and await self._bus.publish("monitoring.look", b"")
            return _finding(None if is_up else "It is not connected.")
        if part.kind == "process" and part.name != self._process:
            peer = next((one for one in self._peers.values() if one.name == part.name), None)
            return _gone() if peer is None else await self._look_at_peer(peer)
        if part.kind == "process":
            return _finding(next(filter(None, [await check() for check in self.checks.values()]), None))
        if part.name in self._databases:
            return await _look_at_database(self._databases[part.name], events=part.kind == "module")
        peer = self._peers.get(part.name)
        return _gone() if peer is None else await self._look_at_peer(peer)

    async def _look_at_peer(self, peer: Peer) -> Finding:
        """Whether another process is ready; that one which it asks in turn is not, is no fault of its own."""
        if peer.gave_up is not None:
            return Finding(works=False, reason=peer.gave_up)
        try:
            failing = await peer.failing_checks()
        except OSError:
            return Finding(works=False, reason="Its process does not answer.")
        own = [name for name in failing if name not in self._peers and name not in self._databases]
        return _finding(f"It is not ready: {', '.join(own)}." if own else None)


def _gone() -> Finding:
    return Finding(works=False, reason="This installation has no such part.")


def _finding(reason: str | None) -> Finding:
    return Finding(works=reason is None, reason=reason or "")


async def _look_at_database(database: Database, *, events: bool) -> Finding:
    """Whether a module's role is answered; of a module also whether its events go out."""
    async with database.raw() as connection:
        due = await connection.fetchval(OLDEST_DUE.format(schema=database.module) if events else "SELECT NULL")
    late = timedelta() if due is None else now() - due
    if late > EVENT_DELAY_MAX:
        return Finding(works=True, reason=f"Its events are late by {round(late.total_seconds())} s.")
    return Finding(works=True)


class Installed:
    """What modules may ask of the installation, and have done to it."""

    def __init__(self, parts: InstalledParts, peers: Mapping[str, Peer]) -> None:
        self.looks = parts
        self.peers = peers
        self.upkeeper: Upkeep | None = None
        """Does it, in the main process; the others ask that one."""
        self.metrics: Metrics | None = None
        """The metrics of this process, once it serves."""

    def parts(self) -> Sequence[InstalledPart]:
        """What the installation is made of."""
        return self.looks.parts()

    async def look(self, part: InstalledPart) -> Finding:
        """Look at one of its parts now."""
        return await self.looks.look(part)

    async def own_figures(self) -> Mapping[str, float]:
        """The metrics of this process."""
        return {} if self.metrics is None else await self.metrics.samples()

    async def figures(self) -> Mapping[str, float]:
        """The metrics of all processes: counters are added up, of gauges the largest is taken."""
        far = list({peer.name: peer for peer in self.peers.values()}.values())
        found = [await self.own_figures(), *await asyncio.gather(*map(_figures_of, far))]
        merged: dict[str, float] = {}
        for samples in found:
            for name, value in samples.items():
                is_counter = name.partition("{")[0].endswith("_total")
                before = merged.get(name)
                merged[name] = value if before is None else before + value if is_counter else max(before, value)
        return merged

    def logs(self, level: str, limit: int) -> Sequence[Mapping[str, Any]]:
        """The newest lines that this process logged at this level or above, newest first."""
        return logs.current.recent(level, limit)

    async def upkeep(self, action: str) -> Mapping[str, Any]:
        """Do a piece of upkeep, here or in the main process. Raises `NotDone` for what cannot be done."""
        if self.upkeeper is not None:
            return await self.upkeeper.run(action)
        return await self.peers[MAIN].upkeep(action)

    def own_operations(self) -> Mapping[str, Callable[[bytes], Awaitable[Any]]]:
        """What other processes may ask of this one."""

        async def figures(_body: bytes) -> Any:
            return await self.own_figures()

        async def upkeep(body: bytes) -> Any:
            if self.upkeeper is None:
                raise NotDone("Only the main process can do that.")
            return await self.upkeeper.run(msgspec.json.decode(body, type=str))

        async def levels(body: bytes) -> Any:
            return set_own_levels(msgspec.json.decode(body, type=dict[str, logs.Level]))

        return {FIGURES_OPERATION: figures, UPKEEP_OPERATION: upkeep, LEVELS_OPERATION: levels}


async def _figures_of(peer: Peer) -> Mapping[str, float]:
    with suppress(AppError, TimeoutError):
        async with asyncio.timeout(FIGURES_SECONDS):
            return await peer.figures()
    return {}


class Upkeep:
    """Cleans up, reindexes and backs up the database of the installation, in its main process."""

    def __init__(
        self, operations: Operations, owner: Target, schemas: Sequence[str], state_dir: Path, retention: Retention
    ) -> None:
        self._operations = operations
        self._owner = owner
        self._schemas = schemas
        self._folder = state_dir / "backups"
        self._lock = asyncio.Lock()
        self.backup: Backup | None = None
        """Writes a backup; none where this process was not started by `aitbc serve`."""
        self._retention = retention

    async def run(self, action: str) -> Mapping[str, Any]:
        """Do one action, one at a time. Raises `NotDone` for one that cannot be done here."""
        actions = {"cleanup": self._clean_up, "reindex": self._reindex, "backup": self._back_up}
        if action not in actions:
            raise NotDone(f"There is no upkeep {action}: there are {', '.join(actions)}.")
        async with self._lock:
            return await actions[action]()

    async def _clean_up(self) -> Mapping[str, Any]:
        return {"removed": await self._operations.purge(self._retention)}

    async def _reindex(self) -> Mapping[str, Any]:
        arguments = self._owner.connect_arguments(application="aitbc reindex", statement_seconds=REINDEX_SECONDS)
        connection = await connect(arguments)
        try:
            for schema in self._schemas:
                await connection.execute(f'REINDEX SCHEMA CONCURRENTLY "{schema}"', timeout=REINDEX_SECONDS)
            count = await connection.fetchval(
                "SELECT count(*) FROM pg_indexes WHERE schemaname = ANY($1::text[])", list(self._schemas)
            )
        finally:
            await connection.close()
        return {"schemas": list(self._schemas), "indexes": count}

    async def _back_up(self) -> Mapping[str, Any]:
        if self.backup is None:
            raise NotDone("This process makes no backups; `aitbc backup FILE` does.")
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = self._folder / f"aitbc-{now():%Y%m%dT%H%M%S%f}.tar"
        await asyncio.to_thread(self.backup, file)
        for old in sorted(self._folder.glob("aitbc-*.tar"))[:-BACKUPS_KEPT]:
            old.unlink(missing_ok=True)
        return {"file": str(file), "bytes": file.stat().st_size, "kept": BACKUPS_KEPT}
