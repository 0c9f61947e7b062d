"""The tables of governance.

Power is numbered: each change of a stake or a delegation takes the next number of `power_clock`, whose row it keeps
locked until it commits. The snapshot of a proposal is the number at which voting starts, so it means the same moment in
every process, whatever their clocks say, and nothing that committed before is missed.
"""

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    DateTime,
    Index,
    Integer,
    SmallInteger,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from aitbc.kernel.database.standard_tables import ALL, APPEND_ONLY, NO_DELETE, module_metadata
from aitbc.kernel.database.unit_of_work import WireId
from aitbc.modules.governance.api import BALLOTS, CLASSES
from aitbc.modules.governance.models.life import ProposalState

MOMENT = DateTime(timezone=True)
PURPOSES = ("stake", "unstake", "deposit", "refund", "forfeit", "payment", "fees", "gift")
MOVE_STATES = ("waiting", "due", "done", "refused", "stopped")
STATES = tuple(state.value for state in ProposalState)


class Base(DeclarativeBase):
    """The tables of governance, with the four that every module has."""

    metadata = module_metadata("governance")


class PowerClockRow(Base):
    """The one row that numbers the changes of power."""

    __tablename__ = "power_clock"
    __table_args__ = (CheckConstraint("id = 1", name="one"), {"info": NO_DELETE})
    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(BigInteger)


class StakeRow(Base):
    """What an account has locked, and so its own power now."""

    __tablename__ = "stakes"
    __table_args__ = (CheckConstraint("locked_units >= 0", name="locked"), {"info": NO_DELETE})
    account: Mapped[str] = mapped_column(WireId("acct"), primary_key=True)
    locked_units: Mapped[int] = mapped_column(BigInteger)
    changed_at: Mapped[datetime] = mapped_column(MOMENT)


