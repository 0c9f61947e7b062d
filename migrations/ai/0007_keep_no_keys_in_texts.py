"""Keep no API keys in texts: what looks like one is masked before it is read, and here where it was stored before."""

from alembic import op

revision = "ai_0007"
down_revision = "ai_0006"
branch_labels = None
depends_on = None

KEY = "(aitbc_(live|test|miner|admin|hook|enrol)_)[0-9A-Za-z]{12,}"
MASKED = "\\1********"
TEXTS = {
    "answers": ("body",),
    "attempts": ("message",),
    "logs": ("text",),
    "parts": ("text",),
}


def upgrade() -> None:
    """Mask the keys that stand in texts. Inputs and outputs stay: their digests are in receipts, and retention removes them."""
    for table, columns in TEXTS.items():
        for column in columns:
            clean = f"regexp_replace({column}, '{KEY}', '{MASKED}', 'g')"
            op.execute(f"UPDATE ai.{table} SET {column} = {clean} WHERE {column} ~ '{KEY}'")  # noqa: S608


def downgrade() -> None:
    """Nothing: what was masked is gone."""
