"""What marketplace publishes. Any module may handle it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

from aitbc.kernel.database.outbox import Event
from aitbc.kernel.primitives import money


class OfferChanged(Event, frozen=True, kw_only=True):
    """An offer was made, changed its price or its conditions, or ended: the whole of what matching must know.

    `version` grows with each change, so that a subscriber can keep the newest and drop the rest.
    """

    kind: ClassVar[str] = "marketplace.offer_changed"
    concerns: ClassVar[tuple[str, ...]] = ("account",)
    offer: str
    version: int
    account: str
    miner: str
    sells: str
    """`work` or `device`."""
    job_kind: str | None
    model: str | None
    price_units: int
    """Of work for one metered unit, of a device for one GPU and one hour."""
    state: str
    """`open`, `expired` or `withdrawn`."""
    valid_until: datetime
    changed_at: datetime
    gpu_model: str = ""
    """Of a device, the names of its GPUs with a comma between, as its miner says; empty without one."""
    vram_mib: int = 0
    """Of a device, its memory in MiB."""
    region: str = ""
    """Where its miner says that it is; empty where it says nothing."""
    min_seconds: int = 60
    """Of a device, the shortest time that it is rented for, in seconds."""
    max_seconds: int = 2_592_000
    """Of a device, the longest time that it is rented for, in seconds."""

    def public(self) -> Mapping[str, Any]:
        """The offer, its price and its state."""
        return {
            "offer": self.offer,
            "version": self.version,
            "miner": self.miner,
            "price": money.render(self.price_units),
            "state": self.state,
        }


class MarketBookingChanged(Event, frozen=True, kw_only=True):
    """Something happened to a booking of an offer, of which both its sides are told."""

    kind: ClassVar[str] = "marketplace.booking_changed"
    concerns: ClassVar[tuple[str, ...]] = ("payer", "owner")
    booking: str
    payer: str
    owner: str
    miner: str
    news: str
    """`reserved`, `started`, `money_24h`, `money_1h`, `money_10m`, `suspended`, `resumed`, `price_proposed`,
    `price_accepted`, `price_declined`, `notice` of an interruption, `ending` or `ended`."""
    state: str
    reason: str | None
    money_until: datetime | None

    def public(self) -> Mapping[str, Any]:
        """The booking, what happened, where it is, and until when its money lasts."""
        return {
            "booking": self.booking,
            "news": self.news,
            "state": self.state,
            "reason": self.reason,
            "money_until": self.money_until,
        }


class AgreedBookingChanged(Event, frozen=True, kw_only=True):
    """The booking of an agreement was placed, refused, or ended: whoever keeps the agreement moves it on."""

    kind: ClassVar[str] = "marketplace.agreed_booking_changed"
    concerns: ClassVar[tuple[str, ...]] = ("payer", "owner")
    agreement: str
    booking: str | None
    """None where it was refused."""
    payer: str
    owner: str
    news: str
    """`placed`, `refused` or `ended`."""
    reason: str | None
    """Why it was refused, or how the booking ended."""
    paid_units: int = 0
    """Once it has ended, what its payer paid in all."""
    fee_units: int = 0
    """The platform's part of that."""

    def public(self) -> Mapping[str, Any]:
        """The agreement, its booking, what happened, and what was paid."""
        return {
            "agreement": self.agreement,
            "booking": self.booking,
            "news": self.news,
            "reason": self.reason,
            "paid": money.render(self.paid_units),
        }


class AgreedWorkChanged(Event, frozen=True, kw_only=True):
    """The jobs of an agreement were placed, refused, or are over: whoever keeps the agreement moves it on."""

    kind: ClassVar[str] = "marketplace.agreed_work_changed"
    concerns: ClassVar[tuple[str, ...]] = ("payer", "owner")
    agreement: str
    jobs: tuple[str, ...]
    """None where they were refused."""
    payer: str
    owner: str
    news: str
    """`placed`, `refused` or `ended`."""
    reason: str | None
    """Why they were refused, or how they ended: `completed` where all succeeded."""
    paid_units: int = 0
    """Once they are over, what their payer paid for all of them."""
    fee_units: int = 0
    """The platform's part of that."""

    def public(self) -> Mapping[str, Any]:
        """The agreement, its jobs, what happened, and what was paid."""
        return {
            "agreement": self.agreement,
            "jobs": self.jobs,
            "news": self.news,
            "reason": self.reason,
            "paid": money.render(self.paid_units),
        }


class MarketBondChanged(Event, frozen=True, kw_only=True):
    """Something happened to a bond, or something is taken of it: its owner, and who gets that, are told."""

    kind: ClassVar[str] = "marketplace.bond_changed"
    concerns: ClassVar[tuple[str, ...]] = ("owner", "payer")
    bond: str
    owner: str
    payer: str
    """Who gets what is taken; its owner where nothing is."""
    news: str
    """`locked`, `leaving`, `ended`, `slash_announced`, `slash_appealed`, `slash_upheld`, `slash_dropped` or
    `slash_paid`."""
    state: str
    amount: str
    slash: str | None
    dispute: str | None
    """The evidence."""
    taken: str | None
    due_at: datetime | None

    def public(self) -> Mapping[str, Any]:
        """The bond, what happened, what is taken of it by which evidence, and when."""
        return {
            "bond": self.bond,
            "owner": self.owner,
            "news": self.news,
            "state": self.state,
            "amount": self.amount,
            "slash": self.slash,
            "dispute": self.dispute,
            "taken": self.taken,
            "due_at": self.due_at,
        }


class MarketDisputeChanged(Event, frozen=True, kw_only=True):
    """Something happened to a dispute about a job or a booking, of which both its sides are told."""

    kind: ClassVar[str] = "marketplace.dispute_changed"
    concerns: ClassVar[tuple[str, ...]] = ("payer", "owner")
    dispute: str
    subject: str
    payer: str
    owner: str
    news: str
    """`opened`, `evidence`, `decided` or `closed`."""
    state: str
    decide_by: datetime
    decided_by: str | None
    refunded_units: int

    def public(self) -> Mapping[str, Any]:
        """The dispute, what it is about, what happened, and what went back."""
        return {
            "dispute": self.dispute,
            "subject": self.subject,
            "news": self.news,
            "state": self.state,
            "decide_by": self.decide_by,
            "decided_by": self.decided_by,
            "refunded": money.render(self.refunded_units),
        }


class TermsChanged(Event, frozen=True, kw_only=True):
    """An account set with whom it deals: the whole of it, so that a subscriber keeps the newest version."""

    kind: ClassVar[str] = "marketplace.terms_changed"
    account: str
    version: int
    buyers_mode: str
    """`deny` or `allow`: whose jobs and bookings its miners take."""
    buyers: tuple[str, ...]
    owners_mode: str
    """`deny` or `allow`: whose miners its own go to."""
    owners: tuple[str, ...]


class MarketBidChanged(Event, frozen=True, kw_only=True):
    """A bid or a request came into the book, got something, or ended: its payer is told."""

    kind: ClassVar[str] = "marketplace.bid_changed"
    concerns: ClassVar[tuple[str, ...]] = ("payer",)
    bid: str
    payer: str
    state: str
    reason: str | None
    quantity: int
    filled: int

    def public(self) -> Mapping[str, Any]:
        """The bid, where it is, and how much of it was filled."""
        return {
            "bid": self.bid,
            "state": self.state,
            "reason": self.reason,
            "quantity": self.quantity,
            "filled": self.filled,
        }
