"""The application: the list of all modules, and what the command line runs with them."""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aitbc.kernel.identity.sessions import Sessions
from aitbc.kernel.module import Module
from aitbc.modules.ai.module import module as ai
from aitbc.modules.governance.module import module as governance
from aitbc.modules.gpu.module import module as gpu
from aitbc.modules.hermes.module import module as hermes
from aitbc.modules.marketplace.module import module as marketplace
from aitbc.modules.monitoring.module import module as monitoring
from aitbc.modules.plugins.module import module as plugins
from aitbc.modules.trading.module import module as trading
from aitbc.server.asgi.pages import Pages
from aitbc.server.config.installation import parts
from aitbc.server.config.placement import MAIN
from aitbc.server.maintenance import backup as kernel_backup
from aitbc.server.maintenance import database, upgrade
from aitbc.server.maintenance.backup import BackupManifest, RestoreResult
from aitbc.server.maintenance.upgrade import UpgradePlan
from aitbc.server.runtime import serve as runtime

__all__ = [
    "MODULES",
    "backup",
    "check_database",
    "database_shell",
    "migrate",
    "parts",
    "provision_sql",
    "restore",
    "serve",
    "upgrade_plan",
]

MODULES: tuple[Module, ...] = (monitoring, hermes, plugins, governance, marketplace, gpu, ai, trading)
"""In the order of calls: a module may call those after it, never those before."""


CHILD = (
    sys.executable,
    "-c",
    "import gc; gc.disable(); import json, sys; from aitbc.app import serve; sys.exit(serve(json.loads(sys.argv[2]), sys.argv[1]))",
)
"""The command line of a split module's process, before the module's name and the flags.

Garbage collection is off while loading, which it would slow down by a fifth; `serve` enables it.
"""


def serve(flags: Mapping[str, Any], process: str = MAIN) -> int:
    """Serve the main process, or that of a split module, until a signal; returns the exit code."""

    def write_backup(file: Path) -> None:
        kernel_backup.backup(MODULES, file, flags)

    return runtime.serve(MODULES, flags, CHILD, process=process, extras=runtime.Extras(write_backup, _pages))


def _pages(sessions: Sessions, draining: asyncio.Event) -> Pages:
    """What people look at; loaded in the main process only, since no other shows pages."""
    from aitbc.web.site import Site  # noqa: PLC0415

    return Site(sessions, draining)


def provision_sql() -> str:
    """The SQL that a DBA runs where the server may not create roles itself."""
    return database.provision_sql(MODULES)


def migrate() -> list[str]:
    """Bring the configured database to the newest migrations; returns what was done."""
    return database.migrate_now(MODULES)


def check_database() -> list[str]:
    """Differences between the configured database and the models."""
    return database.check(MODULES)


def upgrade_plan() -> UpgradePlan:
    """The upgrade plan of the configured installation: pending migrations and obstacles."""
    return upgrade.upgrade_plan(MODULES)


def backup(file: Path) -> BackupManifest:
    """Write a backup of the configured installation, running or not."""
    return kernel_backup.backup(MODULES, file)


def restore(file: Path) -> RestoreResult:
    """Restore a backup into the configured place, which must be empty."""
    return kernel_backup.restore(MODULES, file)


def database_shell(module: str | None) -> int:
    """Open psql as a module's role, or as the owner; returns its exit code."""
    return database.shell(MODULES, module)
