"""Compare the names of accounts without regard to letter case and compatibility forms."""

import unicodedata

import sqlalchemy as sa
from alembic import op

revision = "kernel_0002"
down_revision = "kernel_0001"
branch_labels = None
depends_on = None

ACCOUNTS = sa.table("accounts", sa.column("id"), sa.column("name"), sa.column("folded"), schema="kernel")


def upgrade() -> None:
    """Add the column and fill it; of names that are alike already the oldest account keeps the plain form."""
    op.add_column("accounts", sa.Column("folded", sa.Text()), schema="kernel")
    connection = op.get_bind()
    taken: set[str] = set()
    for row in connection.execute(sa.select(ACCOUNTS.c.id, ACCOUNTS.c.name).order_by(ACCOUNTS.c.id)).all():
        form = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", row.name).casefold())
        if form in taken:
            form = f"{form}\n{row.id}"  # no name can hold a line feed
        taken.add(form)
        connection.execute(ACCOUNTS.update().where(ACCOUNTS.c.id == row.id).values(folded=form))
    op.alter_column("accounts", "folded", nullable=False, schema="kernel")
    op.create_unique_constraint("accounts_folded_key", "accounts", ["folded"], schema="kernel")


def downgrade() -> None:
    """Remove it."""
    op.drop_column("accounts", "folded", schema="kernel")
