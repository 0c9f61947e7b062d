"""Pay bounties for models that jobs wait for and nobody serves."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "marketplace_0013"
down_revision = "marketplace_0012"
branch_labels = None
depends_on = None

moment = sa.DateTime(timezone=True)
GRANTS = {"grants": ("SELECT", "INSERT", "UPDATE")}
STATES = "'asked', 'open', 'paying', 'paid', 'withdrawn'"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "bounties",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("jobs", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("since", moment, nullable=False),
        sa.Column("payer", sa.Uuid(), nullable=False),
        sa.Column("hold", sa.Uuid(), nullable=False),
        sa.Column("held_units", sa.BigInteger(), nullable=False),
        sa.Column("share_units", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("amount_units", sa.BigInteger(), nullable=False),
        sa.Column("job", sa.Uuid()),
        sa.Column("miner", sa.Uuid()),
        sa.Column("owner", sa.Uuid()),
        sa.Column("transaction", sa.Uuid()),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("ended_at", moment),
        sa.CheckConstraint(f"state IN ({STATES})", name=op.f("bounties_state_check")),
        sa.CheckConstraint("held_units > 0 AND share_units > 0", name=op.f("bounties_held_check")),
        sa.CheckConstraint("amount_units BETWEEN 0 AND held_units", name=op.f("bounties_amount_check")),
        sa.CheckConstraint("(state IN ('paying', 'paid')) = (job IS NOT NULL)", name=op.f("bounties_served_check")),
        sa.CheckConstraint(
            "(job IS NULL) = (miner IS NULL) AND (job IS NULL) = (owner IS NULL)", name=op.f("bounties_by_check")
        ),
        sa.CheckConstraint(
            "(state IN ('paid', 'withdrawn')) = (ended_at IS NOT NULL)", name=op.f("bounties_ended_check")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("bounties_pk")),
        schema="marketplace",
        info=GRANTS,
    )
    for name, columns, unique, where in (
        ("bounties_open_key", ["kind", "model"], True, "ended_at IS NULL"),
        ("bounties_open_idx", ["id"], False, "ended_at IS NULL"),
        ("bounties_paid_idx", ["ended_at"], False, "state = 'paid'"),
        ("bounties_model_idx", ["kind", "model", "ended_at"], False, "state = 'paid'"),
        ("bounties_job_key", ["job"], True, "job IS NOT NULL"),
    ):
        op.create_index(name, "bounties", columns, unique=unique, schema="marketplace", postgresql_where=sa.text(where))


def downgrade() -> None:
    """Remove it; what is still held returns when its holds expire."""
    op.drop_table("bounties", schema="marketplace")
