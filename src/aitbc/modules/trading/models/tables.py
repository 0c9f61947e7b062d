"""The tables of trading."""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import Date

from aitbc.kernel.database.standard_tables import APPEND_ONLY, NO_DELETE, module_metadata
from aitbc.kernel.database.unit_of_work import WireId
from aitbc.modules.trading.models.budgets import PERIODS
from aitbc.modules.trading.models.records import KINDS

STATES = ("open", "settled", "voided", "expired")
MOMENT = DateTime(timezone=True)


class Base(DeclarativeBase):
    """The tables of trading, with the four that every module has."""

    metadata = module_metadata("trading")


class AccountRow(Base):
    """What one owner has for one purpose, and the counters that its entries add up to."""

    __tablename__ = "accounts"
    __table_args__ = (
        UniqueConstraint("owner", "purpose", "asset"),
        CheckConstraint("(owner = 'system' AND purpose <> 'treasury') OR balance_units >= 0", name="not_overdrawn"),
        CheckConstraint("held_units >= 0", name="held_not_negative"),
        # Room on each page for the next version of a row, so that an update touches no index.
        {"info": NO_DELETE, "postgresql_with": {"fillfactor": 50}},
    )
    id: Mapped[UUID] = mapped_column(primary_key=True)
    """The UUID of the owner's account id; the system's accounts have the smallest numbers, so they are locked first."""
    owner: Mapped[str] = mapped_column(Text)
    """`acct_…`, or `system`."""
    purpose: Mapped[str] = mapped_column(Text)
    """`main`, `stake` or `deposit`; of the system `issuance`, `escrow`, `fees`, `treasury`."""
    balance_units: Mapped[int] = mapped_column(BigInteger)
    held_units: Mapped[int] = mapped_column(BigInteger)
    """The sum of this owner's open holds, which lies in escrow."""
    earned_units: Mapped[int] = mapped_column(BigInteger)
    spent_units: Mapped[int] = mapped_column(BigInteger)
    version: Mapped[int] = mapped_column(BigInteger)
    """How many entries there are."""
    budgets: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    """How many budgets limit what it spends: where there are none, nobody looks for them."""
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    asset: Mapped[str] = mapped_column(Text, server_default=text("'AITBC'"))
    """What it is counted in."""


