"""Items of the older marketplace: anything that somebody sells, its orders, and bids on nothing in particular."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Integer, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from aitbc.kernel.database.standard_tables import NO_DELETE
from aitbc.kernel.database.unit_of_work import WireId
from aitbc.kernel.primitives import ids, money
from aitbc.modules.marketplace.models.tables import MOMENT, Base


class OrderState(StrEnum):
    """Where an order is: it is `pending` or `placed`, and ends once."""

    PENDING = "pending"
    """A bid on nothing in particular: it waits, and no money is set aside for it."""
    PLACED = "placed"
    """An item is kept for its buyer, whose money is being set aside."""
    HELD = "held"
    """The money is set aside, and is paid next."""
    PAID = "paid"
    REFUSED = "refused"
    CANCELLED = "cancelled"


MOVES = {
    OrderState.PENDING: frozenset({OrderState.CANCELLED}),
    OrderState.PLACED: frozenset({OrderState.HELD, OrderState.REFUSED}),
    OrderState.HELD: frozenset({OrderState.PAID, OrderState.REFUSED}),
    OrderState.PAID: frozenset[OrderState](),
    OrderState.REFUSED: frozenset[OrderState](),
    OrderState.CANCELLED: frozenset[OrderState](),
}
"""The states that may follow each."""


class ItemRow(Base):
    """Something that somebody sells, as its seller describes it."""

    __tablename__ = "items"
    __table_args__ = (
        CheckConstraint("state IN ('open', 'withdrawn')", name="state"),
        CheckConstraint("price_units >= 0 AND capacity > 0 AND taken BETWEEN 0 AND capacity", name="amounts"),
        Index("items_created_at_idx", "created_at", "id"),
        {"info": NO_DELETE},
    )
    id: Mapped[str] = mapped_column(Text, primary_key=True)
    account: Mapped[str] = mapped_column(WireId("acct"))
    provider: Mapped[str] = mapped_column(Text)
    """What its seller calls itself."""
    item: Mapped[str] = mapped_column(Text)
    item_type: Mapped[str] = mapped_column(Text)
    description: Mapped[str] = mapped_column(Text)
    price_units: Mapped[int] = mapped_column(BigInteger)
    is_hourly: Mapped[bool]
    """Whether the price is for an hour."""
    capacity: Mapped[int] = mapped_column(Integer)
    taken: Mapped[int] = mapped_column(Integer)
    sla: Mapped[str] = mapped_column(Text)
    attributes: Mapped[str] = mapped_column(Text)
    """What else its seller says, as JSON text."""
    gpu_model: Mapped[str | None] = mapped_column(Text)
    gpu_memory_gb: Mapped[int | None] = mapped_column(Integer)
    gpu_count: Mapped[int | None] = mapped_column(Integer)
    cuda_version: Mapped[str | None] = mapped_column(Text)
    region: Mapped[str | None] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(MOMENT)


class ItemOrderRow(Base):
    """An order of an item, or a bid on nothing in particular."""

    __tablename__ = "item_orders"
    __table_args__ = (
        CheckConstraint(
            "state IN ('pending', 'placed', 'held', 'paid', 'refused', 'cancelled')",
            name="state",
        ),
        CheckConstraint("price_units > 0 AND capacity > 0", name="amounts"),
        CheckConstraint("(item IS NULL) = (seller IS NULL)", name="item"),
        CheckConstraint("(state = 'paid') = (transaction IS NOT NULL)", name="paid"),
        Index("item_orders_submitted_at_idx", "submitted_at", "id"),
        Index("item_orders_open_idx", "id", postgresql_where=text("state IN ('placed', 'held')")),
        {"info": NO_DELETE},
    )
    id: Mapped[str] = mapped_column(WireId("mord"), primary_key=True)
    name: Mapped[str | None] = mapped_column(Text, unique=True)
    """The id that its client chose."""
    account: Mapped[str] = mapped_column(WireId("acct"))
    """Who buys."""
    item: Mapped[str | None] = mapped_column(Text, ForeignKey(ItemRow.id))
    seller: Mapped[str | None] = mapped_column(WireId("acct"))
    provider: Mapped[str] = mapped_column(Text)
    """What its buyer calls itself."""
    title: Mapped[str] = mapped_column(Text)
    capacity: Mapped[int] = mapped_column(Integer)
    price_units: Mapped[int] = mapped_column(BigInteger)
    """All that it costs."""
    notes: Mapped[str | None] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text)
    transaction: Mapped[str | None] = mapped_column(Text)
    submitted_at: Mapped[datetime] = mapped_column(MOMENT)


def hold_of(order: str) -> str:
    """The hold of an order's money: it has the order's own UUID."""
    return ids.encode("hold", ids.decode("mord", order))


def cost_of(item: ItemRow, milliseconds: int) -> int:
    """What an order of an item costs: its price, or its price by the hour for so long, at least one minor unit."""
    return max(money.for_time(item.price_units, milliseconds) if item.is_hourly else item.price_units, 1)
