"""Call tools of MCP servers."""

from alembic import op

revision = "hermes_0004"
down_revision = "hermes_0003"
branch_labels = None
depends_on = None
NAME = "steps_does_check"
BEFORE = "does IN ('job', 'call', 'delegate', 'approve')"
AFTER = "does IN ('job', 'call', 'delegate', 'approve', 'tool')"


def upgrade() -> None:
    """Call tools of MCP servers."""
    op.drop_constraint(op.f(NAME), "steps", schema="hermes", type_="check")
    op.create_check_constraint(op.f(NAME), "steps", AFTER, schema="hermes")


def downgrade() -> None:
    """Take it back."""
    op.drop_constraint(op.f(NAME), "steps", schema="hermes", type_="check")
    op.create_check_constraint(op.f(NAME), "steps", BEFORE, schema="hermes")
