"""Prices by the hour: what GPUs cost for some time, exactly.

Durations are kept in milliseconds, so that fractions of hours stay exact.
"""

from aitbc.kernel.primitives import money


def total(price_units: int, gpu_count: int, duration_ms: int) -> int:
    """What so many GPUs cost for so long at a price per GPU and hour, rounded half up to the last unit.

    Raises `AmountOverflow`.
    """
    return money.for_time(price_units * gpu_count, duration_ms)
