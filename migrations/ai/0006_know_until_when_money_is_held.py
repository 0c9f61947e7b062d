"""Know of a job until when its money is held, so that no result is accepted that could not be paid."""

import sqlalchemy as sa
from alembic import op

revision = "ai_0006"
down_revision = "ai_0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; the money of the jobs that are there is held until an hour after their last attempt could end.

    Events that pay for a job, or return its money, are not given up any more: those that were are tried again.
    """
    op.add_column("jobs", sa.Column("hold_expires_at", sa.DateTime(timezone=True)), schema="ai")
    op.execute(
        "UPDATE ai.jobs SET hold_expires_at = deadline_at + make_interval(secs => run_seconds) + interval '1 hour'"
    )
    op.execute(
        "UPDATE ai.outbox SET dead_at = NULL, due_at = now() "
        "WHERE dead_at IS NOT NULL AND kind IN ('ai.job_succeeded', 'ai.job_closed')"
    )
    op.alter_column("jobs", "hold_expires_at", nullable=False, schema="ai")


def downgrade() -> None:
    """Remove it."""
    op.drop_column("jobs", "hold_expires_at", schema="ai")
