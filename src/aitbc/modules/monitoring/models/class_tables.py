"""The tables of service classes and of what was bought of them."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, Float, ForeignKey, Index, Integer, SmallInteger, Text, false, text
from sqlalchemy.orm import Mapped, mapped_column

from aitbc.kernel.database.standard_tables import NO_DELETE
from aitbc.kernel.database.unit_of_work import WireId
from aitbc.modules.monitoring.models.service_classes import PURCHASE_STATES
from aitbc.modules.monitoring.models.tables import EXISTS, MOMENT, Base


class ServiceClassRow(Base):
    """What is promised about a kind of work for a price; it never changes, so what was bought stays what it was."""

    __tablename__ = "service_classes"
    __table_args__ = (
        CheckConstraint("target > 0 AND target < 1", name="target"),
        CheckConstraint("price_units > 0 AND credit_percent BETWEEN 1 AND 100", name="price"),
        CheckConstraint("finish_seconds > 0 AND (start_seconds IS NULL OR start_seconds > 0)", name="limits"),
        CheckConstraint("first_text_seconds > 0", name="first_text"),
        CheckConstraint("(origin = 'api') = (created_by IS NOT NULL)", name="origin"),
        Index("service_classes_name_key", "name", unique=True, postgresql_where=EXISTS),
        {"info": NO_DELETE},
    )
    id: Mapped[str] = mapped_column(WireId("scls"), primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    work: Mapped[str] = mapped_column(Text)
    start_seconds: Mapped[int | None] = mapped_column(Integer)
    first_text_seconds: Mapped[int | None] = mapped_column(Integer)
    finish_seconds: Mapped[int] = mapped_column(Integer)
    target: Mapped[float] = mapped_column(Float)
    period_days: Mapped[int] = mapped_column(SmallInteger)
    price_units: Mapped[int] = mapped_column(BigInteger)
    credit_percent: Mapped[int] = mapped_column(SmallInteger)
    origin: Mapped[str] = mapped_column(Text, server_default=text("'api'"))
    created_by: Mapped[str | None] = mapped_column(WireId("acct"))
    """Who declared it over the API; none for what a file declares."""
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    removed_at: Mapped[datetime | None] = mapped_column(MOMENT)


class ClassPurchaseRow(Base):
    """One period of a service class that an account bought."""

    __tablename__ = "class_purchases"
    __table_args__ = (
        CheckConstraint(f"state IN {PURCHASE_STATES}", name="state"),
        CheckConstraint("ends_at > starts_at", name="times"),
        CheckConstraint("credit_units >= 0 AND (state = 'missed' OR credit_units = 0)", name="credit"),
        Index("class_purchases_account_idx", "account", "id"),
        Index("class_purchases_due_idx", "due_at", "id", postgresql_where=text("due_at IS NOT NULL")),
        Index("class_purchases_renewed_idx", "ends_at", "id", postgresql_where=text("renews")),
        {"info": NO_DELETE},
    )
    id: Mapped[str] = mapped_column(WireId("sbuy"), primary_key=True)
    service_class: Mapped[str] = mapped_column(WireId("scls"), ForeignKey(ServiceClassRow.id))
    account: Mapped[str] = mapped_column(WireId("acct"))
    key: Mapped[str] = mapped_column(Text)
    """The API key that bought it: budgets of that key count it."""
    state: Mapped[str] = mapped_column(Text)
    starts_at: Mapped[datetime] = mapped_column(MOMENT)
    ends_at: Mapped[datetime] = mapped_column(MOMENT)
    due_at: Mapped[datetime | None] = mapped_column(MOMENT)
    """When something is to be done about it next; none once all is done."""
    good: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    bad: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    credit_units: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    transaction: Mapped[str | None] = mapped_column(Text)
    """The transaction that ended the hold of its price; none before."""
    renews: Mapped[bool] = mapped_column(server_default=false())
    """Whether the next period is bought by itself; the last period that is bought carries it."""
    previous: Mapped[str | None] = mapped_column(WireId("sbuy"))
    """The period that this one renewed by itself; none for what somebody bought."""
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    judged_at: Mapped[datetime | None] = mapped_column(MOMENT)
