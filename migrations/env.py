"""Migrates one module's schema: Alembic runs this with the part and the connection that kernel/migrations.py hands over."""

from alembic import context
from sqlalchemy import text

from aitbc.kernel.migrations import only

config = context.config
part = config.attributes["part"]
connection = config.attributes["connection"]

connection.execute(text("SET lock_timeout = '4s'"))
connection.execute(text("SET statement_timeout = '60s'"))
connection.commit()
context.configure(
    connection=connection,
    target_metadata=part.metadata,
    version_table_schema=part.name,
    include_schemas=True,
    include_name=only(part.name),
    compare_type=True,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
