"""The standard tables as each schema's first migration creates them; never edited: later migrations change them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql


def create_common_tables(schema: str) -> None:
    """Create outbox, inbox, answers and audit in their first version."""
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "outbox",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text()),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("due_at", moment, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("delivered_at", moment),
        sa.Column("dead_at", moment),
        sa.Column("last_error", sa.Text()),
        schema=schema,
    )
    due, delivered = sa.text("delivered_at IS NULL AND dead_at IS NULL"), sa.text("delivered_at IS NOT NULL")
    op.create_index("outbox_due_idx", "outbox", ["due_at"], schema=schema, postgresql_where=due)
    op.create_index("outbox_delivered_idx", "outbox", ["delivered_at"], schema=schema, postgresql_where=delivered)
    op.create_table(
        "inbox",
        sa.Column("event_id", sa.Uuid(), primary_key=True),
        sa.Column("handler", sa.Text(), primary_key=True),
        sa.Column("heard_at", moment, nullable=False),
        schema=schema,
    )
    op.create_index("inbox_heard_at_idx", "inbox", ["heard_at"], schema=schema)
    op.create_table(
        "answers",
        sa.Column("account", sa.Text(), primary_key=True),
        sa.Column("key", sa.Text(), primary_key=True),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("body", sa.Text()),
        sa.Column("created_at", moment, nullable=False),
        schema=schema,
    )
    op.create_index("answers_created_at_idx", "answers", ["created_at"], schema=schema)
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), primary_key=True),
        sa.Column("at", moment, nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("object", sa.Text(), nullable=False),
        sa.Column("details", postgresql.JSONB(), nullable=False),
        sa.Column("request_id", sa.Text()),
        schema=schema,
    )
    op.create_index("audit_at_idx", "audit", ["at"], schema=schema)
