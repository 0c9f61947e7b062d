"""A forecast by the season before it, with the error that it made on what is known; or the reason why there is none."""

from collections.abc import Sequence
from statistics import fmean, median

from msgspec import Struct

SEASON = 24
"""Hours of a day."""
SEASONS_MIN = 4
"""Days that must be known: three to forecast from, and one to try it on."""
GAPS_MAX = 0.1
"""The share of hours that may be missing."""
LEVEL = 0.8
"""How much of what came lay within the interval when it was tried."""


class HourForecast(Struct, frozen=True, kw_only=True):
    """What is expected of one hour."""

    hours_ahead: int
    """How many hours from the last one known. For example `1`."""
    expected: float
    """The value expected. For example `12.5`."""
    low: float
    """Where 8 of 10 values lie above. For example `8.0`."""
    high: float
    """Where 8 of 10 values lie below. For example `17.0`."""


class Forecast(Struct, frozen=True, kw_only=True):
    """A forecast with its error, or the reason why there is none."""

    hours: list[HourForecast]
    """Hour by hour; empty where there is none."""
    reason: str | None = None
    """Why there is none; null where there is one. For example `Only 20 hours are known, and 96 are needed.`."""
    method: str | None = None
    """How it was made; null where there is none. For example `the median of the same hour of the last days`."""
    error: float | None = None
    """The mean absolute error when the last day was forecast from those before it. For example `1.8`."""
    naive_error: float | None = None
    """The same of a forecast that nothing changes. For example `3.1`."""
    beats_naive: bool | None = None
    """Whether it was better than that one; null where there is none. For example `true`."""


def forecast(known: Sequence[float | None], ahead: int = SEASON) -> Forecast:
    """Forecast the hours after `known`, oldest first; none stands for an hour that was not measured."""
    if len(known) < SEASON * SEASONS_MIN:
        return Forecast(hours=[], reason=f"Only {len(known)} hours are known, and {SEASON * SEASONS_MIN} are needed.")
    missing = sum(value is None for value in known)
    if missing > len(known) * GAPS_MAX:
        return Forecast(hours=[], reason=f"{missing} of {len(known)} hours were not measured.")
    filled = _filled(known)
    tried, real = _by_season(filled[:-SEASON], SEASON), filled[-SEASON:]
    errors = [abs(expected - value) for expected, value in zip(tried, real, strict=True)]
    error = fmean(errors)
    naive = fmean([abs(filled[-SEASON - 1] - value) for value in real])
    margin = sorted(errors)[min(len(errors) - 1, int(len(errors) * LEVEL))]
    hours = [
        HourForecast(
            hours_ahead=hour, expected=round(value, 6), low=round(value - margin, 6), high=round(value + margin, 6)
        )
        for hour, value in enumerate(_by_season(filled, ahead), 1)
    ]
    return Forecast(
        hours=hours,
        method="the median of the same hour of the last days",
        error=round(error, 6),
        naive_error=round(naive, 6),
        beats_naive=error < naive,
    )


def _filled(known: Sequence[float | None]) -> list[float]:
    """Gaps take the value of the same hour of the nearest day that has one, else 0."""
    filled: list[float] = []
    for place, value in enumerate(known):
        same = (known[at] for at in (*range(place - SEASON, -1, -SEASON), *range(place + SEASON, len(known), SEASON)))
        filled.append(value if value is not None else next((one for one in same if one is not None), 0.0))
    return filled


def _by_season(known: Sequence[float], ahead: int) -> list[float]:
    """The median of the same hour of the last seven days at most."""
    expected = []
    for hour in range(ahead):
        same = known[len(known) - SEASON + hour % SEASON :: -SEASON][:7]
        expected.append(median(same))
    return expected
