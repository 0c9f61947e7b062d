"""Let what was paid be given back: out of a hold on whom was paid, and out of the fees."""

from alembic import op

revision = "trading_0007"
down_revision = "trading_0006"
branch_labels = None
depends_on = None

BEFORE = ("deposit", "faucet", "hold", "settle", "void", "expire", "correction", "rent", "transfer")


def upgrade() -> None:
    """Allow one more kind of transaction."""
    _check(f"kind IN {(*BEFORE, 'refund')}")


def downgrade() -> None:
    """Allow no more refunds; none must be there."""
    _check(f"kind IN {BEFORE}")


def _check(rule: str) -> None:
    """Set the rule anew; the rows that are there are looked at without keeping writers away."""
    op.execute("ALTER TABLE trading.transactions DROP CONSTRAINT IF EXISTS transactions_kind_check")
    op.execute(f"ALTER TABLE trading.transactions ADD CONSTRAINT transactions_kind_check CHECK ({rule}) NOT VALID")
    op.execute("ALTER TABLE trading.transactions VALIDATE CONSTRAINT transactions_kind_check")
