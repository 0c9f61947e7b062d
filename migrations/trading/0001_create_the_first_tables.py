"""Create the ledger, the receipts and the chain."""

import sqlalchemy as sa
from alembic import op

from aitbc.kernel.database.standard_tables_v1 import create_common_tables

revision = "trading_0001"
down_revision = None
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)

# A transaction's entries come in one statement and sum to zero: position 0 is among them, and only once, so nothing can be
# added to a transaction later. One look at the statement's own rows; no table is read.
CHECK_BALANCED = """
CREATE FUNCTION trading.require_balanced() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE wrong uuid;
BEGIN
    SELECT transaction_id INTO wrong FROM added GROUP BY transaction_id
    HAVING sum(amount_units) <> 0 OR min(position) <> 0 LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'the entries of transaction % do not sum to zero, or were added to later', wrong
            USING ERRCODE = 'check_violation', CONSTRAINT = 'entries_balanced_check';
    END IF;
    RETURN NULL;
END $$"""
ON_ENTRIES = """
CREATE TRIGGER entries_balanced AFTER INSERT ON trading.entries REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION trading.require_balanced()"""

# What is written is written, for the owner of the tables too, unless the trigger is dropped on purpose.
REFUSE_CHANGE = """
CREATE FUNCTION trading.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$"""
APPEND_ONLY = ("transactions", "entries", "receipts", "blocks", "block_items", "node_keys", "fee_rates")

SYSTEM_ACCOUNTS = """
INSERT INTO trading.accounts
    (id, owner, purpose, balance_units, held_units, earned_units, spent_units, version, created_at)
VALUES ('00000000-0000-0000-0000-000000000001', 'system', 'issuance', 0, 0, 0, 0, 0, now()),
       ('00000000-0000-0000-0000-000000000002', 'system', 'escrow', 0, 0, 0, 0, 0, now()),
       ('00000000-0000-0000-0000-000000000003', 'system', 'fees', 0, 0, 0, 0, 0, now())"""


def upgrade() -> None:
    """Make the tables, their rules and the system's accounts."""
    create_common_tables("trading")
    _create_ledger()
    _create_holds()
    _create_receipts()
    _create_chain()
    for statement in (CHECK_BALANCED, ON_ENTRIES, REFUSE_CHANGE, SYSTEM_ACCOUNTS):
        op.execute(statement)
    for table in APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON trading.{table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION trading.refuse_change()"
        )


