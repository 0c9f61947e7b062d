"""Create the first tables of governance."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from aitbc.kernel.database.standard_tables_v1 import create_common_tables

revision = "governance_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    create_common_tables("governance")
    _power()
    _proposals()
    _votes()
    _moves()
    _profiles()
    _money()
    op.execute("INSERT INTO governance.power_clock (id, number) VALUES (1, 0)")
    op.execute("INSERT INTO governance.treasury (id, fees_seen_units, promised_units, version) VALUES (1, 0, 0, 0)")


def downgrade() -> None:
    """Remove the tables."""
    for table in (
        "votes",
        "voter_keys",
        "treasury",
        "stakes",
        "sponsors",
        "proposals",
        "profiles",
        "power_points",
        "power_clock",
        "moves",
        "delegations",
        "budget_lines",
        "approvals",
        "audit",
        "answers",
        "inbox",
        "outbox",
    ):
        op.drop_table(table, schema="governance")


def _power() -> None:
    """Stake, delegation, and their numbered changes."""
    op.create_table(
        "power_clock",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("power_clock_one_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("power_clock_pk")),
        schema="governance",
    )
    op.create_table(
        "stakes",
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("locked_units", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("locked_units >= 0", name=op.f("stakes_locked_check")),
        sa.PrimaryKeyConstraint("account", name=op.f("stakes_pk")),
        schema="governance",
    )
    op.create_table(
        "power_points",
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("units", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account", "number", name=op.f("power_points_pk")),
        schema="governance",
    )
    op.create_table(
        "delegations",
        sa.Column("delegator", sa.Uuid(), nullable=False),
        sa.Column("delegatee", sa.Uuid(), nullable=False),
        sa.Column("since", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=True),
        sa.Column("basis_points", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("basis_points BETWEEN 1 AND 10000", name=op.f("delegations_share_check")),
        sa.CheckConstraint("delegator <> delegatee", name=op.f("delegations_not_oneself_check")),
        sa.PrimaryKeyConstraint("delegator", "delegatee", "since", name=op.f("delegations_pk")),
        schema="governance",
    )
    op.create_index(
        "delegations_delegatee_idx", "delegations", ["delegatee", "since"], unique=False, schema="governance"
    )
    op.create_index(
        "delegations_open_key",
        "delegations",
        ["delegator", "delegatee"],
        unique=True,
        schema="governance",
        postgresql_where=sa.text("until IS NULL"),
    )


def _votes() -> None:
    """Who supports a proposal, who voted how, and keys that sign votes."""
    op.create_table(
        "sponsors",
        sa.Column("proposal", sa.Uuid(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("sponsored_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("proposal", "account", name=op.f("sponsors_pk")),
        schema="governance",
    )
    op.create_table(
        "votes",
        sa.Column("proposal", sa.Uuid(), nullable=False),
        sa.Column("voter", sa.Uuid(), nullable=False),
        sa.Column("choice", sa.Text(), nullable=False),
        sa.Column("units", sa.BigInteger(), nullable=False),
        sa.Column("own_units", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("nonce", sa.BigInteger(), nullable=True),
        sa.Column("cast_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("units >= 0 AND own_units >= 0", name=op.f("votes_units_check")),
        sa.PrimaryKeyConstraint("proposal", "voter", name=op.f("votes_pk")),
        schema="governance",
    )
    op.create_index("votes_voter_idx", "votes", ["voter", "cast_at"], unique=False, schema="governance")
    op.create_table(
        "voter_keys",
        sa.Column("public_key", sa.Text(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("last_nonce", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("public_key", name=op.f("voter_keys_pk")),
        schema="governance",
    )
    op.create_index("voter_keys_account_idx", "voter_keys", ["account"], unique=False, schema="governance")


def _money() -> None:
    """Budget lines, the treasury, and approvals of milestones."""
    op.create_table(
        "approvals",
        sa.Column("move", sa.Uuid(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("approved_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("move", "account", name=op.f("approvals_pk")),
        schema="governance",
    )
    op.create_table(
        "budget_lines",
        sa.Column("line", sa.Text(), nullable=False),
        sa.Column("limit_units", sa.BigInteger(), nullable=False),
        sa.Column("paid_units", sa.BigInteger(), nullable=False),
        sa.Column("promised_units", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("paid_units + promised_units <= limit_units", name=op.f("budget_lines_within_check")),
        sa.CheckConstraint("paid_units >= 0 AND promised_units >= 0", name=op.f("budget_lines_not_negative_check")),
        sa.PrimaryKeyConstraint("line", name=op.f("budget_lines_pk")),
        schema="governance",
    )
    op.create_table(
        "treasury",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("fees_seen_units", sa.BigInteger(), nullable=False),
        sa.Column("promised_units", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("treasury_one_check")),
        sa.CheckConstraint("promised_units >= 0", name=op.f("treasury_promised_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("treasury_pk")),
        schema="governance",
    )


def _profiles() -> None:
    """Names of accounts in the older dialect."""
    op.create_table(
        "profiles",
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("user", sa.Text(), nullable=False),
        sa.Column("joined_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("account", name=op.f("profiles_pk")),
        sa.UniqueConstraint("user", name=op.f("profiles_user_key")),
        schema="governance",
    )


def _moves() -> None:
    """Money that is to move."""
    op.create_table(
        "moves",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("amount_units", sa.BigInteger(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=True),
        sa.Column("proposal", sa.Uuid(), nullable=True),
        sa.Column("line", sa.Text(), nullable=True),
        sa.Column("part", sa.SmallInteger(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("of_treasury", sa.Boolean(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "purpose IN ('stake', 'unstake', 'deposit', 'refund', 'forfeit', 'payment', 'fees', 'gift')",
            name=op.f("moves_purpose_check"),
        ),
        sa.CheckConstraint("state IN ('waiting', 'due', 'done', 'refused', 'stopped')", name=op.f("moves_state_check")),
        sa.CheckConstraint("amount_units > 0", name=op.f("moves_amount_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("moves_pk")),
        schema="governance",
    )
    op.create_index("moves_account_idx", "moves", ["account", "created_at"], unique=False, schema="governance")
    op.create_index(
        "moves_due_idx",
        "moves",
        ["due_at", "id"],
        unique=False,
        schema="governance",
        postgresql_where=sa.text("state = 'due'"),
    )
    op.create_index("moves_proposal_idx", "moves", ["proposal"], unique=False, schema="governance")
    op.create_index(
        "moves_treasury_idx",
        "moves",
        ["done_at", "id"],
        unique=False,
        schema="governance",
        postgresql_where=sa.text("of_treasury AND state = 'done'"),
    )


def _proposal_columns() -> list[sa.Column]:
    return [
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("proposer", sa.Uuid(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("class_", sa.Text(), nullable=False),
        sa.Column("actions", sa.Text(), nullable=False),
        sa.Column("ballot", sa.Text(), nullable=False),
        sa.Column("options", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("voting_starts", sa.DateTime(timezone=True), nullable=False),
        sa.Column("voting_ends", sa.DateTime(timezone=True), nullable=False),
        sa.Column("extended", sa.Boolean(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("needed_units", sa.BigInteger(), nullable=False),
        sa.Column("snapshot", sa.BigInteger(), nullable=True),
        sa.Column("snapshot_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("total_units", sa.BigInteger(), nullable=True),
        sa.Column("quorum_units", sa.BigInteger(), nullable=False),
        sa.Column("quorum_basis_points", sa.Integer(), nullable=False),
        sa.Column("threshold_basis_points", sa.Integer(), nullable=False),
        sa.Column("timelock_seconds", sa.BigInteger(), nullable=False),
        sa.Column("late_seconds", sa.BigInteger(), nullable=False),
        sa.Column("execution_seconds", sa.BigInteger(), nullable=False),
        sa.Column("for_units", sa.BigInteger(), nullable=False),
        sa.Column("against_units", sa.BigInteger(), nullable=False),
        sa.Column("abstain_units", sa.BigInteger(), nullable=False),
        sa.Column("cast_units", sa.BigInteger(), nullable=False),
        sa.Column("voters", sa.BigInteger(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("executes_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("execution_started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("deposit_units", sa.BigInteger(), nullable=False),
        sa.Column("deposit_policy", sa.Text(), nullable=False),
    ]


def _proposals() -> None:
    """Proposals."""
    op.create_table(
        "proposals",
        *_proposal_columns(),
        sa.CheckConstraint(
            "ballot IN ('basic', 'single', 'approval', 'weighted', 'quadratic', 'ranked')",
            name=op.f("proposals_ballot_check"),
        ),
        sa.CheckConstraint(
            "class_ IN ('parameters', 'funding', 'general', 'emergency')", name=op.f("proposals_class_check")
        ),
        sa.CheckConstraint(
            "state IN ('draft', 'pending', 'active', 'succeeded', 'defeated', 'queued', 'executed', "
            "'execution_failed', 'cancelled', 'vetoed', 'expired')",
            name=op.f("proposals_state_check"),
        ),
        sa.CheckConstraint(
            "for_units >= 0 AND against_units >= 0 AND abstain_units >= 0 AND cast_units >= 0",
            name=op.f("proposals_tallies_check"),
        ),
        sa.CheckConstraint("voting_ends > voting_starts", name=op.f("proposals_voting_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("proposals_pk")),
        schema="governance",
    )
    op.create_index("proposals_created_at_idx", "proposals", ["created_at", "id"], unique=False, schema="governance")
    op.create_index(
        "proposals_due_idx",
        "proposals",
        ["state", "due_at"],
        unique=False,
        schema="governance",
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
