"""Let money move between accounts for a purpose: stake, deposits of proposals, and the treasury, which is an account."""

from alembic import op

revision = "trading_0006"
down_revision = "trading_0005"
branch_labels = None
depends_on = None

BEFORE = ("deposit", "faucet", "hold", "settle", "void", "expire", "correction", "rent")
TREASURY = """
INSERT INTO trading.accounts
    (id, owner, purpose, balance_units, held_units, earned_units, spent_units, version, created_at)
VALUES ('00000000-0000-0000-0000-000000000004', 'system', 'treasury', 0, 0, 0, 0, 0, now())"""


def upgrade() -> None:
    """Allow one more kind of transaction, open the treasury, and never let it be overdrawn."""
    _check("transactions", "transactions_kind_check", f"kind IN {(*BEFORE, 'transfer')}")
    op.execute(TREASURY)
    overdrawn = "(owner = 'system' AND purpose <> 'treasury') OR balance_units >= 0"
    _check("accounts", "accounts_not_overdrawn_check", overdrawn)


def downgrade() -> None:
    """Close the treasury, which must be unused, and allow no more transfers."""
    _check("accounts", "accounts_not_overdrawn_check", "owner = 'system' OR balance_units >= 0")
    op.execute("DELETE FROM trading.accounts WHERE owner = 'system' AND purpose = 'treasury'")
    _check("transactions", "transactions_kind_check", f"kind IN {BEFORE}")


def _check(table: str, name: str, rule: str) -> None:
    """Set a rule anew; the rows that are there are looked at without keeping writers away."""
    # The first migration named it twice over, as the convention for names then made of it; the models name it once.
    for known in (f"{table}_{name}_check", name):
        op.execute(f"ALTER TABLE trading.{table} DROP CONSTRAINT IF EXISTS {known}")
    op.execute(f"ALTER TABLE trading.{table} ADD CONSTRAINT {name} CHECK ({rule}) NOT VALID")
    op.execute(f"ALTER TABLE trading.{table} VALIDATE CONSTRAINT {name}")
