"""What an operator looks into while everything runs: settings with their origin, the database, levels of the log."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.telemetry import logs
from aitbc.server.cluster.peers import Peer
from aitbc.server.config.loading import Row

TABLES_SHOWN = 25
STATEMENTS_SHOWN = 25
SIZES = """
SELECT n.nspname AS module, c.relname AS name, pg_total_relation_size(c.oid) AS size_bytes,
       greatest(c.reltuples, 0)::bigint AS rows
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname = ANY($1)"""
AT_WORK = """
SELECT pid, query_start, state, wait_event_type, wait_event, pg_blocking_pids(pid) AS blocked_by,
       left(query, 500) AS text
FROM pg_stat_activity
WHERE usename = current_user AND datname = current_database() AND pid <> pg_backend_pid()
  AND state <> 'idle' AND query_start IS NOT NULL"""
"""A role sees the statements of its own connections only, so each module's is asked."""
IS_COUNTED = "SELECT to_regclass('pg_stat_statements') IS NOT NULL"
SLOWEST = """
SELECT left(query, 500) AS text, calls, total_exec_time / 1000 AS total_seconds,
       mean_exec_time / 1000 AS mean_seconds, max_exec_time / 1000 AS max_seconds
FROM pg_stat_statements
WHERE userid = (SELECT oid FROM pg_roles WHERE rolname = current_user)
ORDER BY total_exec_time DESC LIMIT 25"""


class OperatingSetting(Struct, frozen=True, kw_only=True):
    """A setting as it holds."""

    name: str
    """Its dotted name. For example `server.port`."""
    value: str
    """Its value as TOML; a secret is masked. For example `8080`."""
    origin: str
    """Where it comes from: `flag`, a variable, a file or `default`. For example `/etc/aitbc/aitbc.toml`."""


class SchemaSize(Struct, frozen=True, kw_only=True):
    """What a module stores."""

    module: str
    """The module, `kernel` too. For example `ai`."""
    size_bytes: int
    """All of its tables with their indexes, in bytes. For example `1048576`."""


class TableSize(Struct, frozen=True, kw_only=True):
    """A table."""

    module: str
    """Whose it is. For example `ai`."""
    name: str
    """The table. For example `jobs`."""
    size_bytes: int
    """With its indexes, in bytes. For example `524288`."""
    rows: int
    """How many rows it has, as last estimated by the database. For example `1200`."""


class RunningStatement(Struct, frozen=True, kw_only=True):
    """A statement that the database works on now, or a transaction that stands open."""

    module: str
    """Whose it is. For example `trading`."""
    process_id: int
    """The database's process. For example `4711`."""
    activity: str
    """What it does. For example `active`."""
    seconds: float
    """Since when, in seconds. For example `0.4`."""
    waits_for: str | None
    """What it waits for; null where it works. For example `Lock transactionid`."""
    blocked_by: list[int]
    """The database's processes whose locks it waits for. For example `[4712]`."""
    text: str
    """Its text without values. For example `SELECT * FROM ai.jobs WHERE id = $1`."""


class SlowStatement(Struct, frozen=True, kw_only=True):
    """A statement, with the time that all of its executions took."""

    module: str
    """Whose it is. For example `ai`."""
    calls: int
    """How often it ran. For example `120`."""
    total_seconds: float
    """All of its time, in seconds. For example `1.5`."""
    mean_seconds: float
    """Its time on average, in seconds. For example `0.0125`."""
    max_seconds: float
    """Its longest time, in seconds. For example `0.2`."""
    text: str
    """Its text without values. For example `SELECT * FROM ai.jobs WHERE id = $1`."""


class DatabaseState(Struct, frozen=True, kw_only=True):
    """The database as it is now."""

    version: str
    """Its version. For example `18.1`."""
    size_bytes: int
    """All of it, in bytes. For example `20971520`."""
    schemas: list[SchemaSize]
    """What each module stores, the largest first."""
    tables: list[TableSize]
    """The largest tables."""
    running: list[RunningStatement]
    """What it works on now, the longest first."""
    slowest: list[SlowStatement] | None
    """The statements that took most time in all; null where the database does not count, for want of the extension
    pg_stat_statements."""


class ProcessLogLevels(Struct, frozen=True, kw_only=True):
    """From which level on a process logs."""

    process: str
    """The process. For example `main`."""
    levels: dict[str, str]
    """By module or library, `*` for all without a level of their own; empty where the process does not answer.
    For example `{"*": "info"}`."""


