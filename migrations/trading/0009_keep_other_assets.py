"""Keep other assets beside AITBC: every account is of one, and each transaction sums to zero in each."""

import sqlalchemy as sa
from alembic import op

revision = "trading_0009"
down_revision = "trading_0008"
branch_labels = None
depends_on = None

BEFORE = ("deposit", "faucet", "hold", "settle", "void", "expire", "correction", "rent", "transfer", "refund")
BALANCED = """
CREATE OR REPLACE FUNCTION trading.require_balanced() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE wrong uuid;
BEGIN
    SELECT transaction_id INTO wrong FROM added GROUP BY transaction_id
    HAVING {rule} LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'the entries of transaction % do not sum to zero, or were added to later', wrong
            USING ERRCODE = 'check_violation', CONSTRAINT = 'entries_balanced_check';
    END IF;
    RETURN NULL;
END $$"""
IN_ALL = "sum(amount_units) <> 0 OR min(position) <> 0"
# Only what has another asset is looked at once more: nearly nothing has.
IN_EACH = """coalesce(sum(amount_units) FILTER (WHERE asset IS NULL), 0) <> 0 OR min(position) <> 0
        OR CASE WHEN count(asset) > 0 THEN EXISTS (
            SELECT FROM added other WHERE other.transaction_id = added.transaction_id AND other.asset IS NOT NULL
            GROUP BY other.asset HAVING sum(other.amount_units) <> 0) ELSE false END"""


def upgrade() -> None:
    """Add the table, say of what each account is, and let orders and trades be written."""
    op.create_table(
        "assets",
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("code ~ '^[A-Z][A-Z0-9]{1,11}$' AND code <> 'AITBC'", name=op.f("assets_code_check")),
        sa.PrimaryKeyConstraint("code", name=op.f("assets_pk")),
        schema="trading",
        info={"grants": ("SELECT", "INSERT")},
    )
    op.add_column(
        "accounts", sa.Column("asset", sa.Text(), server_default=sa.text("'AITBC'"), nullable=False), schema="trading"
    )
    op.add_column("entries", sa.Column("asset", sa.Text(), nullable=True), schema="trading")
    _unique("owner, purpose, asset", "owner_purpose_asset", instead_of="owner_purpose")
    _check(f"kind IN {(*BEFORE, 'order', 'trade', 'cancel')}")
    op.execute(BALANCED.format(rule=IN_EACH))


def downgrade() -> None:
    """Know AITBC only; nothing else must be there."""
    op.execute(BALANCED.format(rule=IN_ALL))
    _check(f"kind IN {BEFORE}")
    _unique("owner, purpose", "owner_purpose", instead_of="owner_purpose_asset")
    op.drop_column("entries", "asset", schema="trading")
    op.drop_column("accounts", "asset", schema="trading")
    op.drop_table("assets", schema="trading")


def _unique(columns: str, name: str, *, instead_of: str) -> None:
    op.execute(f"ALTER TABLE trading.accounts ADD CONSTRAINT accounts_{name}_key UNIQUE ({columns})")
    op.execute(f"ALTER TABLE trading.accounts DROP CONSTRAINT accounts_{instead_of}_key")


def _check(rule: str) -> None:
    """Set the rule anew; the rows that are there are looked at without keeping writers away."""
    op.execute("ALTER TABLE trading.transactions DROP CONSTRAINT IF EXISTS transactions_kind_check")
    op.execute(f"ALTER TABLE trading.transactions ADD CONSTRAINT transactions_kind_check CHECK ({rule}) NOT VALID")
    op.execute("ALTER TABLE trading.transactions VALIDATE CONSTRAINT transactions_kind_check")
