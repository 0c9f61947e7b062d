"""The events that trading publishes; any module may subscribe to them."""

from datetime import datetime
from typing import ClassVar

from aitbc.kernel.database.outbox import Event


class HoldExpired(Event, frozen=True, kw_only=True):
    """A hold reached its deadline unclaimed; the money is back with the payer."""

    kind: ClassVar[str] = "trading.hold_expired"
    hold: str
    payer: str
    reference: str


class AgreementSigned(Event, frozen=True, kw_only=True):
    """A buyer and a seller agreed: what was agreed on can be booked or begun."""

    kind: ClassVar[str] = "trading.agreement_signed"
    agreement: str
    request: str
    offer: str
    buyer: str
    seller: str
    trade_type: str
    price_units: int
    settlement_type: str
    signed_at: datetime


class TradeEnded(Event, frozen=True, kw_only=True):
    """The last payment of a settlement was paid or refunded."""

    kind: ClassVar[str] = "trading.trade_ended"
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
