"""Let the planner know how regions and models are spread as searches compare them: else it takes all for rare."""

from alembic import op

revision = "marketplace_0005"
down_revision = "marketplace_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Keep statistics of what is compared in any letter case."""
    for column in ("region", "model"):
        op.execute(f"CREATE STATISTICS marketplace.offers_{column}_stat ON (lower({column})) FROM marketplace.offers")


def downgrade() -> None:
    """Keep them no more."""
    for column in ("region", "model"):
        op.execute(f"DROP STATISTICS marketplace.offers_{column}_stat")
