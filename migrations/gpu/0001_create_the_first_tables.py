"""Create the tables of gpu: enrolment tokens, miners, what they offer, the steps of their lives, and their reputations."""

import sqlalchemy as sa
from alembic import op

from aitbc.kernel.database.standard_tables_v1 import create_common_tables

revision = "gpu_0001"
down_revision = None
branch_labels = None
depends_on = None

moment = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the tables."""
    create_common_tables("gpu")
    _create_tokens()
    _create_miners()
    _create_profiles()
    _create_changes()
    _create_reputations()


def _create_tokens() -> None:
    """Enrolment tokens."""
    op.create_table(
        "enrolment_tokens",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("expires_at", moment, nullable=False),
        sa.Column("used_at", moment),
        sa.Column("miner", sa.Uuid()),
        sa.PrimaryKeyConstraint("id", name="enrolment_tokens_pk"),
        sa.UniqueConstraint("digest", name=op.f("enrolment_tokens_digest_key")),
        sa.CheckConstraint("(used_at IS NULL) = (miner IS NULL)", name=op.f("enrolment_tokens_used_check")),
        schema="gpu",
    )
    op.create_index(
        "enrolment_tokens_open_idx",
        "enrolment_tokens",
        ["account", "expires_at"],
        schema="gpu",
        postgresql_where=sa.text("used_at IS NULL"),
    )


def _create_miners() -> None:
    """Miners."""
    op.create_table(
        "miners",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("public_key", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("status_reason", sa.Text()),
        sa.Column("drain_message", sa.Text()),
        sa.Column("pause_reason", sa.Text()),
        sa.Column("slots", sa.SmallInteger(), nullable=False),
        sa.Column("slots_busy", sa.SmallInteger(), nullable=False),
        sa.Column("readings", sa.Text()),
        sa.Column("seen_at", moment),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("capabilities_version", sa.Integer(), nullable=False),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("changed_at", moment, nullable=False),
        sa.PrimaryKeyConstraint("id", name="miners_pk"),
        sa.CheckConstraint(
            "status IN ('enrolled', 'online', 'draining', 'offline', 'removed')", name=op.f("miners_status_check")
        ),
        sa.CheckConstraint("slots BETWEEN 1 AND 64 AND slots_busy >= 0", name=op.f("miners_slots_check")),
        schema="gpu",
        postgresql_with={"fillfactor": "70"},
    )
    op.create_index(
        "miners_public_key_idx",
        "miners",
        ["public_key"],
        unique=True,
        schema="gpu",
        postgresql_where=sa.text("status <> 'removed'"),
    )
    op.create_index("miners_account_idx", "miners", ["account", "id"], schema="gpu")


def _create_profiles() -> None:
    """What miners have and can do."""
    op.create_table(
        "profiles",
        sa.Column("miner", sa.Uuid(), nullable=False),
        sa.Column("capabilities", sa.Text(), nullable=False),
        sa.Column("inventory", sa.Text(), nullable=False),
        sa.Column("updated_at", moment, nullable=False),
        sa.PrimaryKeyConstraint("miner", name="profiles_pk"),
        sa.ForeignKeyConstraint(["miner"], ["gpu.miners.id"], name="profiles_miner_fkey"),
        schema="gpu",
    )


def _create_changes() -> None:
    """The steps of miners' lives."""
    op.create_table(
        "status_changes",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("miner", sa.Uuid(), nullable=False),
        sa.Column("at", moment, nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="status_changes_pk"),
        sa.ForeignKeyConstraint(["miner"], ["gpu.miners.id"], name="status_changes_miner_fkey"),
        schema="gpu",
    )
    op.create_index("status_changes_miner_idx", "status_changes", ["miner", "id"], schema="gpu")


def _create_reputations() -> None:
    """Attempts that ended, their sums by day, and what these amount to."""
    op.create_table(
        "reputation_events",
        sa.Column("attempt", sa.Uuid(), nullable=False),
        sa.Column("miner", sa.Uuid(), nullable=False),
        sa.Column("job", sa.Uuid(), nullable=False),
        sa.Column("job_kind", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("fault", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("started_at", moment, nullable=False),
        sa.Column("ended_at", moment, nullable=False),
        sa.Column("heard_at", moment, nullable=False),
        sa.PrimaryKeyConstraint("attempt", name="reputation_events_pk"),
        schema="gpu",
    )
    op.create_index("reputation_events_miner_idx", "reputation_events", ["miner", "ended_at", "attempt"], schema="gpu")
    op.create_table(
        "reputation_days",
        sa.Column("miner", sa.Uuid(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("good", sa.Integer(), nullable=False),
        sa.Column("bad", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("miner", "day", name="reputation_days_pk"),
        schema="gpu",
    )
    op.create_table(
        "reputations",
        sa.Column("miner", sa.Uuid(), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("good", sa.Integer(), nullable=False),
        sa.Column("bad", sa.Integer(), nullable=False),
        sa.Column("updated_at", moment, nullable=False),
        sa.PrimaryKeyConstraint("miner", name="reputations_pk"),
        schema="gpu",
    )
