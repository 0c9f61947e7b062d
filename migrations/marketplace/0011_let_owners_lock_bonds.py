"""Let owners lock bonds: what is locked, and what is taken of it with its evidence."""

import sqlalchemy as sa
from alembic import op

revision = "marketplace_0011"
down_revision = "marketplace_0010"
branch_labels = None
depends_on = None

moment = sa.DateTime(timezone=True)
GRANTS = {"grants": ("SELECT", "INSERT", "UPDATE")}


def upgrade() -> None:
    """Create the two tables."""
    op.create_table(
        "bonds",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("amount_units", sa.BigInteger(), nullable=False),
        sa.Column("slashed_units", sa.BigInteger(), nullable=False),
        sa.Column("hold", sa.Uuid(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("leaves_at", moment),
        sa.Column("ended_at", moment),
        sa.CheckConstraint("state IN ('locking', 'locked', 'leaving', 'ended')", name=op.f("bonds_state_check")),
        sa.CheckConstraint("amount_units >= 0 AND slashed_units >= 0", name=op.f("bonds_not_negative_check")),
        sa.CheckConstraint("(state = 'ended') = (ended_at IS NOT NULL)", name=op.f("bonds_ended_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("bonds_pk")),
        schema="marketplace",
        info=GRANTS,
    )
    is_open = sa.text("state <> 'ended'")
    op.create_index(
        "bonds_account_key", "bonds", ["account"], unique=True, schema="marketplace", postgresql_where=is_open
    )
    op.create_index("bonds_open_idx", "bonds", ["id"], schema="marketplace", postgresql_where=is_open)
    op.create_table(
        "slashes",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("bond", sa.Uuid(), nullable=False),
        sa.Column("dispute", sa.Uuid(), nullable=False),
        sa.Column("owner", sa.Uuid(), nullable=False),
        sa.Column("payer", sa.Uuid(), nullable=False),
        sa.Column("amount_units", sa.BigInteger(), nullable=False),
        sa.Column("fee_units", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("appeal", sa.Text()),
        sa.Column("resolution", sa.Text()),
        sa.Column("due_at", moment, nullable=False),
        sa.Column("transaction", sa.Uuid()),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("ended_at", moment),
        sa.CheckConstraint(
            "state IN ('announced', 'appealed', 'paying', 'paid', 'dropped')", name=op.f("slashes_state_check")
        ),
        sa.CheckConstraint("amount_units > 0 AND fee_units >= 0", name=op.f("slashes_amounts_check")),
        sa.CheckConstraint("(state IN ('paid', 'dropped')) = (ended_at IS NOT NULL)", name=op.f("slashes_ended_check")),
        sa.ForeignKeyConstraint(["bond"], ["marketplace.bonds.id"], name=op.f("slashes_bond_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("slashes_pk")),
        schema="marketplace",
        info=GRANTS,
    )
    op.create_index("slashes_dispute_key", "slashes", ["dispute"], unique=True, schema="marketplace")
    op.create_index("slashes_bond_idx", "slashes", ["bond", "id"], schema="marketplace")
    op.create_index(
        "slashes_open_idx", "slashes", ["id"], schema="marketplace", postgresql_where=sa.text("ended_at IS NULL")
    )


def downgrade() -> None:
    """Remove them; what is still locked returns when its holds expire."""
    op.drop_table("slashes", schema="marketplace")
    op.drop_table("bonds", schema="marketplace")
