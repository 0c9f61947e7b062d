"""Service classes: what is promised to whoever buys one, when a period of it is judged, and what is credited."""

from datetime import datetime, timedelta
from itertools import pairwise
from typing import Annotated

from msgspec import Meta, Struct

from aitbc.kernel.primitives import ids, money
from aitbc.modules.monitoring.models.declarations import Key, refuse

PLACED, ACTIVE, KEPT, MISSED, REFUSED, RETURNED = "placed", "active", "kept", "missed", "refused", "returned"
PURCHASE_STATES = (PLACED, ACTIVE, KEPT, MISSED, REFUSED, RETURNED)
MOVES = {PLACED: (ACTIVE, REFUSED), ACTIVE: (KEPT, MISSED), KEPT: (RETURNED,), MISSED: (RETURNED,)}
"""From each state, where a purchase may go; the others are its end."""
JUDGED_AFTER = timedelta(seconds=60)
"""How long after the last limit of the last job of a period it is judged."""
HELD_AFTER = timedelta(days=30)
"""How long after that its money stays held: what was missed while the platform stood still is judged within this."""
RENEWED_BEFORE = timedelta(minutes=30)
"""How long before the end of a period that is to be renewed the next one is bought, at most half of the period."""
RENEWAL_RETRY = timedelta(minutes=5)
"""When a renewal is tried again whose money is not there yet; until the next period would begin."""
AmountText = Annotated[
    str,
    Meta(max_length=32, pattern=r"^[0-9]{1,20}(\.[0-9]{1,8})?\Z"),
    Meta(extra_json_schema={"pattern": r"^[0-9]{1,20}(\.[0-9]{1,8})?$", "examples": ["5"]}),
]
LimitSeconds = Annotated[int, Meta(ge=1, le=86_400)]


class WantedServiceClass(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is promised about a kind of work for a price, and what comes back where it is not kept."""

    name: Key
    """Its name, unique among the classes. For example `chat-gold`."""
    work: Key
    """The kind of work. For example `chat`."""
    finish_seconds: LimitSeconds
    """Within how many seconds of its submission a job is to succeed. For example `60`."""
    start_seconds: LimitSeconds | None = None
    """Within how many seconds of its submission a miner is to begin it; null for no such promise. For example `5`."""
    first_text_seconds: LimitSeconds | None = None
    """Within how many seconds of its submission the first piece of its text is to come; null for no such promise.
    For example `8`."""
    target: Annotated[float, Meta(gt=0, lt=1)] = 0.99
    """The share of the buyer's jobs that are to be so. For example `0.99`."""
    period_days: Annotated[int, Meta(ge=1, le=90)] = 30
    """How many days one purchase lasts. For example `30`."""
    price: AmountText
    """What one period costs, in AITBC. For example `5`."""
    credit_percent: Annotated[int, Meta(ge=1, le=100)] = 100
    """How much of the price comes back for a period in which the target is missed. For example `100`."""


def check_class(wanted: WantedServiceClass) -> None:
    """Check that a class has a price, and limits that can be kept. Raises `UnusableDeclaration`, `InvalidAmount`."""
    names = ("start_seconds", "first_text_seconds", "finish_seconds")
    limits = [(name, seconds) for name in names if (seconds := getattr(wanted, name)) is not None]
    price_units_of(wanted)
    for (name, seconds), (above, most) in pairwise(limits):
        if seconds >= most:
            refuse(f"/{name}", f"It must be below {above}.")


def price_units_of(wanted: WantedServiceClass) -> int:
    """The price of a class, in minor units. Raises `InvalidAmount`."""
    return money.parse(wanted.price)


def judged_from(ends_at: datetime, finish_seconds: int) -> datetime:
    """When a period is judged: by then each of its jobs has succeeded in time, or has not."""
    return ends_at + timedelta(seconds=finish_seconds) + JUDGED_AFTER


def renewed_from(starts_at: datetime, ends_at: datetime) -> datetime:
    """From when on the next period may be bought by itself."""
    return max(ends_at - RENEWED_BEFORE, starts_at + (ends_at - starts_at) / 2)


def is_missed(good: int, bad: int, target: float) -> bool:
    """Whether the target is missed; never where no job counts."""
    return bad > 0 and good < target * (good + bad)


def credit_of(price_units: int, percent: int) -> int:
    """What comes back, in minor units; fractions of one are not credited."""
    return price_units * percent // 100


def hold_of(purchase: str) -> str:
    """The hold of a purchase's money: it has the purchase's own UUID."""
    return ids.encode("hold", ids.decode("sbuy", purchase))