class AssetRow(Base):
    """Something that accounts may have beside AITBC: play money too, defined by whoever runs the platform."""

    __tablename__ = "assets"
    __table_args__ = (
        CheckConstraint("code ~ '^[A-Z][A-Z0-9]{1,11}$' AND code <> 'AITBC'", name="code"),
        {"info": APPEND_ONLY},
    )
    code: Mapped[str] = mapped_column(Text, primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(MOMENT)


class TransactionRow(Base):
    """Money moved, once and for good."""

    __tablename__ = "transactions"
    __table_args__ = (
        CheckConstraint(f"kind IN {KINDS}", name="kind"),
        Index(
            "transactions_corrected_key", "reference", unique=True, postgresql_where=text("kind = 'correction'")
        ),  # nothing is corrected twice
        {"info": APPEND_ONLY},
    )
    id: Mapped[str] = mapped_column(WireId("txn"), primary_key=True)
    kind: Mapped[str] = mapped_column(Text)
    hold: Mapped[str | None] = mapped_column(WireId("hold"))
    reference: Mapped[str | None] = mapped_column(Text)
    reason: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    body: Mapped[str] = mapped_column(Text)
    """The canonical record that a block seals."""


class EntryRow(Base):
    """One account's part of a transaction, with what it left behind."""

    __tablename__ = "entries"
    __table_args__ = (
        UniqueConstraint("account_id", "account_version"),
        CheckConstraint("amount_units <> 0", name="moves_something"),
        CheckConstraint("position >= 0", name="position"),
        {"info": APPEND_ONLY},
    )
    transaction_id: Mapped[str] = mapped_column(WireId("txn"), primary_key=True)
    position: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    account_id: Mapped[UUID]
    amount_units: Mapped[int] = mapped_column(BigInteger)
    balance_after_units: Mapped[int] = mapped_column(BigInteger)
    account_version: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    asset: Mapped[str | None] = mapped_column(Text)
    """What its account is counted in; none for AITBC."""


class HoldRow(Base):
    """Money set aside for one purpose until it is settled, voided or expired: each hold ends once."""

    __tablename__ = "holds"
    __table_args__ = (
        CheckConstraint("amount_units > 0", name="positive"),
        CheckConstraint(f"state IN {STATES}", name="state"),
        CheckConstraint("(state = 'open') = (ended_at IS NULL)", name="ended"),
        CheckConstraint("price_units BETWEEN 0 AND amount_units", name="price_within"),
        CheckConstraint("(state = 'settled') = (price_units IS NOT NULL)", name="price_when_settled"),
        Index("holds_expires_at_idx", "expires_at", postgresql_where=text("state = 'open'")),
        Index("holds_placed_at_idx", "placed_at", postgresql_where=text("state = 'open'")),
        {"info": NO_DELETE},
    )
    id: Mapped[str] = mapped_column(WireId("hold"), primary_key=True)
    payer: Mapped[str] = mapped_column(WireId("acct"))
    amount_units: Mapped[int] = mapped_column(BigInteger)
    fee_basis_points: Mapped[int] = mapped_column(Integer)
    """The rate in force when the hold was placed: a later change does not touch it."""
    state: Mapped[str] = mapped_column(Text)
    reference: Mapped[str] = mapped_column(Text)
    placed_at: Mapped[datetime] = mapped_column(MOMENT)
    expires_at: Mapped[datetime] = mapped_column(MOMENT)
    placed_by: Mapped[str] = mapped_column(WireId("txn"))
    ended_at: Mapped[datetime | None] = mapped_column(MOMENT)
    ended_by: Mapped[str | None] = mapped_column(WireId("txn"))
    reason: Mapped[str | None] = mapped_column(Text)
    price_units: Mapped[int | None] = mapped_column(BigInteger)
    budgets: Mapped[str | None] = mapped_column(Text)
    """The budgets, and their periods, that count it: `bdgt_…@2026-11-28`, with a space between two."""
    key: Mapped[str | None] = mapped_column(WireId("key"))
    """The API key that asked for it; none where nobody said, as with what time decides."""


class BudgetRow(Base):
    """A limit on what an account spends, until it is removed."""

    __tablename__ = "budgets"
    __table_args__ = (
        CheckConstraint("limit_units >= 0", name="not_negative"),
        CheckConstraint(f"period IN {PERIODS}", name="period"),
        Index("budgets_account_idx", "account", postgresql_where=text("ended_at IS NULL")),
        {"info": NO_DELETE},
    )
    id: Mapped[str] = mapped_column(WireId("bdgt"), primary_key=True)
    account: Mapped[str] = mapped_column(WireId("acct"))
    key: Mapped[str | None] = mapped_column(WireId("key"))
    """Only what this key spends counts; none for every key."""
    model: Mapped[str | None] = mapped_column(Text)
    """Only what is spent on this model counts; none for all."""
    period: Mapped[str] = mapped_column(Text)
    limit_units: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    ended_at: Mapped[datetime | None] = mapped_column(MOMENT)


class BudgetUseRow(Base):
    """What counts against a budget in one period. Whoever changes it has locked escrow before."""

    __tablename__ = "budget_uses"
    __table_args__ = (
        CheckConstraint("held_units >= 0 AND spent_units >= 0", name="not_negative"),
        {"info": NO_DELETE},
    )
    budget: Mapped[str] = mapped_column(WireId("bdgt"), primary_key=True)
    period_start: Mapped[date] = mapped_column(Date, primary_key=True)
    held_units: Mapped[int] = mapped_column(BigInteger)
    spent_units: Mapped[int] = mapped_column(BigInteger)


class FeeRateRow(Base):
    """The platform's share of a price, from a moment on."""

    __tablename__ = "fee_rates"
    __table_args__ = (
        CheckConstraint("basis_points BETWEEN 0 AND 10000", name="share"),
        {"info": APPEND_ONLY},
    )
    effective_from: Mapped[datetime] = mapped_column(MOMENT, primary_key=True)
    basis_points: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[datetime] = mapped_column(MOMENT)


class FaucetDayRow(Base):
    """How much play money an account took on one day (UTC)."""

    __tablename__ = "faucet_days"
    __table_args__ = ({"info": NO_DELETE},)
    account: Mapped[str] = mapped_column(WireId("acct"), primary_key=True)
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    taken_units: Mapped[int] = mapped_column(BigInteger)


class ReceiptRow(Base):
    """The signed proof of one paid job. It shares the job's UUID, so that a job cannot have two."""

    __tablename__ = "receipts"
    __table_args__ = (
        CheckConstraint("price_units = fee_units + earned_units", name="adds_up"),
        CheckConstraint("fee_units >= 0 AND earned_units >= 0", name="not_negative"),
        Index("receipts_issued_at_idx", "issued_at", "id"),
        Index("receipts_payer_idx", "payer", "issued_at", "id"),
        Index("receipts_miner_idx", "miner", "issued_at", "id", postgresql_include=["earned_units"]),
        {"info": APPEND_ONLY},
    )
    id: Mapped[str] = mapped_column(WireId("rcpt"), primary_key=True)
    transaction_id: Mapped[str] = mapped_column(WireId("txn"))
    payer: Mapped[str] = mapped_column(WireId("acct"))
    miner: Mapped[str] = mapped_column(WireId("mnr"))
    miner_account: Mapped[str] = mapped_column(WireId("acct"))
    price_units: Mapped[int] = mapped_column(BigInteger)
    fee_units: Mapped[int] = mapped_column(BigInteger)
    earned_units: Mapped[int] = mapped_column(BigInteger)
    issued_at: Mapped[datetime] = mapped_column(MOMENT)
    body: Mapped[str] = mapped_column(Text)
    """The canonical record, with both signatures in it."""


class RefundRow(Base):
    """What went back to the payer of a receipt: by a dispute, or by a correction."""

    __tablename__ = "refunds"
    __table_args__ = (
        CheckConstraint("price_units > 0 AND fee_units BETWEEN 0 AND price_units", name="within_price"),
        {"info": APPEND_ONLY},
    )
    transaction_id: Mapped[str] = mapped_column(WireId("txn"), primary_key=True)
    receipt: Mapped[str] = mapped_column(WireId("rcpt"))
    price_units: Mapped[int] = mapped_column(BigInteger)
    """All that the payer got back."""
    fee_units: Mapped[int] = mapped_column(BigInteger)
    """What of it came out of the platform's fees; the rest came from who had earned it."""


class BlockRow(Base):
    """A sealed stretch of records; its hash covers the block before it."""

    __tablename__ = "blocks"
    __table_args__ = (UniqueConstraint("hash"), {"info": APPEND_ONLY})
    height: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    hash: Mapped[bytes] = mapped_column(LargeBinary)
    previous: Mapped[bytes | None] = mapped_column(LargeBinary)
    merkle_root: Mapped[bytes] = mapped_column(LargeBinary)
    first_sequence: Mapped[int] = mapped_column(BigInteger)
    records: Mapped[int] = mapped_column(Integer)
    sealed_at: Mapped[datetime] = mapped_column(MOMENT)
    node_key: Mapped[str] = mapped_column(Text)
    signature: Mapped[str] = mapped_column(Text)


class BlockItemRow(Base):
    """One record's place in the chain."""

    __tablename__ = "block_items"
    __table_args__ = (UniqueConstraint("record_id"), {"info": APPEND_ONLY})
    sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    height: Mapped[int] = mapped_column(BigInteger)
    kind: Mapped[str] = mapped_column(Text)
    """`transaction` or `receipt`."""
    record_id: Mapped[UUID]
    digest: Mapped[bytes] = mapped_column(LargeBinary)


class UnsealedRow(Base):
    """A record that waits for its block.

    Numbers are given after all accounts of the transaction are locked: of two records that touch one account, the
    earlier has the smaller number and is visible first.
    """

    __tablename__ = "unsealed"
    __table_args__ = ({"info": {"grants": ("SELECT", "INSERT", "DELETE")}},)
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    kind: Mapped[str] = mapped_column(Text)
    record_id: Mapped[UUID]
    digest: Mapped[bytes] = mapped_column(LargeBinary)


class NodeKeyRow(Base):
    """A public key that this platform's node signs, or once signed, with."""

    __tablename__ = "node_keys"
    __table_args__ = ({"info": APPEND_ONLY},)
    public_key: Mapped[str] = mapped_column(Text, primary_key=True)
    first_used_at: Mapped[datetime] = mapped_column(MOMENT)
