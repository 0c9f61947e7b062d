"""The events that trading publishes; any module may subscribe to them."""

from typing import ClassVar

from aitbc.kernel.database.outbox import Event


class HoldExpired(Event, frozen=True, kw_only=True):
    """A hold reached its deadline unclaimed; the money is back with the payer."""

    kind: ClassVar[str] = "trading.hold_expired"
    hold: str
    payer: str
    reference: str
