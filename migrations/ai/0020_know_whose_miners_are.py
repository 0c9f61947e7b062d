"""Know whose miners are, and find an owner's waiting jobs: own fleet first."""

import sqlalchemy as sa
from alembic import op

revision = "ai_0020"
down_revision = "ai_0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add both; a miner that has worked is known by its attempts, another by its next event."""
    op.add_column("miners", sa.Column("account", sa.Uuid(), nullable=True), schema="ai")
    op.execute(
        "UPDATE ai.miners m SET account = a.miner_account FROM (SELECT DISTINCT ON (miner) miner, miner_account "
        "FROM ai.attempts ORDER BY miner, id DESC) a WHERE a.miner = m.id"
    )
    op.create_index(
        "jobs_own_idx",
        "jobs",
        ["account", "lane", "rank", "id"],
        schema="ai",
        postgresql_where=sa.text("state = 'queued'"),
    )


def downgrade() -> None:
    """Remove both."""
    op.drop_index("jobs_own_idx", "jobs", schema="ai")
    op.drop_column("miners", "account", schema="ai")
