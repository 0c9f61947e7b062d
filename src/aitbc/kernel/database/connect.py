"""New connections: straight to PostgreSQL, or through a pooler such as PgBouncer, which keeps startup parameters
back."""

import ssl
from collections.abc import Mapping
from typing import Any

import asyncpg
from msgspec import structs

from aitbc.kernel.database.target import Connection, PooledConnection, Target
from aitbc.kernel.primitives.errors import ConfigError, Unavailable

PASSED_ON = frozenset({"application_name", "timezone"})
"""The startup parameters that every pooler passes on."""
PROBE_SECONDS = 5
REFUSED = (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError, ssl.SSLError)
_LIMIT = "SELECT setting FROM pg_settings WHERE name = 'statement_timeout'"


async def connect(arguments: Mapping[str, Any]) -> Connection:
    """A new connection with these arguments for asyncpg; a pooled one gets its settings by a statement of their own."""
    if arguments["connection_class"] is not PooledConnection:
        straight: Connection = await asyncpg.connect(**arguments)
        return straight
    settings: Mapping[str, str] = arguments["server_settings"]
    passed = {name: value for name, value in settings.items() if name in PASSED_ON}
    connection: Connection = await asyncpg.connect(**{**arguments, "server_settings": passed})
    try:
        await connection.execute("; ".join(f"SET {name} = '{settings[name]}'" for name in settings.keys() - PASSED_ON))
    except BaseException:
        connection.terminate()
        raise
    return connection


async def through_pooler(target: Target) -> Target:
    """The target, marked as pooled where a pooler stands before the database, and as it is where none answers.

    Raises `ConfigError` for a pooler that does not lend one session to one client for as long as the client stays.
    """
    arguments = target.connect_arguments(application="aitbc start", statement_seconds=PROBE_SECONDS)
    try:
        connection = await asyncpg.connect(**arguments)
    except OSError:
        return target  # whoever connects next reports it
    except asyncpg.PostgresError as error:
        if "startup parameter" not in str(error):
            return target
    else:
        try:
            if await connection.fetchval(_LIMIT) == str(PROBE_SECONDS * 1000):
                return target
        finally:
            connection.terminate()
    pooled = structs.replace(target, pooled=True)
    await _check_sessions(pooled)
    return pooled


async def require_answer(target: Target) -> None:
    """Connect to the database that `database.url` names, once.

    Raises `Unavailable` where nothing answers yet, and `ConfigError` where what answers refuses user, password,
    database or TLS: trying again helps with the first alone.
    """
    place = target.host if target.host.startswith("/") else f"{target.host}:{target.port}"
    try:
        connection = await asyncpg.connect(
            **target.connect_arguments(application="aitbc start", statement_seconds=PROBE_SECONDS)
        )
    except REFUSED as error:
        raise ConfigError(f"database.url: the server at {place} refuses: {error}") from None
    except OSError as error:
        raise Unavailable(f"database.url: no PostgreSQL answers at {place}: {error.strerror or error}") from None
    except asyncpg.PostgresError:
        return  # it answers; whoever connects next reports it
    connection.terminate()


async def reached(target: Target) -> Target:
    """The target, which answers, marked as pooled where a pooler stands there; raises as the two above."""
    await require_answer(target)
    return await through_pooler(target)


async def _check_sessions(target: Target) -> None:
    """Two clients that are there at one time must have two sessions. Raises `ConfigError`."""
    arguments = target.connect_arguments(application="aitbc start", statement_seconds=PROBE_SECONDS)
    arguments["statement_cache_size"] = 0
    clients: list[Connection] = []
    sessions = set()
    try:
        for _ in range(2):
            clients.append(await connect(arguments))
            async with clients[-1].transaction():
                sessions.add(await clients[-1].fetchval("SELECT pg_backend_pid()"))
    finally:
        for client in clients:
            client.terminate()
    if len(sessions) < 2:
        raise ConfigError(
            "database.url: the pooler there changes sessions between transactions, and locks, listeners and prepared "
            "statements live in a session; set pool_mode = session for this database, or name PostgreSQL itself"
        )
