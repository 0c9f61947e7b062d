"""Run graphs of jobs: how they were written, and where each of their nodes is."""

import sqlalchemy as sa
from alembic import op

revision = "ai_0015"
down_revision = "ai_0014"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
GRAPH_STATES = "state IN ('running', 'paused', 'canceling', 'succeeded', 'failed', 'canceled')"
NODE_STATES = (
    "state IN ('pending', 'starting', 'running', 'succeeded', 'failed', 'upstream_failed', 'skipped', 'canceled')"
)
IN_BUDGET = "reserved_units >= 0 AND spent_units >= 0 AND reserved_units + spent_units <= budget_units"
ENDED = "(ended_at IS NULL) = (state IN ('running', 'paused', 'canceling'))"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "graphs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("spec", sa.Text()),
        sa.Column("schedule", sa.Uuid()),
        sa.Column("budget_units", sa.BigInteger(), nullable=False),
        sa.Column("reserved_units", sa.BigInteger(), nullable=False),
        sa.Column("spent_units", sa.BigInteger(), nullable=False),
        sa.Column("parallel", sa.Integer(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("due_at", MOMENT),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("ended_at", MOMENT),
        sa.Column("kept_until", MOMENT),
        sa.CheckConstraint(GRAPH_STATES, name=op.f("graphs_state_check")),
        sa.CheckConstraint(IN_BUDGET, name=op.f("graphs_budget_check")),
        sa.CheckConstraint(ENDED, name=op.f("graphs_ended_check")),
        sa.CheckConstraint("ended_at IS NULL OR reserved_units = 0", name=op.f("graphs_released_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("graphs_pk")),
        schema="ai",
    )
    for name, columns, where in (
        ("graphs_account_idx", ["account", "id"], None),
        ("graphs_open_idx", ["account"], "ended_at IS NULL"),
        ("graphs_due_idx", ["due_at"], "due_at IS NOT NULL"),
        ("graphs_kept_idx", ["kept_until"], "kept_until IS NOT NULL"),
        ("graphs_schedule_idx", ["schedule", "id"], "schedule IS NOT NULL"),
    ):
        op.create_index(
            name, "graphs", columns, schema="ai", postgresql_where=None if where is None else sa.text(where)
        )
    op.create_table(
        "graph_nodes",
        sa.Column("graph", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("job", sa.Uuid()),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("earlier", sa.Integer(), nullable=False),
        sa.Column("reserved_units", sa.BigInteger(), nullable=False),
        sa.Column("spent_units", sa.BigInteger(), nullable=False),
        sa.Column("output_digest", sa.Text()),
        sa.Column("due_at", MOMENT),
        sa.Column("started_at", MOMENT),
        sa.Column("ended_at", MOMENT),
        sa.Column("changed", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(NODE_STATES, name=op.f("graph_nodes_state_check")),
        sa.CheckConstraint("reserved_units >= 0 AND spent_units >= 0", name=op.f("graph_nodes_money_check")),
        sa.PrimaryKeyConstraint("graph", "name", "index", name=op.f("graph_nodes_pk")),
        schema="ai",
    )
    op.create_index(
        "graph_nodes_job_idx", "graph_nodes", ["job"], schema="ai", postgresql_where=sa.text("state = 'running'")
    )


def downgrade() -> None:
    """Remove them; jobs of graphs that are under way go on by themselves."""
    op.drop_table("graph_nodes", schema="ai")
    op.drop_table("graphs", schema="ai")
