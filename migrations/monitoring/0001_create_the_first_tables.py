"""Create the first tables of monitoring."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from aitbc.kernel.database.standard_tables_v1 import create_common_tables

revision = "monitoring_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    create_common_tables("monitoring")
    op.create_table(
        "alert_standings",
        sa.Column("rule", sa.Uuid(), nullable=False),
        sa.Column("series", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("bad_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("good_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("alert", sa.Uuid(), nullable=True),
        sa.CheckConstraint("state IN ('clear', 'pending', 'firing')", name="alert_standings_state_check"),
        sa.PrimaryKeyConstraint("rule", "series", name="alert_standings_pk"),
        schema="monitoring",
    )
    op.create_table(
        "alerts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("rule", sa.Uuid(), nullable=False),
        sa.Column("rule_name", sa.Text(), nullable=False),
        sa.Column("series", sa.Text(), nullable=False),
        sa.Column("grouping", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("fired_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("cleared_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name="alerts_pk"),
        schema="monitoring",
    )
    op.create_index(
        "alerts_firing_key",
        "alerts",
        ["rule", "series"],
        unique=True,
        schema="monitoring",
        postgresql_where=sa.text("cleared_at IS NULL"),
    )
    op.create_table(
        "changes",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("monitor", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("before", sa.Text(), nullable=False),
        sa.Column("after", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("is_public", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="changes_pk"),
        schema="monitoring",
    )
    op.create_index("changes_at_idx", "changes", ["at"], unique=False, schema="monitoring")
    op.create_table(
        "cursors",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="cursors_pk"),
        schema="monitoring",
    )
    op.create_table(
        "figures",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("total", sa.Float(), nullable=False),
        sa.Column("low", sa.Float(), nullable=False),
        sa.Column("high", sa.Float(), nullable=False),
        sa.Column("last", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name", "width", "start", name="figures_pk"),
        schema="monitoring",
    )
    op.create_index("figures_kept_idx", "figures", ["width", "start"], unique=False, schema="monitoring")
    op.create_table(
        "mails",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("recipients", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.SmallInteger(), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("dead_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="mails_pk"),
        schema="monitoring",
    )
    op.create_index(
        "mails_due_idx",
        "mails",
        ["due_at"],
        unique=False,
        schema="monitoring",
        postgresql_where=sa.text("sent_at IS NULL AND dead_at IS NULL"),
    )
    op.create_table(
        "monitors",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("interval_seconds", sa.Float(), nullable=False),
        sa.Column("timeout_seconds", sa.Float(), nullable=False),
        sa.Column("slow_seconds", sa.Float(), nullable=True),
        sa.Column("fall", sa.SmallInteger(), nullable=False),
        sa.Column("rise", sa.SmallInteger(), nullable=False),
        sa.Column("parents", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("is_public", sa.Boolean(), nullable=False),
        sa.Column("push_digest", sa.LargeBinary(), nullable=True),
        sa.Column("pushed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("pushed_works", sa.Boolean(), nullable=True),
        sa.Column("pushed_reason", sa.Text(), nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("state_since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("candidate", sa.Text(), nullable=True),
        sa.Column("streak", sa.SmallInteger(), nullable=False),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("seconds", sa.Float(), nullable=True),
        sa.Column("works", sa.Boolean(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "kind IN ('process', 'module', 'database', 'bus', 'miners', 'declarations', 'http', 'tcp', 'push')",
            name="monitors_kind_check",
        ),
        sa.CheckConstraint("origin IN ('built_in', 'file', 'api')", name="monitors_origin_check"),
        sa.CheckConstraint(
            "state IN ('up', 'degraded', 'down', 'unknown', 'maintenance')", name="monitors_state_check"
        ),
        sa.PrimaryKeyConstraint("id", name="monitors_pk"),
        schema="monitoring",
    )
    op.create_index(
        "monitors_due_idx",
        "monitors",
        ["due_at"],
        unique=False,
        schema="monitoring",
        postgresql_where=sa.text("removed_at IS NULL"),
    )
    op.create_index(
        "monitors_name_key",
        "monitors",
        ["name"],
        unique=True,
        schema="monitoring",
        postgresql_where=sa.text("removed_at IS NULL"),
    )
    op.create_table(
        "objectives",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("monitor", sa.Text(), nullable=True),
        sa.Column("work", sa.Text(), nullable=True),
        sa.Column("target", sa.Float(), nullable=False),
        sa.Column("window_days", sa.SmallInteger(), nullable=False),
        sa.Column("counts_degraded", sa.Boolean(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("origin IN ('built_in', 'file', 'api')", name="objectives_origin_check"),
        sa.CheckConstraint("target > 0 AND target < 1", name="objectives_target_check"),
        sa.CheckConstraint("(monitor IS NULL) <> (work IS NULL)", name="objectives_subject_check"),
        sa.PrimaryKeyConstraint("id", name="objectives_pk"),
        schema="monitoring",
    )
    op.create_index(
        "objectives_name_key",
        "objectives",
        ["name"],
        unique=True,
        schema="monitoring",
        postgresql_where=sa.text("removed_at IS NULL"),
    )
    op.create_table(
        "rollups",
        sa.Column("monitor", sa.Uuid(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("up", sa.Integer(), nullable=False),
        sa.Column("degraded", sa.Integer(), nullable=False),
        sa.Column("down", sa.Integer(), nullable=False),
        sa.Column("maintenance", sa.Integer(), nullable=False),
        sa.Column("measured", sa.Integer(), nullable=False),
        sa.Column("seconds_sum", sa.Float(), nullable=False),
        sa.Column("seconds_max", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("monitor", "width", "start", name="rollups_pk"),
        schema="monitoring",
    )
    op.create_index("rollups_kept_idx", "rollups", ["width", "start"], unique=False, schema="monitoring")
    op.create_table(
        "rules",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("direction", sa.Text(), nullable=False),
        sa.Column("fire_at", sa.Float(), nullable=False),
        sa.Column("clear_at", sa.Float(), nullable=False),
        sa.Column("for_seconds", sa.Float(), nullable=False),
        sa.Column("clear_seconds", sa.Float(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("grouping", sa.Text(), nullable=False),
        sa.Column("is_mailed", sa.Boolean(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("origin IN ('built_in', 'file', 'api')", name="rules_origin_check"),
        sa.CheckConstraint("severity IN ('info', 'warning', 'critical')", name="rules_severity_check"),
        sa.CheckConstraint("source IN ('monitor', 'figure', 'event', 'objective')", name="rules_source_check"),
        sa.PrimaryKeyConstraint("id", name="rules_pk"),
        schema="monitoring",
    )
    op.create_index(
        "rules_name_key",
        "rules",
        ["name"],
        unique=True,
        schema="monitoring",
        postgresql_where=sa.text("removed_at IS NULL"),
    )
    op.create_table(
        "upkeeps",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("result", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="upkeeps_pk"),
        schema="monitoring",
    )
    op.create_table(
        "usage",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("miner", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("miner_account", sa.Uuid(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("jobs", sa.BigInteger(), nullable=False),
        sa.Column("units", sa.BigInteger(), nullable=False),
        sa.Column("price_units", sa.BigInteger(), nullable=False),
        sa.Column("fee_units", sa.BigInteger(), nullable=False),
        sa.Column("earned_units", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("price_units = fee_units + earned_units", name="usage_adds_up_check"),
        sa.PrimaryKeyConstraint("day", "account", "miner", "kind", "model", name="usage_pk"),
        schema="monitoring",
    )
    op.create_table(
        "windows",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("monitors", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("canceled_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("ends_at > starts_at", name="windows_times_check"),
        sa.PrimaryKeyConstraint("id", name="windows_pk"),
        schema="monitoring",
    )
    op.create_index("windows_ends_at_idx", "windows", ["ends_at"], unique=False, schema="monitoring")


def downgrade() -> None:
    """Remove the tables."""
    for table in (
        "windows",
        "usage",
        "upkeeps",
        "rules",
        "rollups",
        "objectives",
        "monitors",
        "mails",
        "figures",
        "cursors",
        "changes",
        "alerts",
        "alert_standings",
        "audit",
        "answers",
        "inbox",
        "outbox",
    ):
        op.drop_table(table, schema="monitoring")
