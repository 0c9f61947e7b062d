"""Count the time of a booking in which its miner took no work: it is not paid."""

import sqlalchemy as sa
from alembic import op

revision = "gpu_0007"
down_revision = "gpu_0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; of a booking that is open, the time until now is paid as it was agreed."""
    op.add_column("bookings", sa.Column("grace_ms", sa.BigInteger()), schema="gpu")
    zero = sa.Column("unreachable_us", sa.BigInteger(), server_default=sa.text("0"), nullable=False)
    op.add_column("bookings", zero, schema="gpu")
    op.add_column("bookings", sa.Column("counted_at", sa.DateTime(timezone=True)), schema="gpu")
    op.execute("UPDATE gpu.bookings SET grace_ms = 30000, counted_at = coalesce(ended_at, greatest(starts_at, now()))")
    op.alter_column("bookings", "grace_ms", nullable=False, schema="gpu")
    op.alter_column("bookings", "counted_at", nullable=False, schema="gpu")
    op.create_check_constraint(
        op.f("bookings_counted_check"), "bookings", "grace_ms > 0 AND unreachable_us >= 0", schema="gpu"
    )


def downgrade() -> None:
    """Remove them: all time is paid again."""
    op.drop_constraint(op.f("bookings_counted_check"), "bookings", schema="gpu")
    for name in ("counted_at", "unreachable_us", "grace_ms"):
        op.drop_column("bookings", name, schema="gpu")
