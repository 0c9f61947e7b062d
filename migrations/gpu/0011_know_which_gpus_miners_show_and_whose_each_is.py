"""Know which GPUs miners show, and whose each is; and by which words a listing is looked for among them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "gpu_0011"
down_revision = "gpu_0010"
branch_labels = None
depends_on = None

WORDS = """
UPDATE gpu.listed_gpus SET words = coalesce(
    (SELECT array_agg(DISTINCT word[1]) FROM regexp_matches(lower(model), '[a-z]{0,2}[0-9]+|[a-z]+', 'g') AS word), '{}')"""


def upgrade() -> None:
    """Add the tables and columns; the GPUs of each miner come with its next heartbeat."""
    op.create_table(
        "devices",
        sa.Column("miner", sa.Uuid(), nullable=False),
        sa.Column("place", sa.SmallInteger(), nullable=False),
        sa.Column("uuid", sa.Text()),
        sa.Column("words", ARRAY(sa.Text()), nullable=False),
        sa.Column("lesser", ARRAY(sa.Text()), nullable=False),
        sa.Column("memory_mib", sa.BigInteger()),
        sa.Column("fault", sa.Text()),
        sa.ForeignKeyConstraint(["miner"], ["gpu.miners.id"], name=op.f("devices_miner_fkey")),
        sa.PrimaryKeyConstraint("miner", "place", name=op.f("devices_pk")),
        schema="gpu",
    )
    op.create_index("devices_uuid_idx", "devices", ["uuid"], schema="gpu")
    op.create_table(
        "device_owners",
        sa.Column("uuid", sa.Text(), nullable=False),
        sa.Column("account", sa.Uuid(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("uuid", name=op.f("device_owners_pk")),
        schema="gpu",
    )
    op.add_column("miners", sa.Column("devices", sa.LargeBinary()), schema="gpu")
    op.add_column("miners", sa.Column("blocked_reason", sa.Text()), schema="gpu")
    op.add_column("profiles", sa.Column("shown", sa.Text()), schema="gpu")
    op.add_column("listed_gpus", sa.Column("words", ARRAY(sa.Text())), schema="gpu")
    op.execute(WORDS)
    op.alter_column("listed_gpus", "words", nullable=False, schema="gpu")


def downgrade() -> None:
    """Remove them: offers are believed again."""
    op.drop_column("listed_gpus", "words", schema="gpu")
    op.drop_column("profiles", "shown", schema="gpu")
    for name in ("blocked_reason", "devices"):
        op.drop_column("miners", name, schema="gpu")
    for name in ("device_owners", "devices"):
        op.drop_table(name, schema="gpu")