class DatabaseInspection:
    """Looks into the database, with the role of each module."""

    def __init__(self, databases: Mapping[str, Database]) -> None:
        self._databases = databases

    async def state(self) -> DatabaseState:
        """Sizes, and what it works on."""
        modules = sorted(self._databases)
        async with self._databases["kernel"].raw() as connection:
            size = await connection.fetchval("SELECT pg_database_size(current_database())")
            version = await connection.fetchval("SELECT current_setting('server_version')")
            rows = await connection.fetch(SIZES, modules)
            is_counted = await connection.fetchval(IS_COUNTED)
        tables = sorted((TableSize(**dict(row)) for row in rows), key=lambda one: -one.size_bytes)
        sizes = {name: sum(one.size_bytes for one in tables if one.module == name) for name in modules}
        return DatabaseState(
            version=version,
            size_bytes=size,
            schemas=[
                SchemaSize(module=name, size_bytes=sizes[name]) for name in sorted(sizes, key=lambda n: -sizes[n])
            ],
            tables=tables[:TABLES_SHOWN],
            running=await self._running(),
            slowest=await self._slowest() if is_counted else None,
        )

    async def _running(self) -> list[RunningStatement]:
        found: list[RunningStatement] = []
        for name, database in self._databases.items():
            async with database.raw() as connection:
                found += [_running(name, dict(row)) for row in await connection.fetch(AT_WORK)]
        return sorted(found, key=lambda one: -one.seconds)[:STATEMENTS_SHOWN]

    async def _slowest(self) -> list[SlowStatement]:
        found: list[SlowStatement] = []
        for name, database in self._databases.items():
            async with database.raw() as connection:
                found += [SlowStatement(module=name, **dict(row)) for row in await connection.fetch(SLOWEST)]
        return sorted(found, key=lambda one: -one.total_seconds)[:STATEMENTS_SHOWN]


def _running(module: str, row: Mapping[str, Any]) -> RunningStatement:
    waits = f"{row['wait_event_type']} {row['wait_event']}" if row["wait_event_type"] else None
    return RunningStatement(
        module=module,
        process_id=row["pid"],
        activity=row["state"],
        seconds=max((now() - row["query_start"]).total_seconds(), 0.0),
        waits_for=waits,
        blocked_by=list(row["blocked_by"]),
        text=row["text"],
    )


class LogLevels:
    """The levels of the log in every process, until it is started again."""

    def __init__(self, process: str, peers: Mapping[str, Peer], kernel: Database) -> None:
        """`peers` are the other processes, by module."""
        self._process = process
        self._peers = {peer.name: peer for peer in peers.values() if peer.name != process}
        self._kernel = kernel

    async def all(self) -> Sequence[ProcessLogLevels]:
        """The levels of every process."""
        names = sorted(self._peers)
        far = await asyncio.gather(*(self._peers[name].log_levels({}) for name in names), return_exceptions=True)
        told = zip(names, far, strict=True)
        return [
            ProcessLogLevels(process=self._process, levels=dict(logs.current.levels.shown())),
            *(
                ProcessLogLevels(process=name, levels=dict(one) if isinstance(one, Mapping) else {})
                for name, one in told
            ),
        ]

    async def set(self, who: Principal, logger: str, level: str) -> Sequence[ProcessLogLevels]:
        """Log from this level on, in every process.

        Raises `Unavailable` where one of them does not answer: then those that did have it, and it may be sent again.
        """
        before = logs.current.levels.shown().get(logger)
        if before != level:
            async with self._kernel.unit_of_work() as uow:
                await uow.audit(who.account, who.key, "log.level", logger, before=before, after=level)
        set_own_levels({logger: level})
        for peer in self._peers.values():
            await peer.log_levels({logger: level})
        return await self.all()


def set_own_levels(wanted: Mapping[str, str]) -> Mapping[str, str]:
    """Set levels of this process, and answer all of them."""
    for logger, level in wanted.items():
        logs.current.levels.set(logger, level)
    return logs.current.levels.shown()


def settings_shown(described: Sequence[Row]) -> Sequence[OperatingSetting]:
    """Settings as the API tells them."""
    return [OperatingSetting(name=row.key, value=row.value, origin=row.origin) for row in described]
