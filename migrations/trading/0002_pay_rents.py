"""Let the ledger pay rents: money of a hold that goes to the owner of what was rented, without a receipt."""

from alembic import op

revision = "trading_0002"
down_revision = "trading_0001"
branch_labels = None
depends_on = None

BEFORE = ("deposit", "faucet", "hold", "settle", "void", "expire", "correction")


def upgrade() -> None:
    """Allow one more kind of transaction; the rows that are there are looked at without keeping writers away."""
    _allow((*BEFORE, "rent"))


def downgrade() -> None:
    """Allow it no more."""
    _allow(BEFORE)


def _allow(kinds: tuple[str, ...]) -> None:
    name, table = "transactions_kind_check", "trading.transactions"
    # The first migration named it twice over, as the convention for names then made of it; the models name it once.
    for known in ("transactions_transactions_kind_check_check", name):
        op.execute(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {known}")
    op.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} CHECK (kind IN {kinds}) NOT VALID")
    op.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}")
