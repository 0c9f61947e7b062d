"""Prices of offers: whole minor units, and how they follow the use of an owner's miners."""


def price_in_use(floor_units: int, ceiling_units: int, busy: int, slots: int) -> int:
    """The price while so many of an owner's slots are busy: linear from floor to ceiling, rounded down.

    Without any slot there is no use to follow: the floor. Never below the floor, so never zero by a failure.
    """
    share = min(max(busy, 0), slots)
    return floor_units + ((ceiling_units - floor_units) * share // slots if slots > 0 else 0)
