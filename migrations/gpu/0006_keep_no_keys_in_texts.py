"""Keep no API keys in texts: what looks like one is masked before it is read, and here where it was stored before."""

from alembic import op

revision = "gpu_0006"
down_revision = "gpu_0005"
branch_labels = None
depends_on = None

KEY = "(aitbc_(live|test|miner|admin|hook|enrol)_)[0-9A-Za-z]{12,}"
MASKED = "\\1********"
TEXTS = {
    "answers": ("body",),
    "bookings": ("client", "job"),
    "gpu_reviews": ("comment",),
    "listed_gpus": ("miner_name", "model", "region", "description"),
    "market_orders": ("node", "region", "description", "specs"),
    "miners": ("name", "drain_message", "pause_reason", "status_reason"),
    "profiles": ("capabilities", "inventory"),
}


def upgrade() -> None:
    """Mask the keys that stand in texts."""
    for table, columns in TEXTS.items():
        for column in columns:
            clean = f"regexp_replace({column}, '{KEY}', '{MASKED}', 'g')"
            op.execute(f"UPDATE gpu.{table} SET {column} = {clean} WHERE {column} ~ '{KEY}'")  # noqa: S608


def downgrade() -> None:
    """Nothing: what was masked is gone."""
