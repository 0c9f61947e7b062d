"""Prices by the hour: what GPUs cost for some time, exactly."""

from aitbc.kernel.primitives import money

HOUR = 3_600_000
"""Milliseconds: durations are kept in them, so that fractions of hours stay exact."""


def total(price_units: int, gpu_count: int, duration_ms: int) -> int:
    """What so many GPUs cost for so long at a price per GPU and hour, rounded half up to the last unit.

    Raises `AmountOverflow`.
    """
    return money.checked((price_units * gpu_count * duration_ms * 2 + HOUR) // (2 * HOUR))
