"""Offers of the market among those of trades: at a price by the hour for as long as is wanted, or by the unit; pure."""

from datetime import timedelta

import msgspec

from aitbc.kernel.primitives.money import for_time
from aitbc.modules.trading.models.trades.tables import TradeOfferRow, TradeRequestRow
from aitbc.modules.trading.models.trades.work import work_of

HOUR_SECONDS = 3_600
LONGEST_SECONDS = 2_592_000
"""30 days: nothing on the market is rented for longer."""


def wanted_seconds(request: TradeRequestRow) -> int:
    """For how long a request wants something: its times, the `hours` among its specifications, or else one hour."""
    if request.starts_at is not None and request.ends_at is not None:
        wanted = (request.ends_at - request.starts_at) // timedelta(seconds=1)
    else:
        hours = msgspec.json.decode(request.specifications).get("hours")
        wanted = int(hours * HOUR_SECONDS) if isinstance(hours, int | float) else HOUR_SECONDS
    return min(max(1, wanted), LONGEST_SECONDS)


def price_of(offer: TradeOfferRow, request: TradeRequestRow) -> int:
    """What a request would pay for an offer: its price, or by the hour for as long as it wants it, or by the unit."""
    if offer.market_offer is None:
        return offer.price_units
    if (work := work_of(request.work)) is not None:
        return offer.price_units * work.units_in_all
    return max(1, for_time(offer.price_units, wanted_seconds(request) * 1_000))
