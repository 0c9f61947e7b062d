"""What SQLAlchemy compiles, remembered: each application of a test process has engines of its own for the same statements."""

from typing import Any

from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import engine
from sqlalchemy.util import LRUCache

STATEMENTS = 5_000
"""How many compiled statements are kept: some more than all modules have."""
TRAITS = ("server_version_info", "default_isolation_level", "default_schema_name", "_backslash_escapes")
"""What a dialect asks its server for."""
_compiled: LRUCache[Any, Any] = LRUCache(STATEMENTS)
_create_engine = engine._create_engine  # type: ignore[attr-defined]


def remember_statements() -> None:
    """Begin to remember, in this process. Engines of servers with other traits share nothing."""
    for name, method in (("__hash__", _kind), ("__eq__", _alike)):
        setattr(PGDialect_asyncpg, name, method)
    engine._create_engine = _created  # type: ignore[attr-defined]


def _created(*arguments: Any, **options: Any) -> Engine:
    made: Engine = _create_engine(*arguments, **options)
    made._compiled_cache = _compiled
    return made


def _kind(self: PGDialect_asyncpg) -> int:
    return hash(PGDialect_asyncpg)


def _alike(self: PGDialect_asyncpg, other: object) -> bool:
    return self is other or (
        isinstance(other, PGDialect_asyncpg)
        and self.server_version_info is not None
        and all(getattr(self, trait, None) == getattr(other, trait, None) for trait in TRAITS)
    )
