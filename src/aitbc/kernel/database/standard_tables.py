"""The tables of every schema: outbox, inbox, answers (idempotency) and audit, with the grants of its role."""

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

NAMING = {
    "pk": "%(table_name)s_pk",
    "uq": "%(table_name)s_%(column_0_N_name)s_key",
    "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    "ck": "%(table_name)s_%(constraint_name)s_check",
    "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
}
APPEND_ONLY = {"grants": ("SELECT", "INSERT")}
"""`Table.info` of an append-only table: the module's role may SELECT and INSERT only."""
NO_DELETE = {"grants": ("SELECT", "INSERT", "UPDATE")}
ALL = {"grants": ("SELECT", "INSERT", "UPDATE", "DELETE")}


def module_metadata(module: str) -> MetaData:
    """The SQLAlchemy metadata of a module: its schema, the naming of constraints, and the four standard tables."""
    metadata = MetaData(schema=module, naming_convention=NAMING)
    moment = DateTime(timezone=True)
    outbox = Table(
        "outbox",
        metadata,
        Column("id", Uuid, primary_key=True),
        Column("kind", Text, nullable=False),
        Column("body", Text, nullable=False),
        Column("request_id", Text),
        Column("created_at", moment, nullable=False),
        Column("due_at", moment, nullable=False),
        Column("attempts", Integer, nullable=False),
        Column("delivered_at", moment),
        Column("dead_at", moment),
        Column("last_error", Text),
        info=ALL,
    )
    Index("outbox_due_idx", outbox.c.due_at, postgresql_where=text("delivered_at IS NULL AND dead_at IS NULL"))
    Index("outbox_delivered_idx", outbox.c.delivered_at, postgresql_where=text("delivered_at IS NOT NULL"))
    inbox = Table(
        "inbox",
        metadata,
        Column("event_id", Uuid, primary_key=True),
        Column("handler", Text, primary_key=True),
        Column("heard_at", moment, nullable=False),
        info={"grants": ("SELECT", "INSERT", "DELETE")},
    )
    Index("inbox_heard_at_idx", inbox.c.heard_at)
    answers = Table(
        "answers",
        metadata,
        Column("account", Text, primary_key=True),
        Column("key", Text, primary_key=True),
        Column("fingerprint", LargeBinary, nullable=False),
        Column("body", Text),
        Column("created_at", moment, nullable=False),
        info=ALL,
    )
    Index("answers_created_at_idx", answers.c.created_at)
    audit = Table(
        "audit",
        metadata,
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        Column("at", moment, nullable=False),
        Column("account", Text, nullable=False),
        Column("key", Text, nullable=False),
        Column("action", Text, nullable=False),
        Column("object", Text, nullable=False),
        Column("details", JSONB, nullable=False),
        Column("request_id", Text),
        info=APPEND_ONLY,
    )
    Index("audit_at_idx", audit.c.at)
    return metadata
