"""Take the orders of older clients over from gpu: the engine of all bids decides them, and its log has them."""

import json

import sqlalchemy as sa
from alembic import op

from aitbc.kernel.primitives import ids

revision = "marketplace_0009"
down_revision = "marketplace_0008"
branch_labels = None
depends_on = None

moment = sa.DateTime(timezone=True)
ORDER = (
    "id, side, account, node, island, chain, gpu_count, price_units, duration_ms, total_units, model, region, specs,"
    " description, state, created_at, content, ended_at, ended_by, ending, partner, partner_node"
)
MATCH = "offer, bid, gpu_count, price_units, duration_ms, total_units, matched_by, matched_at"


def upgrade() -> None:
    """Make the two tables, and fill them with what gpu has, where it has been there before."""
    _create_orders()
    _create_matches()
    op.execute(
        f"""DO $$ BEGIN IF to_regclass('gpu.market_orders') IS NOT NULL THEN
            INSERT INTO marketplace.posted_orders ({ORDER}) SELECT {ORDER} FROM gpu.market_orders;
            INSERT INTO marketplace.posted_matches ({MATCH}) SELECT {MATCH} FROM gpu.market_matches;
        END IF; END $$"""  # noqa: S608 - of the names above
    )
    _log_open_bids()


def _log_open_bids() -> None:
    """What was placed before the log knew of it comes into the log, in the order in which it was placed."""
    connection = op.get_bind()
    last = "SELECT coalesce(max(sequence), 0) FROM marketplace.book_events"
    number = connection.execute(sa.text(last)).scalar_one()
    pending = "SELECT id, account, node, price_units FROM marketplace.posted_orders WHERE state = 'pending'"
    for row in connection.execute(sa.text(f"{pending} ORDER BY created_at, id")).all():
        number += 1
        bid = {"bid": f"posted/{row.id}", "payer": f"{ids.encode('acct', row.account)} {row.node}", "quantity": 1}
        event = {"type": "bid_placed", "bid": bid | {"limit_units": row.price_units}, "asks": []}
        connection.execute(
            sa.text("INSERT INTO marketplace.book_events VALUES (:number, :body, 0, now())"),
            {"number": number, "body": json.dumps(event, sort_keys=True)},
        )
        connection.execute(
            sa.text("UPDATE marketplace.posted_orders SET sequence = :number WHERE id = :id"),
            {"number": number, "id": row.id},
        )


def _create_orders() -> None:
    """Offers and bids."""
    op.create_table(
        "posted_orders",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("side", sa.Text(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("island", sa.Text()),
        sa.Column("chain", sa.Text()),
        sa.Column("gpu_count", sa.Integer(), nullable=False),
        sa.Column("price_units", sa.BigInteger(), nullable=False),
        sa.Column("duration_ms", sa.BigInteger(), nullable=False),
        sa.Column("total_units", sa.BigInteger(), nullable=False),
        sa.Column("model", sa.Text()),
        sa.Column("region", sa.Text()),
        sa.Column("specs", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger()),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("ended_at", moment),
        sa.Column("ended_by", sa.Uuid()),
        sa.Column("ending", sa.LargeBinary()),
        sa.Column("partner", sa.Uuid()),
        sa.Column("partner_node", sa.Text()),
        sa.CheckConstraint(
            "(side = 'offer' AND state IN ('active', 'matched', 'cancelled', 'expired'))"
            " OR (side = 'bid' AND state IN ('pending', 'accepted', 'matched', 'cancelled', 'expired'))",
            name=op.f("posted_orders_state_check"),
        ),
        sa.CheckConstraint(
            "(state IN ('accepted', 'matched')) = (partner IS NOT NULL)", name=op.f("posted_orders_partner_check")
        ),
        sa.CheckConstraint(
            "(state IN ('active', 'pending')) = (ended_at IS NULL)", name=op.f("posted_orders_ended_check")
        ),
        sa.CheckConstraint(
            "gpu_count BETWEEN 1 AND 100000 AND duration_ms > 0 AND price_units >= 0 AND total_units >= 0",
            name=op.f("posted_orders_terms_check"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("posted_orders_pk")),
        schema="marketplace",
    )
    op.create_index("posted_orders_created_at_idx", "posted_orders", ["created_at", "id"], schema="marketplace")
    op.create_index(
        "posted_orders_open_idx",
        "posted_orders",
        ["account"],
        schema="marketplace",
        postgresql_where=sa.text("state = ANY (ARRAY['active'::text, 'pending'::text])"),
    )


def _create_matches() -> None:
    """Offers and bids that found each other."""
    op.create_table(
        "posted_matches",
        sa.Column("offer", sa.Text(), nullable=False),
        sa.Column("bid", sa.Text(), nullable=False),
        sa.Column("gpu_count", sa.Integer(), nullable=False),
        sa.Column("price_units", sa.BigInteger(), nullable=False),
        sa.Column("duration_ms", sa.BigInteger(), nullable=False),
        sa.Column("total_units", sa.BigInteger(), nullable=False),
        sa.Column("matched_by", sa.Uuid(), nullable=False),
        sa.Column("matched_at", moment, nullable=False),
        sa.ForeignKeyConstraint(["bid"], ["marketplace.posted_orders.id"], name=op.f("posted_matches_bid_fkey")),
        sa.ForeignKeyConstraint(["offer"], ["marketplace.posted_orders.id"], name=op.f("posted_matches_offer_fkey")),
        sa.PrimaryKeyConstraint("offer", name=op.f("posted_matches_pk")),
        sa.UniqueConstraint("bid", name=op.f("posted_matches_bid_key")),
        schema="marketplace",
    )


def downgrade() -> None:
    """Remove them."""
    op.drop_table("posted_matches", schema="marketplace")
    op.drop_table("posted_orders", schema="marketplace")
