"""Migrates one module's schema: Alembic runs this with the part and connection that kernel/database/migrations.py hands over."""

from typing import Any, Literal

from alembic import context
from sqlalchemy import text

from aitbc.kernel.database.migrations import include_schema
from aitbc.kernel.database.unit_of_work import WireId

config = context.config
part = config.attributes["part"]
connection = config.attributes["connection"]


def render(kind: str, thing: Any, _: Any) -> str | Literal[False]:
    """A migration names what the database knows: a wire id is a UUID there."""
    return "sa.Uuid()" if kind == "type" and isinstance(thing, WireId) else False


connection.execute(text("SET lock_timeout = '4s'"))
connection.execute(text("SET statement_timeout = '60s'"))
connection.commit()
context.configure(
    connection=connection,
    target_metadata=part.metadata,
    version_table_schema=part.name,
    include_schemas=True,
    include_name=include_schema(part.name),
    compare_type=True,
    render_item=render,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
