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
