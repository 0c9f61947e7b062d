"""Give bookers machines: what a miner offers of them, how long they ran, and the connections to them."""

import sqlalchemy as sa
from alembic import op

revision = "gpu_0018"
down_revision = "gpu_0017"
branch_labels = None
depends_on = None

moment = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add the columns and the table."""
    op.add_column("profiles", sa.Column("machine", sa.Text()), schema="gpu")
    op.add_column(
        "bookings", sa.Column("machine_ms", sa.BigInteger(), server_default=sa.text("0"), nullable=False), schema="gpu"
    )
    op.add_column("bookings", sa.Column("machine_seen_at", moment), schema="gpu")
    op.create_check_constraint(op.f("bookings_machine_check"), "bookings", "machine_ms >= 0", schema="gpu")
    op.create_table(
        "machine_sessions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("booking", sa.Uuid(), nullable=False),
        sa.Column("miner", sa.Uuid(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("wanted", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("place", sa.Text()),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("heard_at", moment, nullable=False),
        sa.Column("ended_at", moment),
        sa.Column("reason", sa.Text()),
        sa.CheckConstraint("state IN ('waiting', 'open', 'ended')", name=op.f("machine_sessions_state_check")),
        sa.CheckConstraint("(state = 'ended') = (ended_at IS NOT NULL)", name=op.f("machine_sessions_ended_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("machine_sessions_pk")),
        schema="gpu",
    )
    still = sa.text("state <> 'ended'")
    for name, columns, where in (
        ("machine_sessions_open_idx", ["miner", "id"], still),
        ("machine_sessions_booking_idx", ["booking"], still),
        ("machine_sessions_ended_at_idx", ["ended_at"], sa.text("state = 'ended'")),
    ):
        op.create_index(name, "machine_sessions", columns, schema="gpu", postgresql_where=where)


def downgrade() -> None:
    """Remove them."""
    op.drop_table("machine_sessions", schema="gpu")
    op.drop_constraint(op.f("bookings_machine_check"), "bookings", schema="gpu")
    op.drop_column("bookings", "machine_seen_at", schema="gpu")
    op.drop_column("bookings", "machine_ms", schema="gpu")
    op.drop_column("profiles", "machine", schema="gpu")
