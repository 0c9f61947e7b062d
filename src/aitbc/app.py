"""The one place that knows every module."""

from collections.abc import Mapping
from typing import Any

from aitbc.kernel import database_commands, serving
from aitbc.kernel.house import parts
from aitbc.kernel.module import Module
from aitbc.modules.ai.module import module as ai
from aitbc.modules.gpu.module import module as gpu
from aitbc.modules.trading.module import module as trading

__all__ = ["MODULES", "check_database", "database_shell", "migrate", "parts", "provision_sql", "serve"]

MODULES: tuple[Module, ...] = (gpu, ai, trading)
"""Top first: a module may call those after it, never those before."""


def serve(flags: Mapping[str, Any]) -> int:
    """Serve the whole platform in this process until a signal; gives the exit code."""
    return serving.serve(MODULES, flags)


def provision_sql() -> str:
    """What a DBA must run where the server may not create roles itself."""
    return database_commands.provision_sql(MODULES)


def migrate() -> list[str]:
    """Bring the configured database to the newest migrations; answers what was done."""
    return database_commands.migrate_now(MODULES)


def check_database() -> list[str]:
    """Where the configured database and the models disagree."""
    return database_commands.check(MODULES)


def database_shell(module: str | None) -> int:
    """Open psql as a module's role, or as the owner; gives its exit code."""
    return database_commands.shell(MODULES, module)