def _create_ledger() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        *(
            sa.Column(name, sa.BigInteger(), nullable=False)
            for name in ("balance_units", "held_units", "earned_units", "spent_units", "version")
        ),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.UniqueConstraint("owner", "purpose", name="accounts_owner_purpose_key"),
        sa.CheckConstraint("owner = 'system' OR balance_units >= 0", name="accounts_not_overdrawn_check"),
        sa.CheckConstraint("held_units >= 0", name="accounts_held_not_negative_check"),
        schema="trading",
        postgresql_with={"fillfactor": 50},
    )
    kinds = "('deposit', 'faucet', 'hold', 'settle', 'void', 'expire', 'correction')"
    op.create_table(
        "transactions",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("hold", sa.Uuid()),
        sa.Column("reference", sa.Text()),
        sa.Column("reason", sa.Text()),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.CheckConstraint(f"kind IN {kinds}", name="transactions_kind_check"),
        schema="trading",
    )
    op.create_index(
        "transactions_corrected_key",
        "transactions",
        ["reference"],
        unique=True,
        schema="trading",
        postgresql_where=sa.text("kind = 'correction'"),
    )
    op.create_table(
        "entries",
        sa.Column("transaction_id", sa.Uuid(), primary_key=True),
        sa.Column("position", sa.SmallInteger(), primary_key=True),
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("amount_units", sa.BigInteger(), nullable=False),
        sa.Column("balance_after_units", sa.BigInteger(), nullable=False),
        sa.Column("account_version", sa.BigInteger(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.UniqueConstraint("account_id", "account_version", name="entries_account_id_account_version_key"),
        sa.CheckConstraint("amount_units <> 0", name="entries_moves_something_check"),
        sa.CheckConstraint("position >= 0", name="entries_position_check"),
        schema="trading",
    )


def _create_holds() -> None:
    op.create_table(
        "holds",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("payer", sa.Uuid(), nullable=False),
        sa.Column("amount_units", sa.BigInteger(), nullable=False),
        sa.Column("fee_basis_points", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("placed_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.Column("placed_by", sa.Uuid(), nullable=False),
        sa.Column("ended_at", MOMENT),
        sa.Column("ended_by", sa.Uuid()),
        sa.Column("reason", sa.Text()),
        sa.Column("price_units", sa.BigInteger()),
        sa.CheckConstraint("amount_units > 0", name="holds_positive_check"),
        sa.CheckConstraint("state IN ('open', 'settled', 'voided', 'expired')", name="holds_state_check"),
        sa.CheckConstraint("(state = 'open') = (ended_at IS NULL)", name="holds_ended_check"),
        sa.CheckConstraint("price_units BETWEEN 0 AND amount_units", name="holds_price_within_check"),
        sa.CheckConstraint("(state = 'settled') = (price_units IS NOT NULL)", name="holds_price_when_settled_check"),
        schema="trading",
    )
    for column in ("expires_at", "placed_at"):
        is_open = sa.text("state = 'open'")
        op.create_index(f"holds_{column}_idx", "holds", [column], schema="trading", postgresql_where=is_open)
    op.create_table(
        "fee_rates",
        sa.Column("effective_from", MOMENT, primary_key=True),
        sa.Column("basis_points", sa.Integer(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.CheckConstraint("basis_points BETWEEN 0 AND 10000", name="fee_rates_share_check"),
        schema="trading",
    )
    op.create_table(
        "faucet_days",
        sa.Column("account", sa.Uuid(), primary_key=True),
        sa.Column("day", sa.Date(), primary_key=True),
        sa.Column("taken_units", sa.BigInteger(), nullable=False),
        schema="trading",
    )


def _create_receipts() -> None:
    op.create_table(
        "receipts",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("transaction_id", sa.Uuid(), nullable=False),
        sa.Column("payer", sa.Uuid(), nullable=False),
        sa.Column("miner", sa.Uuid(), nullable=False),
        sa.Column("miner_account", sa.Uuid(), nullable=False),
        sa.Column("price_units", sa.BigInteger(), nullable=False),
        sa.Column("fee_units", sa.BigInteger(), nullable=False),
        sa.Column("earned_units", sa.BigInteger(), nullable=False),
        sa.Column("issued_at", MOMENT, nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.CheckConstraint("price_units = fee_units + earned_units", name="receipts_adds_up_check"),
        sa.CheckConstraint("fee_units >= 0 AND earned_units >= 0", name="receipts_not_negative_check"),
        schema="trading",
    )
    op.create_index("receipts_issued_at_idx", "receipts", ["issued_at", "id"], schema="trading")
    op.create_index("receipts_payer_idx", "receipts", ["payer", "issued_at", "id"], schema="trading")
    op.create_index(
        "receipts_miner_idx",
        "receipts",
        ["miner", "issued_at", "id"],
        schema="trading",
        postgresql_include=["earned_units"],
    )


def _create_chain() -> None:
    op.create_table(
        "blocks",
        sa.Column("height", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("previous", sa.LargeBinary()),
        sa.Column("merkle_root", sa.LargeBinary(), nullable=False),
        sa.Column("first_sequence", sa.BigInteger(), nullable=False),
        sa.Column("records", sa.Integer(), nullable=False),
        sa.Column("sealed_at", MOMENT, nullable=False),
        sa.Column("node_key", sa.Text(), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.UniqueConstraint("hash", name="blocks_hash_key"),
        schema="trading",
    )
    op.create_table(
        "block_items",
        sa.Column("sequence", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("height", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("record_id", sa.Uuid(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.UniqueConstraint("record_id", name="block_items_record_id_key"),
        schema="trading",
    )
    op.create_table(
        "unsealed",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), primary_key=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("record_id", sa.Uuid(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        schema="trading",
    )
    op.create_table(
        "node_keys",
        sa.Column("public_key", sa.Text(), primary_key=True),
        sa.Column("first_used_at", MOMENT, nullable=False),
        schema="trading",
    )


def downgrade() -> None:
    """Remove everything."""
    names = ["node_keys", "unsealed", "block_items", "blocks", "receipts", "faucet_days", "fee_rates", "holds"]
    names += ["entries", "transactions", "accounts", "audit", "answers", "inbox", "outbox"]
    for table in names:
        op.drop_table(table, schema="trading")
    op.execute("DROP FUNCTION trading.require_balanced()")
    op.execute("DROP FUNCTION trading.refuse_change()")
