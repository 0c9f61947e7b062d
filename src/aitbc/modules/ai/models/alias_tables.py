"""The table of model aliases."""

from datetime import datetime

from sqlalchemy import Index, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from aitbc.kernel.database.standard_tables import NO_DELETE
from aitbc.kernel.database.unit_of_work import WireId
from aitbc.modules.ai.models.tables import MOMENT, Base


class ModelAliasRow(Base):
    """A name for a model, until it is removed or stands for another one."""

    __tablename__ = "model_aliases"
    __table_args__ = (
        Index(
            "model_aliases_of_account_idx",
            "account",
            "name",
            unique=True,
            postgresql_where=text("ended_at IS NULL AND NOT for_all"),
        ),
        Index("model_aliases_for_all_idx", "name", unique=True, postgresql_where=text("ended_at IS NULL AND for_all")),
        Index("model_aliases_changed_at_idx", "changed_at"),
        {"info": NO_DELETE},
    )
    id: Mapped[str] = mapped_column(WireId("mals"), primary_key=True)
    account: Mapped[str] = mapped_column(WireId("acct"))
    """Whose it is; of one for all the operator who set it."""
    name: Mapped[str] = mapped_column(Text)
    model: Mapped[str] = mapped_column(Text)
    for_all: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    changed_at: Mapped[datetime] = mapped_column(MOMENT)
    ended_at: Mapped[datetime | None] = mapped_column(MOMENT)
