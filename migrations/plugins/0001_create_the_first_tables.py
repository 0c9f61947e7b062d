"""Create the first tables of plugins."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from aitbc.kernel.database.standard_tables_v1 import create_common_tables

revision = "plugins_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    create_common_tables("plugins")
    op.create_table(
        "fetches",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("fetches_pk")),
        schema="plugins",
    )
    op.create_index("fetches_day_idx", "fetches", ["day"], unique=False, schema="plugins")
    op.create_table(
        "figures",
        sa.Column("plugin", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("plugin", "version", "day", "name", name=op.f("figures_pk")),
        schema="plugins",
    )
    op.create_table(
        "namespaces",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("public_key", sa.Text(), nullable=True),
        sa.Column("verified", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("namespaces_pk")),
        schema="plugins",
    )
    op.create_index("namespaces_account_idx", "namespaces", ["account", "name"], unique=False, schema="plugins")
    op.create_table(
        "plugins",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("tags", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("license", sa.Text(), nullable=False),
        sa.Column("latest", sa.Text(), nullable=True),
        sa.Column("latest_number", sa.BigInteger(), nullable=False),
        sa.Column("price_units", sa.BigInteger(), nullable=False),
        sa.Column("trial_days", sa.Integer(), nullable=False),
        sa.Column("verified", sa.Boolean(), nullable=False),
        sa.Column("deprecated", sa.Boolean(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("downloads", sa.BigInteger(), nullable=False),
        sa.Column("ratings", sa.Integer(), nullable=False),
        sa.Column("rating_sum", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("released_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('listed', 'revoked')", name=op.f("plugins_state_check")),
        sa.CheckConstraint(
            "downloads >= 0 AND ratings >= 0 AND rating_sum BETWEEN ratings AND 5 * ratings",
            name=op.f("plugins_counts_check"),
        ),
        sa.CheckConstraint("price_units >= 0 AND trial_days >= 0", name=op.f("plugins_terms_check")),
        sa.ForeignKeyConstraint(["namespace"], ["plugins.namespaces.name"], name=op.f("plugins_namespace_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("plugins_pk")),
        schema="plugins",
    )
    op.create_index(
        "plugins_listed_idx",
        "plugins",
        ["id"],
        unique=False,
        schema="plugins",
        postgresql_where=sa.text("state = 'listed' AND latest IS NOT NULL"),
    )
    op.create_table(
        "installs",
        sa.Column("plugin", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("override", sa.Boolean(), nullable=False),
        sa.Column("installed_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["plugin"], ["plugins.plugins.id"], name=op.f("installs_plugin_fkey")),
        sa.PrimaryKeyConstraint("plugin", name=op.f("installs_pk")),
        schema="plugins",
    )
    op.create_table(
        "licences",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("plugin", sa.Text(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("publisher", sa.Uuid(), nullable=False),
        sa.Column("price_units", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("transaction", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("(state = 'trial') = (until IS NOT NULL)", name=op.f("licences_until_check")),
        sa.CheckConstraint(
            "state IN ('trial', 'placed', 'held', 'refunding', 'refunded', 'paying', 'paid', 'refused')",
            name=op.f("licences_state_check"),
        ),
        sa.CheckConstraint("price_units >= 0", name=op.f("licences_price_check")),
        sa.ForeignKeyConstraint(["plugin"], ["plugins.plugins.id"], name=op.f("licences_plugin_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("licences_pk")),
        schema="plugins",
    )
    op.create_index("licences_account_idx", "licences", ["account", "id"], unique=False, schema="plugins")
    op.create_index(
        "licences_live_idx",
        "licences",
        ["plugin", "account"],
        unique=True,
        schema="plugins",
        postgresql_where=sa.text("state IN ('placed', 'held', 'paying', 'paid')"),
    )
    op.create_index(
        "licences_open_idx",
        "licences",
        ["created_at", "id"],
        unique=False,
        schema="plugins",
        postgresql_where=sa.text("state IN ('placed', 'held', 'refunding', 'paying')"),
    )
    op.create_index(
        "licences_trial_idx",
        "licences",
        ["plugin", "account"],
        unique=True,
        schema="plugins",
        postgresql_where=sa.text("state = 'trial'"),
    )
    op.create_table(
        "reviews",
        sa.Column("plugin", sa.Text(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("rating", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("rating BETWEEN 1 AND 5", name=op.f("reviews_rating_check")),
        sa.ForeignKeyConstraint(["plugin"], ["plugins.plugins.id"], name=op.f("reviews_plugin_fkey")),
        sa.PrimaryKeyConstraint("plugin", "account", name=op.f("reviews_pk")),
        schema="plugins",
    )
    op.create_table(
        "users",
        sa.Column("plugin", sa.Text(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["plugin"], ["plugins.plugins.id"], name=op.f("users_plugin_fkey")),
        sa.PrimaryKeyConstraint("plugin", "account", name=op.f("users_pk")),
        schema="plugins",
    )
    op.create_table(
        "versions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("plugin", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("artifact_digest", sa.Text(), nullable=False),
        sa.Column("public_key", sa.Text(), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.Column("manifest", sa.Text(), nullable=False),
        sa.Column("artifact", sa.LargeBinary(), nullable=True),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("findings", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "state IN ('received', 'validating', 'scanning', 'quarantined', 'rejected', 'passed', 'errored', 'yanked', 'revoked')",
            name=op.f("versions_state_check"),
        ),
        sa.ForeignKeyConstraint(["plugin"], ["plugins.plugins.id"], name=op.f("versions_plugin_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("versions_pk")),
        schema="plugins",
    )
    op.create_index("versions_account_idx", "versions", ["account", "id"], unique=False, schema="plugins")
    op.create_index("versions_plugin_idx", "versions", ["plugin", "number"], unique=True, schema="plugins")
    op.create_index(
        "versions_waiting_idx",
        "versions",
        ["id"],
        unique=False,
        schema="plugins",
        postgresql_where=sa.text("state IN ('received', 'validating', 'scanning', 'errored')"),
    )


def downgrade() -> None:
    """Remove the tables."""
    for table in (
        "versions",
        "users",
        "reviews",
        "licences",
        "installs",
        "plugins",
        "namespaces",
        "figures",
        "fetches",
        "audit",
        "answers",
        "inbox",
        "outbox",
    ):
        op.drop_table(table, schema="plugins")
