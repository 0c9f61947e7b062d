"""Let machines ask for a code, which their owner approves."""

import sqlalchemy as sa
from alembic import op

revision = "gpu_0019"
down_revision = "gpu_0018"
branch_labels = None
depends_on = None

moment = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "enrolment_codes",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("expires_at", moment, nullable=False),
        sa.Column("answered_at", moment, nullable=True),
        sa.Column("account", sa.Uuid(), nullable=True),
        sa.Column("token", sa.Uuid(), nullable=True),
        sa.CheckConstraint("(answered_at IS NULL) = (account IS NULL)", name=op.f("enrolment_codes_answered_check")),
        sa.CheckConstraint("token IS NULL OR answered_at IS NOT NULL", name=op.f("enrolment_codes_approved_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("enrolment_codes_pk")),
        sa.UniqueConstraint("code", name=op.f("enrolment_codes_code_key")),
        sa.UniqueConstraint("digest", name=op.f("enrolment_codes_digest_key")),
        schema="gpu",
    )
    op.create_index("enrolment_codes_expiry_idx", "enrolment_codes", ["expires_at", "id"], schema="gpu")


def downgrade() -> None:
    """Forget who asked; what was approved has an enrolment token."""
    op.drop_table("enrolment_codes", schema="gpu")
