"""Know which bookings last, and find the open jobs that are for one."""

import sqlalchemy as sa
from alembic import op

revision = "ai_0008"
down_revision = "ai_0007"
branch_labels = None
depends_on = None

moment = sa.DateTime(timezone=True)
OPEN_AND_BOOKED = "state IN ('queued', 'leased', 'running') AND strpos(needs, '\"booking\":\"book_') > 0"


def upgrade() -> None:
    """Make the table, with the bookings that miners are in; when those end, gpu says."""
    op.create_table(
        "bookings",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("ends_at", moment),
        sa.Column("ended_at", moment),
        sa.PrimaryKeyConstraint("id", name=op.f("bookings_pk")),
        schema="ai",
    )
    op.execute("INSERT INTO ai.bookings (id, account) SELECT booking, booker FROM ai.miners WHERE booking IS NOT NULL")
    where = sa.text(OPEN_AND_BOOKED)
    op.create_index("jobs_booked_idx", "jobs", ["account", "id"], postgresql_where=where, schema="ai")


def downgrade() -> None:
    """Remove them."""
    op.drop_index("jobs_booked_idx", "jobs", schema="ai")
    op.drop_table("bookings", schema="ai")
