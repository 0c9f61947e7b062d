"""The events that trading publishes; any module may subscribe to them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

from aitbc.kernel.database.outbox import Event
from aitbc.kernel.primitives.money import render

BOTH_SIDES = ("buyer", "seller")


class HoldExpired(Event, frozen=True, kw_only=True):
    """A hold reached its deadline unclaimed; the money is back with the payer."""

    kind: ClassVar[str] = "trading.hold_expired"
    hold: str
    payer: str
    reference: str


class AgreementSigned(Event, frozen=True, kw_only=True):
    """A buyer and a seller agreed: what was agreed on can be booked or begun."""

    kind: ClassVar[str] = "trading.agreement_signed"
    concerns: ClassVar[tuple[str, ...]] = BOTH_SIDES
    agreement: str
    request: str
    offer: str
    buyer: str
    seller: str
    trade_type: str
    price_units: int
    settlement_type: str
    signed_at: datetime
    market_offer: str | None = None
    """The offer of the market that is to be booked; none for what the two sides deliver and pay by themselves."""
    seconds: int = 0
    """Of such an offer, for how long."""
    starts_at: datetime | None = None
    """From when; none for at once."""
    job_kind: str | None = None
    """Of an offer of work, the kind of the jobs that are to be placed; none where a device is booked."""
    model: str | None = None
    """Their model; none where the offer is for any."""
    unit_price_units: int = 0
    """What was agreed on for one metered unit of them, in minor units."""
    job_price_units: int = 0
    """The most that one of them costs, in minor units."""
    inputs: tuple[dict[str, Any], ...] = ()
    """What each of them is asked."""

    def public(self) -> Mapping[str, Any]:
        """What was agreed on, between whom, and at which price."""
        return {
            "agreement": self.agreement,
            "request": self.request,
            "offer": self.offer,
            "buyer": self.buyer,
            "seller": self.seller,
            "trade_type": self.trade_type,
            "price": render(self.price_units),
            "settlement_type": self.settlement_type,
            "signed_at": self.signed_at,
        }


class TradeDelivered(Event, frozen=True, kw_only=True):
    """A seller said that what a payment pays is delivered: it is paid at `due_at` unless the buyer objects."""

    kind: ClassVar[str] = "trading.trade_delivered"
    concerns: ClassVar[tuple[str, ...]] = BOTH_SIDES
    agreement: str
    settlement: str
    buyer: str
    seller: str
    payment: int
    """Its number in the settlement."""
    amount_units: int
    due_at: datetime

    def public(self) -> Mapping[str, Any]:
        """Which payment, how much it is, and when it is paid without the buyer's word."""
        return {
            "agreement": self.agreement,
            "settlement": self.settlement,
            "payment": self.payment,
            "amount": render(self.amount_units),
            "due_at": self.due_at,
        }


class DisputeOpened(Event, frozen=True, kw_only=True):
    """A side disputes a settlement: nothing is paid or refunded until it is decided."""

    kind: ClassVar[str] = "trading.dispute_opened"
    concerns: ClassVar[tuple[str, ...]] = BOTH_SIDES
    agreement: str
    settlement: str
    buyer: str
    seller: str
    disputed_by: str
    reason: str
    decide_by: datetime
    """When it is divided evenly unless the operator decides."""

    def public(self) -> Mapping[str, Any]:
        """Who disputes which settlement, why, and until when it is decided."""
        return {
            "agreement": self.agreement,
            "settlement": self.settlement,
            "disputed_by": self.disputed_by,
            "reason": self.reason,
            "decide_by": self.decide_by,
        }


class OrderChanged(Event, frozen=True, kw_only=True):
    """An order of the exchange was placed, bought or sold something, or ended."""

    kind: ClassVar[str] = "trading.order_changed"
    concerns: ClassVar[tuple[str, ...]] = ("account",)
    order: str
    account: str
    pair: str
    side: str
    state: str
    reason: str | None
    quantity_units: int
    filled_units: int
    cost_units: int
    """What was paid for what is filled, before fees."""

    def public(self) -> Mapping[str, Any]:
        """Which order, how much of it is filled, and whether it is over."""
        return {
            "order": self.order,
            "pair": self.pair,
            "side": self.side,
            "state": self.state,
            "reason": self.reason,
            "quantity": render(self.quantity_units),
            "filled": render(self.filled_units),
            "cost": render(self.cost_units),
        }


class WatchedMoved(Event, frozen=True, kw_only=True):
    """Money moved at an address that somebody watches, or was paid to a miner that somebody watches."""

    kind: ClassVar[str] = "trading.watched_moved"
    concerns: ClassVar[tuple[str, ...]] = ("account",)
    watch: str
    account: str
    """Who watches."""
    address: str
    label: str | None
    transaction: str
    transaction_kind: str
    amount: str
    """In `asset`; negative where it left the address."""
    asset: str
    at: datetime

    def public(self) -> Mapping[str, Any]:
        """Which watch, what moved, by which transaction and when."""
        return {
            "watch": self.watch,
            "address": self.address,
            "label": self.label,
            "transaction": self.transaction,
            "transaction_kind": self.transaction_kind,
            "amount": self.amount,
            "asset": self.asset,
            "at": self.at,
        }


class TradeEnded(Event, frozen=True, kw_only=True):
    """The last payment of a settlement was paid or refunded."""

    kind: ClassVar[str] = "trading.trade_ended"
    concerns: ClassVar[tuple[str, ...]] = BOTH_SIDES
    agreement: str
    settlement: str
    buyer: str
    seller: str
    state: str
    """`completed`, or `failed` where nothing was paid."""
    fee_units: int
    net_units: int
    refunded_units: int
    ended_at: datetime

    def public(self) -> Mapping[str, Any]:
        """How the trade ended, and where its money went."""
        return {
            "agreement": self.agreement,
            "settlement": self.settlement,
            "state": self.state,
            "fee": render(self.fee_units),
            "net": render(self.net_units),
            "refunded": render(self.refunded_units),
            "ended_at": self.ended_at,
        }
