"""Database commands of the command line: provisioning SQL, migration, schema check, and psql."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from msgspec import structs

from aitbc.kernel.database.connect import reached
from aitbc.kernel.database.migrations import OWNER, differences, migrate, provision_statements, role_password
from aitbc.kernel.database.target import CHECKED_MODES, Target
from aitbc.kernel.module import Module
from aitbc.kernel.primitives.errors import ConfigError, Conflict, NotFound
from aitbc.server.config.installation import (
    configured_target,
    parts,
    running_server,
    secret_of,
    settings_of,
    start_embedded,
)
from aitbc.server.config.loading import Loaded
from aitbc.server.postgres.embedded import EmbeddedPostgres, binaries


class NoSuchModule(NotFound):
    """There is no such module."""

    code = "no_such_module"


class NoOwnDatabase(Conflict):
    """The server brings its own database, which needs no provisioning; set database.url to use another."""

    code = "no_own_database"


@contextmanager
def owner_target(loaded: Loaded) -> Iterator[tuple[Target, bool]]:
    """The address of the configured database as its owner, and whether it is the embedded one.

    The embedded one is used where a server runs it, and else started for as long as the block.
    """
    settings = loaded.settings
    if (configured := configured_target(loaded)) is not None:
        yield asyncio.run(reached(configured)), False
        return
    if (running := running_server(settings.state_dir)) is not None and running.database is not None:
        yield running.database, True
        return
    settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    postgres = EmbeddedPostgres(settings.state_dir / "postgres")
    try:
        yield start_embedded(postgres), True
    finally:
        postgres.stop()


def client_program(name: str, target: Target) -> str:
    """A client program of PostgreSQL for this database: our own, which has no TLS, or the system's where TLS is
    asked for.

    Raises `ConfigError` where the system has none.
    """
    if target.sslmode not in CHECKED_MODES or target.host.startswith("/"):
        return str(binaries() / name)
    found = shutil.which(name)
    if found is None:
        raise ConfigError(
            f"database.url asks for TLS (sslmode={target.sslmode}), and the {name} that comes with aitbc has none: install "
            "PostgreSQL's own programs, on Debian with `apt-get install postgresql-client`"
        )
    return found


def provision_sql(modules: Sequence[Module]) -> str:
    """The SQL that a DBA runs once, as the owner of the database, where the server may not create roles.

    It holds the passwords of the roles. Raises `NoOwnDatabase` for an installation on the embedded server.
    """
    loaded = settings_of(modules, {})
    if (target := configured_target(loaded)) is None:
        raise NoOwnDatabase
    everything, secret = parts(modules), secret_of(loaded.settings)
    owner = target.user or OWNER
    passwords = {part.role: role_password(secret, part.role) for part in everything}
    return ";\n".join(provision_statements(everything, owner, passwords)) + ";\n"


def migrate_now(modules: Sequence[Module]) -> list[str]:
    """Bring the configured database to the newest migrations; answers what was done."""
    loaded = settings_of(modules, {})
    with owner_target(loaded) as (owner, is_embedded):
        secret = None if is_embedded else secret_of(loaded.settings)
        provision = loaded.settings.database.provision
        return asyncio.run(migrate(owner, parts(modules), secret=secret, provision=provision))


def check(modules: Sequence[Module]) -> list[str]:
    """Differences between the configured database and the models; empty when there are none."""
    with owner_target(settings_of(modules, {})) as (owner, _):
        return asyncio.run(differences(owner, parts(modules)))


def shell(modules: Sequence[Module], module: str | None) -> int:
    """Open psql as a module's role, or as the owner; gives its exit code. Raises `NoSuchModule`."""
    loaded = settings_of(modules, {})
    role = None
    if module is not None:
        found = next((part for part in parts(modules) if part.name == module), None)
        if found is None:
            raise NoSuchModule
        role = found.role
    with owner_target(loaded) as (target, is_embedded):
        password = target.password if role is None else None
        if role is not None and not is_embedded:
            password = role_password(secret_of(loaded.settings), role)
        command = [client_program("psql", target), "-h", target.host, "-p", str(target.port), "-d", target.database]
        environment = {**os.environ, **structs.replace(target, password=password).environment()}
        return subprocess.call([*command, "-U", role or target.user], env=environment)
