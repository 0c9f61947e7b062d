"""Keep no API keys in texts: what looks like one is masked before it is read, and here where it was stored before."""

from alembic import op

revision = "kernel_0004"
down_revision = "kernel_0003"
branch_labels = None
depends_on = None

KEY = "(aitbc_(live|test|miner|admin|hook|enrol)_)[0-9A-Za-z]{12,}"
MASKED = "\\1********"
TEXTS = {
    "answers": ("body",),
    "keys": ("name",),
    "webhook_endpoints": ("url", "description"),
}


def upgrade() -> None:
    """Mask the keys that stand in texts."""
    named = f"regexp_replace(name, '{KEY}', '{MASKED} ', 'g') || right(id::text, 12)"
    op.execute(f"UPDATE kernel.accounts SET name = {named}, folded = lower({named}) WHERE name ~ '{KEY}'")  # noqa: S608
    details = f"regexp_replace(details::text, '{KEY}', '{MASKED}', 'g')::jsonb"
    op.execute(f"UPDATE kernel.audit SET details = {details} WHERE details::text ~ '{KEY}'")  # noqa: S608
    for table, columns in TEXTS.items():
        for column in columns:
            clean = f"regexp_replace({column}, '{KEY}', '{MASKED}', 'g')"
            op.execute(f"UPDATE kernel.{table} SET {column} = {clean} WHERE {column} ~ '{KEY}'")  # noqa: S608


def downgrade() -> None:
    """Nothing: what was masked is gone."""
