"""Count the jobs of each account: how many were written, and how many of them have ended."""

import sqlalchemy as sa
from alembic import op

revision = "ai_0002"
down_revision = "ai_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table, and count what is there."""
    op.create_table(
        "job_counts",
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("ended", sa.Boolean(), nullable=False),
        sa.Column("jobs", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account", "ended", name="job_counts_pk"),
        schema="ai",
    )
    op.execute(
        "INSERT INTO ai.job_counts (account, ended, jobs) SELECT account, false, count(*) FROM ai.jobs GROUP BY account"
    )
    op.execute(
        "INSERT INTO ai.job_counts (account, ended, jobs) SELECT account, true, count(*) FROM ai.jobs"
        " WHERE state NOT IN ('queued', 'leased', 'running') GROUP BY account"
    )


def downgrade() -> None:
    """Remove the table."""
    op.drop_table("job_counts", schema="ai")
