"""Book offers: the time of a miner, paid in slices."""

import sqlalchemy as sa
from alembic import op

revision = "marketplace_0003"
down_revision = "marketplace_0002"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
GRANTS = {"grants": ("SELECT", "INSERT", "UPDATE")}
STATES = "('placed', 'reserved', 'active', 'suspended', 'ending', 'ended')"
REASONS = "('completed', 'released', 'interrupted', 'unpaid', 'idle', 'miner_lost', 'miner_unavailable', 'no_funds', 'not_begun')"


def upgrade() -> None:
    """Add the tables, and the constraint that no two bookings of a miner overlap."""
    op.create_table(
        "bookings",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("offer", sa.Uuid(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("owner", sa.Uuid(), nullable=False),
        sa.Column("miner", sa.Uuid(), nullable=False),
        sa.Column("label", sa.Text(), nullable=True),
        sa.Column("price_units", sa.BigInteger(), nullable=False),
        sa.Column("proposed_units", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("starts_at", MOMENT, nullable=False),
        sa.Column("ends_at", MOMENT, nullable=False),
        sa.Column("interruptible", sa.Boolean(), nullable=False),
        sa.Column("interrupt_at", MOMENT, nullable=True),
        sa.Column("idle_seconds", sa.Integer(), nullable=True),
        sa.Column("busy_at", MOMENT, nullable=True),
        sa.Column("suspended_at", MOMENT, nullable=True),
        sa.Column("slices", sa.Integer(), nullable=False),
        sa.Column("held_ms", sa.BigInteger(), nullable=False),
        sa.Column("used_ms", sa.BigInteger(), nullable=False),
        sa.Column("paid_units", sa.BigInteger(), nullable=False),
        sa.Column("warned", sa.SmallInteger(), nullable=False),
        sa.Column("money_until", MOMENT, nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("began_at", MOMENT, nullable=True),
        sa.Column("ended_at", MOMENT, nullable=True),
        sa.CheckConstraint(f"state IN {STATES}", name=op.f("bookings_state_check")),
        sa.CheckConstraint(f"reason IS NULL OR reason IN {REASONS}", name=op.f("bookings_reason_check")),
        sa.CheckConstraint("(state = 'ended') = (ended_at IS NOT NULL)", name=op.f("bookings_ended_check")),
        sa.CheckConstraint("(state IN ('ending', 'ended')) = (reason IS NOT NULL)", name=op.f("bookings_why_check")),
        sa.CheckConstraint("(state = 'suspended') = (suspended_at IS NOT NULL)", name=op.f("bookings_suspended_check")),
        sa.CheckConstraint(
            "price_units > 0 AND (proposed_units IS NULL OR proposed_units > 0)", name=op.f("bookings_price_check")
        ),
        sa.CheckConstraint("ends_at > starts_at", name=op.f("bookings_times_check")),
        sa.CheckConstraint(
            "slices >= 0 AND held_ms >= 0 AND used_ms >= 0 AND paid_units >= 0", name=op.f("bookings_counted_check")
        ),
        sa.ForeignKeyConstraint(["offer"], ["marketplace.offers.id"], name=op.f("bookings_offer_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("bookings_pk")),
        schema="marketplace",
        info=GRANTS,
    )
    op.create_index("bookings_account_idx", "bookings", ["account", "id"], schema="marketplace")
    op.create_index("bookings_owner_idx", "bookings", ["owner", "id"], schema="marketplace")
    op.create_index(
        "bookings_open_idx", "bookings", ["id"], schema="marketplace", postgresql_where=sa.text("ended_at IS NULL")
    )
    # A GiST index compares ranges without an extension, so a miner is a range of one.
    op.execute("CREATE TYPE marketplace.uuidrange AS RANGE (subtype = uuid)")
    op.execute(
        "ALTER TABLE marketplace.bookings ADD CONSTRAINT bookings_overlap_excl EXCLUDE USING gist "
        "(marketplace.uuidrange(miner, miner, '[]') WITH =, tstzrange(starts_at, ends_at) WITH &&) "
        "WHERE (ended_at IS NULL)"
    )
    op.create_table(
        "booking_slices",
        sa.Column("booking", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("hold", sa.Uuid(), nullable=False),
        sa.Column("millis", sa.BigInteger(), nullable=False),
        sa.Column("price_units", sa.BigInteger(), nullable=False),
        sa.Column("amount_units", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("paid_units", sa.BigInteger(), nullable=False),
        sa.Column("transaction", sa.Uuid(), nullable=True),
        sa.CheckConstraint(
            "state IN ('asked', 'unfunded', 'held', 'paid', 'returned')", name=op.f("booking_slices_state_check")
        ),
        sa.CheckConstraint(
            "millis > 0 AND amount_units >= 0 AND paid_units BETWEEN 0 AND amount_units",
            name=op.f("booking_slices_amounts_check"),
        ),
        sa.ForeignKeyConstraint(["booking"], ["marketplace.bookings.id"], name=op.f("booking_slices_booking_fkey")),
        sa.PrimaryKeyConstraint("booking", "number", name=op.f("booking_slices_pk")),
        schema="marketplace",
        info=GRANTS,
    )


def downgrade() -> None:
    """Remove them."""
    op.drop_table("booking_slices", schema="marketplace")
    op.drop_table("bookings", schema="marketplace")
    op.execute("DROP TYPE marketplace.uuidrange")
