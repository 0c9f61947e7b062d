"""Migrate schemas, roles and grants to this program's version, or print the SQL that a DBA must run."""

import asyncio
import functools
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
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from aitbc.kernel.database.connect import connect
from aitbc.kernel.database.standard_tables import ALL
from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives.errors import AppError

LOCK = 0x41495442  # the advisory lock that a migrating process holds
OWNER = "aitbc_owner"
SERVER_VERSION_MIN = 15
POLL_SECONDS = 0.5
"""How often a process beside the main one checks whether that one has migrated the schemas."""
LOG_SECONDS = 30.0
"""How often it logs that it is waiting for that."""

log = structlog.get_logger("aitbc.migrations")


class SchemaError(AppError):
    """The database does not have the shape this program needs."""

    code = "schema_error"
    exit_code = 78


@dataclass(frozen=True)
class Part:
    """A schema with its own role and its own migrations: a module's, or the kernel's."""

    name: str
    metadata: MetaData

    @property
    def role(self) -> str:
        """The LOGIN role that the running program uses for this schema."""
        return f"aitbc_{self.name}"


def migrations_folder() -> Path:
    """The folder of the migrations: `migrations/` of a checkout, or the copy inside an installed package."""
    package = Path(__file__).resolve().parents[2]
    installed = package / "_migrations"
    return installed if installed.is_dir() else package.parents[1] / "migrations"


def role_password(secret: bytes, role: str) -> str:
    """The password of a role, derived from the installation's secret: every process can compute it, no file has it."""
    return hmac.digest(secret, f"role:{role}".encode(), hashlib.sha256).hex()


def provision_statements(parts: Sequence[Part], owner: str, passwords: dict[str, str] | None) -> list[str]:
    """The SQL that creates roles and schemas, safe to run again; without passwords, for a local socket only."""
    statements = ["REVOKE ALL ON SCHEMA public FROM PUBLIC"]
    for part in parts:
        role, password = part.role, "" if passwords is None else f" PASSWORD '{passwords[part.role]}'"
        statements += [
            (
                f"DO $$ BEGIN CREATE ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT; "
                "EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
            ),
            f"CREATE SCHEMA IF NOT EXISTS {part.name} AUTHORIZATION {owner}",
            f"GRANT USAGE ON SCHEMA {part.name} TO {role}",
        ]
        if password:
            statements.append(f"ALTER ROLE {role} LOGIN{password}")
    return statements


def grant_statements(part: Part) -> list[str]:
    """The GRANTs of a role, from each table's `info`: no more than the module needs."""
    statements = [f"GRANT SELECT ON {part.name}.alembic_version TO {part.role}"]
    for table in part.metadata.sorted_tables:
        grants = ", ".join(table.info.get("grants", ALL["grants"]))
        statements.append(f"REVOKE ALL ON {table.fullname} FROM {part.role}")
        statements.append(f"GRANT {grants} ON {table.fullname} TO {part.role}")
    return statements


async def migrate(owner: Target, parts: Sequence[Part], *, secret: bytes | None, provision: bool = True) -> list[str]:
    """Migrate every part to its newest revision; returns what was done. One process at a time, the others wait.

    `secret` gives the roles their passwords; none leaves them without (a local socket needs none). With `provision`
    unset the roles and schemas must exist. Raises `SchemaError` for a server that is too old, or a schema that is too
    new.
    """
    engine = create_async_engine("postgresql+asyncpg://", async_creator=_connector(owner), poolclass=NullPool)
    try:
        async with engine.connect() as lock:
            await lock.execute(text(f"SELECT pg_advisory_lock({LOCK})"))
            await lock.commit()
            version = int((await lock.execute(text("SHOW server_version_num"))).scalar_one()) // 10000
            if version < SERVER_VERSION_MIN:
                raise SchemaError(f"PostgreSQL {version} is too old: version {SERVER_VERSION_MIN} or newer is needed.")
            passwords = None if secret is None else {part.role: role_password(secret, part.role) for part in parts}
            if provision:
                await _provision(lock, provision_statements(parts, owner.user, passwords), owner)
            done = [await _migrate_part(lock, part) for part in parts]
            return [line for line in done if line is not None]
    finally:
        await engine.dispose()


async def wait_until_migrated(owner: Target, parts: Sequence[Part], *, log_seconds: float = LOG_SECONDS) -> None:
    """Wait until the main process, which alone migrates, has migrated these parts to this program's version.

    Raises `SchemaError` for a part that is newer than this program.
    """
    loop = asyncio.get_running_loop()
    logged_at = float("-inf")
    while (reason := await _pending_reason(owner, parts)) is not None:
        if loop.time() - logged_at >= log_seconds:
            log.warning("waiting_for_the_main_process", reason=reason, remedy="start `aitbc serve` on the main machine")
            logged_at = loop.time()
        await asyncio.sleep(POLL_SECONDS)
    if logged_at > float("-inf"):
        log.info("main_process_found")


