"""Let listed GPUs be booked, say of a miner which booking it is in, and let orders expire."""

import sqlalchemy as sa
from alembic import op

revision = "gpu_0004"
down_revision = "gpu_0003"
branch_labels = None
depends_on = None

moment = sa.DateTime(timezone=True)
STILL_OPEN = sa.text("state = ANY (ARRAY['placed'::text, 'active'::text])")


def upgrade() -> None:
    """Make the table; nothing is booked yet."""
    op.add_column("listed_gpus", sa.Column("miner", sa.Uuid()), schema="gpu")
    op.add_column("miners", sa.Column("booking", sa.Uuid()), schema="gpu")
    op.add_column("miners", sa.Column("booker", sa.Uuid()), schema="gpu")
    both = "(booking IS NULL) = (booker IS NULL)"
    op.create_check_constraint(op.f("miners_booked_check"), "miners", both, schema="gpu")
    _create_bookings()
    _create_indexes()
    _allow_orders(", 'expired'")


def _create_bookings() -> None:
    """Bookings, with their terms and how they came out."""
    op.create_table(
        "bookings",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("gpu", sa.Uuid(), nullable=False),
        sa.Column("miner", sa.Uuid()),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("owner", sa.Uuid(), nullable=False),
        sa.Column("price_units", sa.BigInteger(), nullable=False),
        sa.Column("duration_ms", sa.BigInteger(), nullable=False),
        sa.Column("total_units", sa.BigInteger(), nullable=False),
        sa.Column("job", sa.Text()),
        sa.Column("client", sa.Text()),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("starts_at", moment, nullable=False),
        sa.Column("ends_at", moment, nullable=False),
        sa.Column("confirmed_at", moment),
        sa.Column("ended_at", moment),
        sa.Column("cost_units", sa.BigInteger()),
        sa.Column("settled_at", moment),
        sa.Column("transaction", sa.Uuid()),
        sa.CheckConstraint("(state IN ('placed', 'active')) = (ended_at IS NULL)", name=op.f("bookings_ended_check")),
        sa.CheckConstraint(
            "state IN ('placed', 'active', 'refused', 'released', 'ended', 'canceled')",
            name=op.f("bookings_state_check"),
        ),
        sa.CheckConstraint("(ended_at IS NULL) = (cost_units IS NULL)", name=op.f("bookings_cost_check")),
        sa.CheckConstraint(
            "price_units >= 0 AND duration_ms > 0 AND ends_at > starts_at AND total_units >= 0"
            " AND (cost_units IS NULL OR cost_units BETWEEN 0 AND total_units)",
            name=op.f("bookings_terms_check"),
        ),
        sa.CheckConstraint("settled_at IS NULL OR ended_at IS NOT NULL", name=op.f("bookings_settled_check")),
        sa.ForeignKeyConstraint(["gpu"], ["gpu.listed_gpus.id"], name=op.f("bookings_gpu_fkey")),
        sa.ForeignKeyConstraint(["miner"], ["gpu.miners.id"], name=op.f("bookings_miner_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("bookings_pk")),
        schema="gpu",
    )


def _create_indexes() -> None:
    """Two of them let nobody book what is booked."""
    table: dict[str, str] = {"table_name": "bookings", "schema": "gpu"}
    op.create_index("bookings_gpu_key", columns=["gpu"], unique=True, postgresql_where=STILL_OPEN, **table)
    op.create_index("bookings_miner_key", columns=["miner"], unique=True, postgresql_where=STILL_OPEN, **table)
    op.create_index("bookings_ends_at_idx", columns=["ends_at", "id"], postgresql_where=STILL_OPEN, **table)
    unsettled = sa.text("settled_at IS NULL AND ended_at IS NOT NULL")
    op.create_index("bookings_unsettled_idx", columns=["id"], postgresql_where=unsettled, **table)
    op.create_index("bookings_account_idx", columns=["account", "id"], **table)
    op.create_index("bookings_owner_idx", columns=["owner", "id"], **table)


def _allow_orders(more: str) -> None:
    """How orders may end."""
    name, table = "market_orders_state_check", "gpu.market_orders"
    offers = f"side = 'offer' AND state IN ('active', 'matched', 'cancelled'{more})"
    bids = f"side = 'bid' AND state IN ('pending', 'accepted', 'matched', 'cancelled'{more})"
    op.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
    op.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} CHECK (({offers}) OR ({bids})) NOT VALID")
    op.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}")


def downgrade() -> None:
    """Remove it, with every booking there was; an order that expired was taken back, as far as could be said before."""
    op.execute("UPDATE gpu.market_orders SET state = 'cancelled' WHERE state = 'expired'")
    _allow_orders("")
    op.drop_table("bookings", schema="gpu")
    op.drop_constraint(op.f("miners_booked_check"), "miners", schema="gpu")
    op.drop_column("miners", "booker", schema="gpu")
    op.drop_column("miners", "booking", schema="gpu")
    op.drop_column("listed_gpus", "miner", schema="gpu")
