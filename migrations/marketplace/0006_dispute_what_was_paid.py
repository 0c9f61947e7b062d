"""Let what was paid for jobs and bookings be disputed."""

import sqlalchemy as sa
from alembic import op

revision = "marketplace_0006"
down_revision = "marketplace_0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables, and keep the fee of each slice that is paid."""
    op.create_table(
        "disputes",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("owner", sa.Uuid(), nullable=False),
        sa.Column("miner", sa.Uuid(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("claim_units", sa.BigInteger(), nullable=False),
        sa.Column("due_units", sa.BigInteger(), nullable=False),
        sa.Column("fee_units", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("hold", sa.Uuid(), nullable=False),
        sa.Column("asked_units", sa.BigInteger(), nullable=True),
        sa.Column("held_units", sa.BigInteger(), nullable=False),
        sa.Column("decide_by", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("share_basis_points", sa.Integer(), nullable=True),
        sa.Column("resolution", sa.Text(), nullable=True),
        sa.Column("owed_units", sa.BigInteger(), nullable=False),
        sa.Column("refunded_units", sa.BigInteger(), nullable=False),
        sa.Column("transaction", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("(state = 'closed') = (closed_at IS NOT NULL)", name=op.f("disputes_closed_check")),
        sa.CheckConstraint(
            "(state IN ('deciding', 'closed')) = (decided_by IS NOT NULL)", name=op.f("disputes_decided_check")
        ),
        sa.CheckConstraint(
            "(state IN ('deciding', 'closed')) = (share_basis_points IS NOT NULL)", name=op.f("disputes_shared_check")
        ),
        sa.CheckConstraint(
            "decided_by IS NULL OR decided_by IN ('operator', 'owner', 'payer', 'time')",
            name=op.f("disputes_decided_by_check"),
        ),
        sa.CheckConstraint("state IN ('opening', 'open', 'deciding', 'closed')", name=op.f("disputes_state_check")),
        sa.CheckConstraint("account <> owner", name=op.f("disputes_own_check")),
        sa.CheckConstraint("claim_units = due_units + fee_units", name=op.f("disputes_adds_up_check")),
        sa.CheckConstraint("claim_units > 0 AND fee_units >= 0 AND due_units > 0", name=op.f("disputes_claimed_check")),
        sa.CheckConstraint(
            "held_units BETWEEN 0 AND due_units AND owed_units BETWEEN 0 AND due_units",
            name=op.f("disputes_held_check"),
        ),
        sa.CheckConstraint("refunded_units BETWEEN 0 AND claim_units", name=op.f("disputes_refunded_check")),
        sa.CheckConstraint("share_basis_points BETWEEN 0 AND 10000", name=op.f("disputes_share_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("disputes_pk")),
        schema="marketplace",
        info={"grants": ("SELECT", "INSERT", "UPDATE")},
    )
    op.create_index("disputes_account_idx", "disputes", ["account", "id"], unique=False, schema="marketplace")
    op.create_index("disputes_owner_idx", "disputes", ["owner", "id"], unique=False, schema="marketplace")
    op.create_index("disputes_subject_key", "disputes", ["subject"], unique=True, schema="marketplace")
    op.create_index(
        "disputes_unfinished_idx",
        "disputes",
        ["id"],
        unique=False,
        schema="marketplace",
        postgresql_where=sa.text("closed_at IS NULL"),
    )
    op.create_table(
        "dispute_evidence",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("dispute", sa.Uuid(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["dispute"], ["marketplace.disputes.id"], name=op.f("dispute_evidence_dispute_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("dispute_evidence_pk")),
        schema="marketplace",
        info={"grants": ("SELECT", "INSERT")},
    )
    op.create_index(
        "dispute_evidence_dispute_idx", "dispute_evidence", ["dispute", "id"], unique=False, schema="marketplace"
    )
    op.add_column("booking_slices", sa.Column("fee_units", sa.BigInteger(), nullable=True), schema="marketplace")


def downgrade() -> None:
    """Remove them."""
    op.drop_column("booking_slices", "fee_units", schema="marketplace")
    op.drop_index("dispute_evidence_dispute_idx", table_name="dispute_evidence", schema="marketplace")
    op.drop_table("dispute_evidence", schema="marketplace")
    op.drop_index(
        "disputes_unfinished_idx",
        table_name="disputes",
        schema="marketplace",
        postgresql_where=sa.text("closed_at IS NULL"),
    )
    op.drop_index("disputes_subject_key", table_name="disputes", schema="marketplace")
    op.drop_index("disputes_owner_idx", table_name="disputes", schema="marketplace")
    op.drop_index("disputes_account_idx", table_name="disputes", schema="marketplace")
    op.drop_table("disputes", schema="marketplace")
