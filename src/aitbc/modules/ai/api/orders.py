"""Jobs that other modules submit in the name of an account."""

from datetime import datetime
from typing import Any

from msgspec import Struct


class OrderJob(Struct, frozen=True, kw_only=True):
    """A module submits a job in the name of an account, to the GPU that this account has booked."""

    account: str
    key: str
    """The API key that asked for it."""
    kind: str
    input: dict[str, Any]
    booking: str
    booking_ends_at: datetime
    """The module above has just seen that the booking lasts until then and is this account's."""
    queue_seconds: int
    """How long it may wait for the GPU."""
    request_key: str | None
    """The Idempotency-Key of the request, and what it stands for: asking again gives the same job."""
    fingerprint: bytes


class AgreedTerms(Struct, frozen=True, kw_only=True):
    """What the payer of a job and the owner of a miner agreed on."""

    miner: str
    """The one miner that may take it."""
    offer: str
    """The offer about which they agreed."""
    unit_price_units: int
    """What one metered unit costs, in minor units of money."""


class SubmitFor(Struct, frozen=True, kw_only=True):
    """A module submits a job in the name of an account that asked it to."""

    account: str
    key: str
    """The API key that asked for it."""
    kind: str
    input: dict[str, Any]
    max_price: str | None
    """The most it may cost, in AITBC: so much of the account's money is held; none for the most that it can cost."""
    queue_seconds: int
    """How long it may wait for a miner."""
    request_key: str
    """Asking again under the same key gives the same job."""
    agreed: AgreedTerms | None = None
    """None for a job that any miner may take at its own price."""
