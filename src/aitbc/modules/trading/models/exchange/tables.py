"""The tables of the exchange."""

from datetime import datetime

from sqlalchemy import BigInteger, Boolean, CheckConstraint, ForeignKey, Index, Integer, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from aitbc.kernel.database.standard_tables import APPEND_ONLY, NO_DELETE
from aitbc.kernel.database.unit_of_work import WireId
from aitbc.kernel.primitives.matching import LASTING
from aitbc.modules.trading.models.exchange.values import (
    MAKER_REASONS,
    MAKER_STATES,
    ORDER_KINDS,
    ORDER_REASONS,
    ORDER_STATES,
    PAIR_STATES,
    SIDES,
)
from aitbc.modules.trading.models.tables import MOMENT, Base

LEFT = (
    "CASE WHEN state <> 'open' THEN 0 WHEN side = 'sell' THEN quantity_units - filled_units "
    "ELSE (quantity_units - filled_units)::numeric * price_units / 100000000 END"
)
"""What an order holds: nothing but what is still open of it, and all of that."""


class PairRow(Base):
    """Two assets that are exchanged for each other. Whoever changes its book has locked it."""

    __tablename__ = "exchange_pairs"
    __table_args__ = (
        CheckConstraint("base <> quote", name="two_assets"),
        CheckConstraint("price_step_units > 0 AND quantity_step_units > 0", name="steps"),
        CheckConstraint("price_step_units::numeric * quantity_step_units % 100000000 = 0", name="exact"),
        CheckConstraint("min_quantity_units BETWEEN 1 AND max_quantity_units", name="quantities"),
        CheckConstraint(f"state IN {PAIR_STATES}", name="state"),
        UniqueConstraint("base", "quote"),
        {"info": NO_DELETE},
    )
    id: Mapped[str] = mapped_column(Text, primary_key=True)
    """`GOLD-AITBC`: what is bought and sold, and what it is paid in."""
    base: Mapped[str] = mapped_column(Text)
    quote: Mapped[str] = mapped_column(Text)
    price_step_units: Mapped[int] = mapped_column(BigInteger)
    """Prices are whole multiples of it: minor units of `quote` for one whole `base`."""
    quantity_step_units: Mapped[int] = mapped_column(BigInteger)
    """Quantities are whole multiples of it, so that every quantity at every price costs whole minor units."""
    min_quantity_units: Mapped[int] = mapped_column(BigInteger)
    max_quantity_units: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(Text)
    events: Mapped[int] = mapped_column(BigInteger)
    """How many events its book has had."""
    trades: Mapped[int] = mapped_column(BigInteger)
    """How many trades it has had."""
    created_at: Mapped[datetime] = mapped_column(MOMENT)


class OrderRow(Base):
    """What somebody wants to buy or sell, and how much of it was."""

    __tablename__ = "exchange_orders"
    __table_args__ = (
        CheckConstraint(f"side IN {SIDES}", name="side"),
        CheckConstraint(f"kind IN {ORDER_KINDS}", name="kind"),
        CheckConstraint(f"lasts IN {LASTING}", name="lasts"),
        CheckConstraint(f"state IN {ORDER_STATES}", name="state"),
        CheckConstraint(f"reason IS NULL OR reason IN {ORDER_REASONS}", name="reason"),
        CheckConstraint("filled_units BETWEEN 0 AND quantity_units AND quantity_units > 0", name="filled"),
        CheckConstraint("(state = 'open') = (ended_at IS NULL)", name="ended"),
        CheckConstraint("(kind = 'limit') = (price_units IS NOT NULL)", name="price"),
        CheckConstraint("state <> 'open' OR kind = 'limit'", name="rests"),
        CheckConstraint(f"held_units = {LEFT}", name="held"),
        Index(
            "exchange_orders_book_idx",
            *("pair", "side", "price_units", "sequence"),
            postgresql_where=text("state = 'open'"),
        ),
        Index("exchange_orders_account_idx", "account", "id"),
        Index("exchange_orders_maker_idx", "market_maker", "id", postgresql_where=text("market_maker IS NOT NULL")),
        {"info": NO_DELETE},
    )
    id: Mapped[str] = mapped_column(WireId("ordr"), primary_key=True)
    account: Mapped[str] = mapped_column(WireId("acct"))
    pair: Mapped[str] = mapped_column(Text, ForeignKey("trading.exchange_pairs.id"))
    side: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(Text)
    lasts: Mapped[str] = mapped_column(Text)
    post_only: Mapped[bool] = mapped_column(Boolean)
    price_units: Mapped[int | None] = mapped_column(BigInteger)
    quantity_units: Mapped[int] = mapped_column(BigInteger)
    filled_units: Mapped[int] = mapped_column(BigInteger)
    cost_units: Mapped[int] = mapped_column(BigInteger)
    """What was paid for what is filled, in `quote`, before fees."""
    fee_basis_points: Mapped[int] = mapped_column(Integer)
    """The fee's share of what the order gets: the rate in force when it was placed."""
    fee_units: Mapped[int] = mapped_column(BigInteger)
    """What it paid so far: in `base` where it buys, in `quote` where it sells."""
    held_units: Mapped[int] = mapped_column(BigInteger)
    """What lies in escrow for it: in `quote` where it buys, in `base` where it sells."""
    state: Mapped[str] = mapped_column(Text)
    reason: Mapped[str | None] = mapped_column(Text)
    sequence: Mapped[int] = mapped_column(BigInteger)
    """The number of its event in the pair's book: of equal prices the lowest comes first."""
    placed_by: Mapped[str | None] = mapped_column(WireId("txn"))
    """The transaction that moved what it gives into escrow; none where it took nothing and nothing of it rested."""
    ended_by: Mapped[str | None] = mapped_column(WireId("txn"))
    """The transaction that gave back what was left of it."""
    market_maker: Mapped[str | None] = mapped_column(WireId("mmkr"))
    """The market maker that placed it for its owner; none where the owner did."""
    label: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    ended_at: Mapped[datetime | None] = mapped_column(MOMENT)


