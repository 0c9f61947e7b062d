"""Schemas, roles and grants: brings a database to the shape this version of the program expects, and says what a DBA must run."""

import asyncio
import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import structlog
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, MetaData, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from aitbc.kernel.database.standard_tables import ALL
from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives.errors import AppError

LOCK = 0x41495442  # the advisory lock under which one process at a time migrates
OWNER = "aitbc_owner"
SERVER_VERSION_MIN = 15
INSUFFICIENT_PRIVILEGE = "42501"
LOOK_SECONDS = 0.5
"""How often a process beside the main one looks whether that one has made the schemas."""
SAID_SECONDS = 30.0
"""How often it says that it waits for that."""

log = structlog.get_logger("aitbc.migrations")


class SchemaError(AppError):
    """The database does not have the shape this program needs."""

    code = "schema_error"
    exit_code = 78


@dataclass(frozen=True)
class Part:
    """A schema with its own role and its own line of migrations: a module, or the kernel itself."""

    name: str
    metadata: MetaData

    @property
    def role(self) -> str:
        """The LOGIN role that the running program enters this schema with."""
        return f"aitbc_{self.name}"


def folder() -> Path:
    """Where the migrations lie: `migrations/` of a checkout, or the copy inside an installed package."""
    package = Path(__file__).resolve().parents[2]
    installed = package / "_migrations"
    return installed if installed.is_dir() else package.parents[1] / "migrations"


def role_password(secret: bytes, role: str) -> str:
    """The password of a role, derived from the installation's secret so that every process can know it and no file lists it."""
    return hmac.digest(secret, f"role:{role}".encode(), hashlib.sha256).hex()


def provision_statements(parts: Sequence[Part], owner: str, passwords: dict[str, str] | None) -> list[str]:
    """The SQL that makes roles and schemas, safe to run again. Without passwords the roles get none (local socket only)."""
    statements = ["REVOKE ALL ON SCHEMA public FROM PUBLIC"]
    for part in parts:
        role, word = part.role, "" if passwords is None else f" PASSWORD '{passwords[part.role]}'"
        statements += [
            (
                f"DO $$ BEGIN CREATE ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT; "
                "EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
            ),
            f"CREATE SCHEMA IF NOT EXISTS {part.name} AUTHORIZATION {owner}",
            f"GRANT USAGE ON SCHEMA {part.name} TO {role}",
        ]
        if word:
            statements.append(f"ALTER ROLE {role} LOGIN{word}")
    return statements


def grant_statements(part: Part) -> list[str]:
    """What the role may do with each table, as the table's `info` says: no more than the module needs."""
    statements = [f"GRANT SELECT ON {part.name}.alembic_version TO {part.role}"]
    for table in part.metadata.sorted_tables:
        grants = ", ".join(table.info.get("grants", ALL["grants"]))
        statements.append(f"REVOKE ALL ON {table.fullname} FROM {part.role}")
        statements.append(f"GRANT {grants} ON {table.fullname} TO {part.role}")
    return statements


async def migrate(owner: Target, parts: Sequence[Part], *, secret: bytes | None, provision: bool = True) -> list[str]:
    """Bring every part to its newest migration; answers what was done. One process at a time, the others wait.

    `secret` gives the roles their passwords; none leaves them without (a local socket needs none). With `provision` unset
    the roles and schemas must be there already. Raises `SchemaError` for a database that is too old or made by a newer version.
    """
    engine = create_async_engine("postgresql+asyncpg://", async_creator=_opener(owner), poolclass=NullPool)
    try:
        async with engine.connect() as lock:
            await lock.execute(text(f"SELECT pg_advisory_lock({LOCK})"))
            await lock.commit()
            version = int((await lock.execute(text("SHOW server_version_num"))).scalar_one()) // 10000
            if version < SERVER_VERSION_MIN:
                raise SchemaError(f"PostgreSQL {version} is too old: version {SERVER_VERSION_MIN} or newer is needed.")
            passwords = None if secret is None else {part.role: role_password(secret, part.role) for part in parts}
            statements = provision_statements(parts, owner.user, passwords) if provision else []
            await _provision(lock, statements, owner)
            done = [await _migrate_part(engine, part) for part in parts]
            return [line for lines in done for line in lines]
    finally:
        await engine.dispose()


async def wait_until_migrated(owner: Target, parts: Sequence[Part], *, said_seconds: float = SAID_SECONDS) -> None:
    """Wait until the main process has brought these parts to the shape that this program knows: it alone migrates.

    Raises `SchemaError` for a part that is newer than this program.
    """
    loop = asyncio.get_running_loop()
    said_at = float("-inf")
    while (reason := await _missing(owner, parts)) is not None:
        if loop.time() - said_at >= said_seconds:
            log.warning("waiting_for_the_main_process", reason=reason, remedy="start `aitbc serve` on the main machine")
            said_at = loop.time()
        await asyncio.sleep(LOOK_SECONDS)
    if said_at > float("-inf"):
        log.info("main_process_found")


async def _missing(owner: Target, parts: Sequence[Part]) -> str | None:
    """What is not there yet; none when all is."""
    try:
        connection = await asyncpg.connect(**owner.connect_arguments(application="aitbc start", statement_seconds=300))
    except (OSError, asyncpg.CannotConnectNowError) as error:
        return f"the database does not answer: {error}"
    try:
        await connection.execute(f"SELECT pg_advisory_lock_shared({LOCK})")  # whoever migrates is done with all of it
        for part in parts:
            scripts = ScriptDirectory.from_config(configuration(part))
            known = [step.revision for step in scripts.walk_revisions()]
            at = await revision_of(connection, part)
            if at is not None and at not in known:
                raise _newer(part, at)
            if at != next(iter(known), None):
                return f"the schema {part.name} is at {at or 'nothing'}, and this program needs {known[0]}"
    finally:
        await connection.close()
    return None


