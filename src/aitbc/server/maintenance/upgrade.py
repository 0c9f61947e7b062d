"""The upgrade plan: pending migrations of an installation and obstacles, found without changing anything."""

import asyncio
from collections.abc import Sequence

import asyncpg
from alembic.script import ScriptDirectory
from alembic.script.revision import RevisionError
from alembic.util import CommandError
from msgspec import Struct

from aitbc.kernel.database.connect import connect
from aitbc.kernel.database.migrations import SERVER_VERSION_MIN, Part, configuration, revision_of
from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.module import Module
from aitbc.kernel.primitives.errors import NotFound
from aitbc.kernel.primitives.version import this_build
from aitbc.server.config.installation import parts, settings_of
from aitbc.server.maintenance.database import owner_target
from aitbc.server.postgres.embedded import EmbeddedPostgresError


class NothingInstalled(NotFound):
    """There is no installation in the configured place, so there is nothing to upgrade."""

    code = "nothing_installed"


class PartPlan(Struct, frozen=True, kw_only=True):
    """What would happen to one part of the database."""

    part: str
    at: str | None
    """The migration it stands on; none for a part that is new."""
    to: str
    pending: tuple[str, ...]
    """The migrations to come, oldest first, each with what it does."""
    obstacle: str | None = None


class UpgradePlan(Struct, frozen=True, kw_only=True):
    """Whether this program can take an installation over, and what it would do."""

    version: str
    database: str
    """The version of PostgreSQL, or unknown where it could not be asked."""
    parts: tuple[PartPlan, ...]
    obstacles: tuple[str, ...]
    """Why it cannot; empty when it can."""


def upgrade_plan(modules: Sequence[Module]) -> UpgradePlan:
    """Look at the configured installation. Raises `NothingInstalled`, `ConfigError`."""
    loaded = settings_of(modules, {})
    settings, version = loaded.settings, this_build().version
    if settings.database.url is None and not (settings.state_dir / "postgres").exists():
        raise NothingInstalled(f"There is no installation in {settings.state_dir}; `aitbc serve` makes one.")
    try:
        with owner_target(loaded) as (owner, _):
            return asyncio.run(_plan(owner, parts(modules), version))
    except (EmbeddedPostgresError, OSError, asyncpg.PostgresError) as error:
        return UpgradePlan(version=version, database="unknown", parts=(), obstacles=(str(error),))


async def _plan(owner: Target, everything: Sequence[Part], version: str) -> UpgradePlan:
    connection = await connect(owner.connect_arguments(application="aitbc upgrade", statement_seconds=30))
    try:
        database = str(await connection.fetchval("SHOW server_version")).split(" ", 1)[0]
        plans = [_part_plan(part, await revision_of(connection, part)) for part in everything]
    finally:
        await connection.close()
    obstacles = [f"{plan.part}: {plan.obstacle}" for plan in plans if plan.obstacle is not None]
    if int(database.split(".", 1)[0]) < SERVER_VERSION_MIN:
        obstacles.append(f"PostgreSQL {database} is too old: version {SERVER_VERSION_MIN} or newer is needed")
    return UpgradePlan(version=version, database=database, parts=tuple(plans), obstacles=tuple(obstacles))


def _part_plan(part: Part, at: str | None) -> PartPlan:
    scripts = ScriptDirectory.from_config(configuration(part))
    to = scripts.get_current_head() or "none"
    try:
        steps = [] if at == to else list(scripts.iterate_revisions(to, at or "base"))
    except (CommandError, RevisionError):
        obstacle = f"it stands on {at}, which this version does not know; run the newer program, or restore a backup"
        return PartPlan(part=part.name, at=at, to=to, pending=(), obstacle=obstacle)
    pending = tuple(f"{step.revision}: {(step.doc or '').rstrip('.')}" for step in reversed(steps))
    return PartPlan(part=part.name, at=at, to=to, pending=pending)
