"""Serve deployments at edges."""

import sqlalchemy as sa
from alembic import op

revision = "hermes_0003"
down_revision = "hermes_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Serve deployments at edges."""
    op.create_table(
        "deployments",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("locations", sa.Text(), nullable=False),
        sa.Column("replicas", sa.Integer(), nullable=False),
        sa.Column("plan", sa.Text(), nullable=False),
        sa.Column("coordination", sa.Text(), nullable=False),
        sa.Column("turn", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("target", sa.Integer(), nullable=False),
        sa.Column("good", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "state IN ('rolling', 'live', 'rolled_back', 'failed', 'ended')", name=op.f("deployments_state_check")
        ),
        sa.CheckConstraint(
            "replicas >= 1 AND version >= 1 AND target >= 0 AND good >= 0", name=op.f("deployments_numbers_check")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("deployments_pk")),
        schema="hermes",
        info={"grants": ("SELECT", "INSERT", "UPDATE")},
    )
    op.create_index("deployments_account_idx", "deployments", ["account", "id"], unique=False, schema="hermes")
    op.create_index(
        "deployments_open_idx",
        "deployments",
        ["id"],
        unique=False,
        schema="hermes",
        postgresql_where=sa.text("state NOT IN ('failed', 'ended')"),
    )
    op.create_table(
        "edges",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("location", sa.Text(), nullable=False),
        sa.Column("public_key", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=True),
        sa.Column("memory_mib", sa.BigInteger(), nullable=True),
        sa.Column("disk_mib", sa.BigInteger(), nullable=True),
        sa.Column("reported_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("vouched_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("edges_pk")),
        schema="hermes",
        info={"grants": ("SELECT", "INSERT", "UPDATE")},
    )
    op.create_index(
        "edges_account_idx",
        "edges",
        ["account", "location"],
        unique=False,
        schema="hermes",
        postgresql_where=sa.text("removed_at IS NULL"),
    )
    op.create_table(
        "deployment_versions",
        sa.Column("deployment", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["deployment"], ["hermes.deployments.id"], name=op.f("deployment_versions_deployment_fkey")
        ),
        sa.PrimaryKeyConstraint("deployment", "number", name=op.f("deployment_versions_pk")),
        schema="hermes",
        info={"grants": ("SELECT", "INSERT")},
    )
    op.create_table(
        "edge_receipts",
        sa.Column("edge", sa.Uuid(), nullable=False),
        sa.Column("journal", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("deployment", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("statement", sa.Text(), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.Column("succeeded", sa.Boolean(), nullable=False),
        sa.Column("cut_off", sa.Boolean(), nullable=False),
        sa.Column("milliseconds", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["deployment"], ["hermes.deployments.id"], name=op.f("edge_receipts_deployment_fkey")),
        sa.ForeignKeyConstraint(["edge"], ["hermes.edges.id"], name=op.f("edge_receipts_edge_fkey")),
        sa.PrimaryKeyConstraint("edge", "journal", "sequence", name=op.f("edge_receipts_pk")),
        schema="hermes",
        info={"grants": ("SELECT", "INSERT")},
    )
    op.create_index(
        "edge_receipts_deployment_idx",
        "edge_receipts",
        ["deployment", "edge", "journal", "sequence"],
        unique=False,
        schema="hermes",
    )
    op.create_table(
        "placements",
        sa.Column("deployment", sa.Uuid(), nullable=False),
        sa.Column("edge", sa.Uuid(), nullable=False),
        sa.Column("location", sa.Text(), nullable=False),
        sa.Column("is_wanted", sa.Boolean(), nullable=False),
        sa.Column("wanted", sa.Integer(), nullable=False),
        sa.Column("serves", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("served", sa.BigInteger(), nullable=False),
        sa.Column("broken", sa.BigInteger(), nullable=False),
        sa.Column("cut_off", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("state IN ('waiting', 'preparing', 'ready', 'failed')", name=op.f("placements_state_check")),
        sa.CheckConstraint("wanted >= 0 AND serves >= 0", name=op.f("placements_versions_check")),
        sa.ForeignKeyConstraint(["deployment"], ["hermes.deployments.id"], name=op.f("placements_deployment_fkey")),
        sa.ForeignKeyConstraint(["edge"], ["hermes.edges.id"], name=op.f("placements_edge_fkey")),
        sa.PrimaryKeyConstraint("deployment", "edge", name=op.f("placements_pk")),
        schema="hermes",
        info={"grants": ("SELECT", "INSERT", "UPDATE")},
    )
    op.create_index(
        "placements_edge_idx",
        "placements",
        ["edge"],
        unique=False,
        schema="hermes",
        postgresql_where=sa.text("wanted > 0 OR serves > 0"),
    )


def downgrade() -> None:
    """Take it back."""
    op.drop_index(
        "placements_edge_idx",
        table_name="placements",
        schema="hermes",
        postgresql_where=sa.text("wanted > 0 OR serves > 0"),
    )
    op.drop_table("placements", schema="hermes")
    op.drop_index("edge_receipts_deployment_idx", table_name="edge_receipts", schema="hermes")
    op.drop_table("edge_receipts", schema="hermes")
    op.drop_table("deployment_versions", schema="hermes")
    op.drop_index(
        "edges_account_idx", table_name="edges", schema="hermes", postgresql_where=sa.text("removed_at IS NULL")
    )
    op.drop_table("edges", schema="hermes")
    op.drop_index(
        "deployments_open_idx",
        table_name="deployments",
        schema="hermes",
        postgresql_where=sa.text("state NOT IN ('failed', 'ended')"),
    )
    op.drop_index("deployments_account_idx", table_name="deployments", schema="hermes")
    op.drop_table("deployments", schema="hermes")