def _newer(part: Part, at: str | None) -> SchemaError:
    return SchemaError(
        f"The schema {part.name} is at {at}, which this version does not know; run the newer program, or restore a backup."
    )


async def revision_of(connection: "asyncpg.Connection[asyncpg.Record]", part: Part) -> str | None:
    """The migration that a part of a database stands on; none where there is none."""
    try:
        found = await connection.fetchval(f"SELECT version_num FROM {part.name}.alembic_version")  # noqa: S608
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        return None
    return None if found is None else str(found)


async def _provision(connection: AsyncConnection, statements: Sequence[str], owner: Target) -> None:
    """Make roles and schemas. Raises `SchemaError` where this user may not."""
    try:
        for statement in statements:
            await connection.exec_driver_sql(statement)
        await connection.commit()
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != INSUFFICIENT_PRIVILEGE:
            raise
        raise SchemaError(
            f"{owner.user} may not make the roles and schemas of {owner.database}: let a DBA run what "
            "`aitbc db provision --sql` prints, and set database.provision = false"
        ) from None


def _opener(target: Target) -> Any:
    arguments = target.connect_arguments(application="aitbc migrations", statement_seconds=300)
    arguments["server_settings"] |= {"lock_timeout": "60000"}
    return lambda: asyncpg.connect(**arguments)


async def _migrate_part(engine: Any, part: Part) -> list[str]:
    async with engine.connect() as connection:
        return list(await connection.run_sync(_upgrade, part))


def _upgrade(connection: Connection, part: Part) -> list[str]:
    before = _revision(connection, part)
    config = configuration(part, connection)
    head = ScriptDirectory.from_config(config).get_current_head()
    if before == head:
        _grant(connection, part)
        return []
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise _newer(part, before) from error
    _grant(connection, part)
    return [f"{part.name}: {before or 'nothing'} -> {head}"]


def _grant(connection: Connection, part: Part) -> None:
    for statement in grant_statements(part):
        connection.exec_driver_sql(statement)
    connection.commit()


def _revision(connection: Connection, part: Part) -> str | None:
    context = MigrationContext.configure(connection, opts={"version_table_schema": part.name})
    revision = context.get_current_revision()
    connection.rollback()
    return revision


def configuration(part: Part, connection: Connection | None = None) -> Config:
    """The Alembic configuration of one part."""
    config = Config()
    config.set_main_option("script_location", str(folder()).replace("%", "%%"))
    config.set_main_option("version_locations", str(folder() / part.name).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.attributes["part"] = part
    config.attributes["connection"] = connection
    return config


def head_of(part: Part) -> str:
    """The newest migration of a part that this program knows."""
    return ScriptDirectory.from_config(configuration(part)).get_current_head() or "none"


async def differences(owner: Target, parts: Sequence[Part]) -> list[str]:
    """Where the migrated database and the models disagree; empty when `alembic check` would be clean."""
    engine = create_async_engine("postgresql+asyncpg://", async_creator=_opener(owner), poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            found: list[str] = []
            for part in parts:
                found += await connection.run_sync(_compare, part)
            return found
    finally:
        await engine.dispose()


def _compare(connection: Connection, part: Part) -> list[str]:
    options = {"version_table_schema": part.name, "include_schemas": True, "include_name": include_schema(part.name)}
    context = MigrationContext.configure(connection, opts={**options, "compare_type": True})
    found = [f"{part.name}: {difference}" for difference in compare_metadata(context, part.metadata)]
    connection.rollback()
    return found


def include_schema(schema: str) -> Any:
    """An `include_name` filter that sees one schema and not the table of versions in it."""

    def include(name: str | None, kind: str, parents: Any) -> bool:
        if kind == "schema":
            return name == schema
        return not (kind == "table" and name == "alembic_version")

    return include


async def new_revision(owner: Target, part: Part, message: str) -> Path:
    """Write the next migration of a part from what its models say and the database does not."""
    engine = create_async_engine("postgresql+asyncpg://", async_creator=_opener(owner), poolclass=NullPool)

    def write(connection: Connection) -> Path:
        config = configuration(part, connection)
        numbers = [int(path.name[:4]) for path in (folder() / part.name).glob("[0-9][0-9][0-9][0-9]_*.py")]
        number = f"{max(numbers, default=0) + 1:04d}"
        slug = re.sub(r"[^a-z0-9]+", "_", message.lower()).strip("_")
        script = command.revision(config, message, autogenerate=True, rev_id=f"{part.name}_{number}")
        assert script is not None and not isinstance(script, list)
        written = Path(script.path)
        return written.rename(written.with_name(f"{number}_{slug}.py"))

    try:
        async with engine.connect() as connection:
            return await connection.run_sync(write)
    finally:
        await engine.dispose()


async def is_at_head(connection: "asyncpg.Connection[asyncpg.Record]", part: Part) -> bool:
    """Whether the schema is at the newest migration this program knows."""
    found = await connection.fetchval(f"SELECT version_num FROM {part.name}.alembic_version")  # noqa: S608
    return bool(found == ScriptDirectory.from_config(configuration(part)).get_current_head())