class MarketMakerRow(Base):
    """A program that quotes both sides of a pair from its owner's account, within limits."""

    __tablename__ = "exchange_makers"
    __table_args__ = (
        CheckConstraint("spread_basis_points BETWEEN 1 AND 5000", name="spread"),
        CheckConstraint("depth BETWEEN 1 AND 10", name="depth"),
        CheckConstraint("size_units > 0 AND base_limit_units >= 0 AND quote_limit_units >= 0", name="limits"),
        CheckConstraint(f"state IN {MAKER_STATES}", name="state"),
        CheckConstraint(f"reason IS NULL OR reason IN {MAKER_REASONS}", name="reason"),
        Index("exchange_makers_account_idx", "account", "id"),
        Index("exchange_makers_running_idx", "id", postgresql_where=text("state = 'running'")),
        {"info": NO_DELETE},
    )
    id: Mapped[str] = mapped_column(WireId("mmkr"), primary_key=True)
    account: Mapped[str] = mapped_column(WireId("acct"))
    pair: Mapped[str] = mapped_column(Text, ForeignKey("trading.exchange_pairs.id"))
    spread_basis_points: Mapped[int] = mapped_column(Integer)
    """Between its best bid and its best ask, in 1/10 000 of the price; each further level is as much farther."""
    depth: Mapped[int] = mapped_column(Integer)
    """How many prices of each side it quotes."""
    size_units: Mapped[int] = mapped_column(BigInteger)
    """How much of `base` it quotes at each price."""
    base_limit_units: Mapped[int] = mapped_column(BigInteger)
    """The most of `base` that lies in its orders."""
    quote_limit_units: Mapped[int] = mapped_column(BigInteger)
    """The most of `quote` that lies in its orders."""
    state: Mapped[str] = mapped_column(Text)
    reason: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    changed_at: Mapped[datetime] = mapped_column(MOMENT)


class ExchangeTradeRow(Base):
    """Two orders that met. It shares the UUID of the transaction that paid it."""

    __tablename__ = "exchange_trades"
    __table_args__ = (
        CheckConstraint("quantity_units::numeric * price_units = cost_units::numeric * 100000000", name="exact"),
        CheckConstraint(
            "buyer_fee_units BETWEEN 0 AND quantity_units AND seller_fee_units BETWEEN 0 AND cost_units", name="fees"
        ),
        CheckConstraint("buyer <> seller AND maker <> taker", name="two_sides"),
        UniqueConstraint("pair", "number"),
        Index("exchange_trades_at_idx", "pair", "created_at"),
        Index("exchange_trades_maker_idx", "maker"),
        Index("exchange_trades_taker_idx", "taker"),
        {"info": APPEND_ONLY},
    )
    id: Mapped[str] = mapped_column(WireId("trde"), primary_key=True)
    pair: Mapped[str] = mapped_column(Text)
    number: Mapped[int] = mapped_column(BigInteger)
    price_units: Mapped[int] = mapped_column(BigInteger)
    quantity_units: Mapped[int] = mapped_column(BigInteger)
    cost_units: Mapped[int] = mapped_column(BigInteger)
    maker: Mapped[str] = mapped_column(WireId("ordr"))
    taker: Mapped[str] = mapped_column(WireId("ordr"))
    taker_side: Mapped[str] = mapped_column(Text)
    buyer: Mapped[str] = mapped_column(WireId("acct"))
    seller: Mapped[str] = mapped_column(WireId("acct"))
    buyer_fee_units: Mapped[int] = mapped_column(BigInteger)
    """In `base`."""
    seller_fee_units: Mapped[int] = mapped_column(BigInteger)
    """In `quote`."""
    created_at: Mapped[datetime] = mapped_column(MOMENT)


class ExchangeEventRow(Base):
    """What happened to a book, in order: replaying it leads to the same book and the same trades."""

    __tablename__ = "exchange_events"
    __table_args__ = ({"info": APPEND_ONLY},)
    pair: Mapped[str] = mapped_column(Text, primary_key=True)
    sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    body: Mapped[str] = mapped_column(Text)
    fills: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[datetime] = mapped_column(MOMENT)