class PowerPointRow(Base):
    """The own power of an account from a number on."""

    __tablename__ = "power_points"
    __table_args__ = ({"info": APPEND_ONLY},)
    account: Mapped[str] = mapped_column(WireId("acct"), primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    units: Mapped[int] = mapped_column(BigInteger)


class DelegationRow(Base):
    """A share of an account's own power that another votes with, between two numbers."""

    __tablename__ = "delegations"
    __table_args__ = (
        CheckConstraint("delegator <> delegatee", name="not_oneself"),
        CheckConstraint("basis_points BETWEEN 1 AND 10000", name="share"),
        Index("delegations_delegatee_idx", "delegatee", "since"),
        Index("delegations_open_key", "delegator", "delegatee", unique=True, postgresql_where=text("until IS NULL")),
        {"info": NO_DELETE},
    )
    delegator: Mapped[str] = mapped_column(WireId("acct"), primary_key=True)
    delegatee: Mapped[str] = mapped_column(WireId("acct"), primary_key=True)
    since: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    until: Mapped[int | None] = mapped_column(BigInteger)
    basis_points: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[datetime] = mapped_column(MOMENT)


class ProposalRow(Base):
    """A proposal, its rules as they were when it was made, and what its votes come to."""

    __tablename__ = "proposals"
    __table_args__ = (
        CheckConstraint(f"state IN {STATES}", name="state"),
        CheckConstraint(f"class_ IN {CLASSES}", name="class"),
        CheckConstraint(f"ballot IN {BALLOTS}", name="ballot"),
        CheckConstraint("voting_ends > voting_starts", name="voting"),
        CheckConstraint(
            "for_units >= 0 AND against_units >= 0 AND abstain_units >= 0 AND cast_units >= 0", name="tallies"
        ),
        Index("proposals_created_at_idx", "created_at", "id"),
        Index("proposals_due_idx", "state", "due_at", postgresql_where=text("due_at IS NOT NULL")),
        {"info": ALL},
    )
    id: Mapped[str] = mapped_column(WireId("prop"), primary_key=True)
    digest: Mapped[str] = mapped_column(Text)
    proposer: Mapped[str] = mapped_column(WireId("acct"))
    title: Mapped[str] = mapped_column(Text)
    text: Mapped[str] = mapped_column(Text)
    class_: Mapped[str] = mapped_column(Text)
    actions: Mapped[str] = mapped_column(Text)
    """JSON of the actions."""
    ballot: Mapped[str] = mapped_column(Text)
    options: Mapped[list[str]] = mapped_column(JSONB)
    state: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    voting_starts: Mapped[datetime] = mapped_column(MOMENT)
    voting_ends: Mapped[datetime] = mapped_column(MOMENT)
    extended: Mapped[bool] = mapped_column(Boolean)
    due_at: Mapped[datetime | None] = mapped_column(MOMENT)
    """When time moves it on next."""
    needed_units: Mapped[int] = mapped_column(BigInteger)
    """The power that proposer and co-sponsors need when voting starts."""
    snapshot: Mapped[int | None] = mapped_column(BigInteger)
    """The number of the changes of power that count."""
    snapshot_at: Mapped[datetime | None] = mapped_column(MOMENT)
    total_units: Mapped[int | None] = mapped_column(BigInteger)
    """All power at the snapshot."""
    quorum_units: Mapped[int] = mapped_column(BigInteger)
    quorum_basis_points: Mapped[int] = mapped_column(Integer)
    threshold_basis_points: Mapped[int] = mapped_column(Integer)
    timelock_seconds: Mapped[int] = mapped_column(BigInteger)
    late_seconds: Mapped[int] = mapped_column(BigInteger)
    execution_seconds: Mapped[int] = mapped_column(BigInteger)
    """How long after the timelock it may be executed."""
    for_units: Mapped[int] = mapped_column(BigInteger)
    against_units: Mapped[int] = mapped_column(BigInteger)
    abstain_units: Mapped[int] = mapped_column(BigInteger)
    cast_units: Mapped[int] = mapped_column(BigInteger)
    """All power that voted, on any ballot."""
    voters: Mapped[int] = mapped_column(BigInteger)
    outcome: Mapped[str | None] = mapped_column(Text)
    """Of a ballot with options, JSON of its tally when voting was over."""
    decided_at: Mapped[datetime | None] = mapped_column(MOMENT)
    executes_at: Mapped[datetime | None] = mapped_column(MOMENT)
    expires_at: Mapped[datetime | None] = mapped_column(MOMENT)
    execution_started_at: Mapped[datetime | None] = mapped_column(MOMENT)
    """When an execution began whose end is not known yet: it cannot be vetoed any more."""
    ended_at: Mapped[datetime | None] = mapped_column(MOMENT)
    failure: Mapped[str | None] = mapped_column(Text)
    reason: Mapped[str | None] = mapped_column(Text)
    """Why it was cancelled or vetoed."""
    deposit_units: Mapped[int] = mapped_column(BigInteger)
    deposit_policy: Mapped[str] = mapped_column(Text)


class SponsorRow(Base):
    """An account that supports a proposal before voting starts."""

    __tablename__ = "sponsors"
    __table_args__ = ({"info": ALL},)
    proposal: Mapped[str] = mapped_column(WireId("prop"), primary_key=True)
    account: Mapped[str] = mapped_column(WireId("acct"), primary_key=True)
    sponsored_at: Mapped[datetime] = mapped_column(MOMENT)


class VoteRow(Base):
    """A vote: one of an account on a proposal, for good. Its power shrinks when a delegator votes directly."""

    __tablename__ = "votes"
    __table_args__ = (
        CheckConstraint("units >= 0 AND own_units >= 0", name="units"),
        Index("votes_voter_idx", "voter", "cast_at"),
        {"info": NO_DELETE},
    )
    proposal: Mapped[str] = mapped_column(WireId("prop"), primary_key=True)
    voter: Mapped[str] = mapped_column(WireId("acct"), primary_key=True)
    choice: Mapped[str] = mapped_column(Text)
    """JSON of the choice."""
    units: Mapped[int] = mapped_column(BigInteger)
    """The power that it counts with now."""
    own_units: Mapped[int] = mapped_column(BigInteger)
    """The voter's own part of it."""
    reason: Mapped[str] = mapped_column(Text)
    nonce: Mapped[int | None] = mapped_column(BigInteger)
    """Of a vote that was signed off-line."""
    cast_at: Mapped[datetime] = mapped_column(MOMENT)


class VoterKeyRow(Base):
    """A public key by which an account signs votes off-line."""

    __tablename__ = "voter_keys"
    __table_args__ = (Index("voter_keys_account_idx", "account"), {"info": NO_DELETE})
    public_key: Mapped[str] = mapped_column(Text, primary_key=True)
    account: Mapped[str] = mapped_column(WireId("acct"))
    last_nonce: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    revoked_at: Mapped[datetime | None] = mapped_column(MOMENT)


class ProfileRow(Base):
    """What an account is called in the older dialect; its figures are added up when they are asked for."""

    __tablename__ = "profiles"
    __table_args__ = ({"info": NO_DELETE},)
    account: Mapped[str] = mapped_column(WireId("acct"), primary_key=True)
    user: Mapped[str] = mapped_column(Text, unique=True)
    joined_at: Mapped[datetime] = mapped_column(MOMENT)


class MoveRow(Base):
    """Money that is to move in the ledger, written in the transaction that decides it: it moves once, after that."""

    __tablename__ = "moves"
    __table_args__ = (
        CheckConstraint(f"purpose IN {PURPOSES}", name="purpose"),
        CheckConstraint(f"state IN {MOVE_STATES}", name="state"),
        CheckConstraint("amount_units > 0", name="amount"),
        Index("moves_due_idx", "due_at", "id", postgresql_where=text("state = 'due'")),
        Index("moves_account_idx", "account", "created_at"),
        Index("moves_proposal_idx", "proposal"),
        Index("moves_treasury_idx", "done_at", "id", postgresql_where=text("of_treasury AND state = 'done'")),
        {"info": NO_DELETE},
    )
    id: Mapped[str] = mapped_column(WireId("txn"), primary_key=True)
    """The id of its transaction in the ledger."""
    purpose: Mapped[str] = mapped_column(Text)
    source: Mapped[str] = mapped_column(Text)
    target: Mapped[str] = mapped_column(Text)
    amount_units: Mapped[int] = mapped_column(BigInteger)
    account: Mapped[str | None] = mapped_column(WireId("acct"))
    proposal: Mapped[str | None] = mapped_column(WireId("prop"))
    line: Mapped[str | None] = mapped_column(Text)
    part: Mapped[int] = mapped_column(SmallInteger)
    """Of a payment, its number among those of its proposal, from 0."""
    title: Mapped[str] = mapped_column(Text)
    """Of a milestone, what is to be done for it; else empty."""
    reason: Mapped[str] = mapped_column(Text)
    of_treasury: Mapped[bool] = mapped_column(Boolean)
    state: Mapped[str] = mapped_column(Text)
    due_at: Mapped[datetime] = mapped_column(MOMENT)
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    done_at: Mapped[datetime | None] = mapped_column(MOMENT)


class ApprovalRow(Base):
    """One of the two approvals that a milestone needs."""

    __tablename__ = "approvals"
    __table_args__ = ({"info": APPEND_ONLY},)
    move: Mapped[str] = mapped_column(WireId("txn"), primary_key=True)
    account: Mapped[str] = mapped_column(WireId("acct"), primary_key=True)
    approved_at: Mapped[datetime] = mapped_column(MOMENT)


class BudgetLineRow(Base):
    """How much the treasury may pay for one purpose in all, and what it has paid and promised."""

    __tablename__ = "budget_lines"
    __table_args__ = (
        CheckConstraint("paid_units >= 0 AND promised_units >= 0", name="not_negative"),
        CheckConstraint("paid_units + promised_units <= limit_units", name="within"),
        {"info": NO_DELETE},
    )
    line: Mapped[str] = mapped_column(Text, primary_key=True)
    limit_units: Mapped[int] = mapped_column(BigInteger)
    paid_units: Mapped[int] = mapped_column(BigInteger)
    promised_units: Mapped[int] = mapped_column(BigInteger)
    changed_at: Mapped[datetime] = mapped_column(MOMENT)


class TreasuryRow(Base):
    """The one row about the treasury: how much of the fees it has had its share of, and what all lines promised."""

    __tablename__ = "treasury"
    __table_args__ = (
        CheckConstraint("id = 1", name="one"),
        CheckConstraint("promised_units >= 0", name="promised"),
        {"info": NO_DELETE},
    )
    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    fees_seen_units: Mapped[int] = mapped_column(BigInteger)
    promised_units: Mapped[int] = mapped_column(BigInteger)
    version: Mapped[int] = mapped_column(BigInteger)
    """Counts the payments that were made."""