async def _pending_reason(owner: Target, parts: Sequence[Part]) -> str | None:
    """Why the parts are not ready yet; none when they are."""
    try:
        connection = await connect(owner.connect_arguments(application="aitbc start", statement_seconds=300))
    except (OSError, asyncpg.CannotConnectNowError) as error:
        return f"the database does not answer: {error}"
    try:
        await connection.execute(f"SELECT pg_advisory_lock_shared({LOCK})")  # waits while another process migrates
        for part in parts:
            known = _revisions(migrations_folder() / part.name)
            at = await revision_of(connection, part)
            if at is not None and at not in known:
                raise _too_new(part, at)
            if at != next(iter(known), None):
                return f"the schema {part.name} is at {at or 'nothing'}, and this program needs {known[0]}"
    finally:
        await connection.close()
    return None


def _too_new(part: Part, at: str | None) -> SchemaError:
    return SchemaError(
        f"The schema {part.name} is at {at}, which this version does not know; run the newer program, or restore a backup."
    )


async def revision_of(connection: "asyncpg.Connection[asyncpg.Record]", part: Part) -> str | None:
    """The migration that a part's schema is at; none for a schema that is missing or empty."""
    try:
        found = await connection.fetchval(f"SELECT version_num FROM {part.name}.alembic_version")  # noqa: S608
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        return None
    return None if found is None else str(found)


async def _provision(connection: AsyncConnection, statements: Sequence[str], owner: Target) -> None:
    """Create roles and schemas. Raises `SchemaError` where this user may not."""
    try:
        await _execute(connection, statements)
    except asyncpg.InsufficientPrivilegeError:
        raise SchemaError(
            f"{owner.user} may not make the roles and schemas of {owner.database}: let a DBA run what "
            "`aitbc db provision --sql` prints, and set database.provision = false"
        ) from None


async def _execute(connection: AsyncConnection, statements: Sequence[str]) -> None:
    """Execute statements in one transaction and one round trip."""
    await connection.commit()
    driver: Any = (await connection.get_raw_connection()).driver_connection
    await driver.execute(";\n".join(statements))


def _connector(target: Target) -> Any:
    arguments = target.connect_arguments(application="aitbc migrations", statement_seconds=300)
    arguments["server_settings"] |= {"lock_timeout": "60000"}
    return lambda: connect(arguments)


async def _migrate_part(connection: AsyncConnection, part: Part) -> str | None:
    """Migrate a part and set its grants; returns from where to where, or none when it was at its newest revision."""
    done = await connection.run_sync(_upgrade, part)
    await _execute(connection, grant_statements(part))
    return done


def _upgrade(connection: Connection, part: Part) -> str | None:
    before = _revision(connection, part)
    config = configuration(part, connection)
    head = _head(migrations_folder() / part.name)
    if before == head:
        return None
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise _too_new(part, before) from error
    return f"{part.name}: {before or 'nothing'} -> {head}"


def _revision(connection: Connection, part: Part) -> str | None:
    context = MigrationContext.configure(connection, opts={"version_table_schema": part.name})
    revision = context.get_current_revision()
    connection.rollback()
    return revision


def configuration(part: Part, connection: Connection | None = None) -> Config:
    """The Alembic configuration of one part."""
    config = _located(migrations_folder() / part.name)
    config.attributes["part"] = part
    config.attributes["connection"] = connection
    return config


def head_of(part: Part) -> str:
    """The newest migration of a part that this program knows."""
    return _head(migrations_folder() / part.name) or "none"


def _located(folder: Path) -> Config:
    config = Config()
    config.set_main_option("script_location", str(folder.parent).replace("%", "%%"))
    config.set_main_option("version_locations", str(folder).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    return config


def _head(folder: Path) -> str | None:
    """The newest migration in a folder."""
    return next(iter(_revisions(folder)), None)


@functools.cache
def _revisions(folder: Path) -> tuple[str, ...]:
    """The migrations in a folder, the newest first; its files stay as they are for as long as this program runs."""
    return tuple(step.revision for step in ScriptDirectory.from_config(_located(folder)).walk_revisions())


async def differences(owner: Target, parts: Sequence[Part]) -> list[str]:
    """The differences between the migrated database and the models; empty when `alembic check` passes."""
    engine = create_async_engine("postgresql+asyncpg://", async_creator=_connector(owner), poolclass=NullPool)
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
    """An `include_name` filter for one schema, without its table `alembic_version`."""

    def include(name: str | None, kind: str, parents: Any) -> bool:
        if kind == "schema":
            return name == schema
        return not (kind == "table" and name == "alembic_version")

    return include


async def new_revision(owner: Target, part: Part, message: str) -> Path:
    """Write the next migration of a part, from the differences between its models and the database."""
    engine = create_async_engine("postgresql+asyncpg://", async_creator=_connector(owner), poolclass=NullPool)

    def write(connection: Connection) -> Path:
        config = configuration(part, connection)
        numbers = [int(path.name[:4]) for path in (migrations_folder() / part.name).glob("[0-9][0-9][0-9][0-9]_*.py")]
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
    """Whether the schema is at the newest migration that this program knows."""
    found = await connection.fetchval(f"SELECT version_num FROM {part.name}.alembic_version")  # noqa: S608
    return bool(found == ScriptDirectory.from_config(configuration(part)).get_current_head())
