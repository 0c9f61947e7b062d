"""How well an offer fits a request: seven sub-scores from 0 to 100, weighted; pure."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from aitbc.modules.trading.models.trades.values import SERVICE_LEVELS, SpecValue

WEIGHTS = {
    "price": 25,
    "specifications": 20,
    "timing": 15,
    "reputation": 15,
    "geography": 10,
    "availability": 10,
    "service_level": 5,
}
"""In percent."""
SCORE_MIN = 60.0
MATCHES_MAX = 10
REPUTATION_PRIOR = 500
PRIOR_RATINGS = 5
"""As many ratings weigh as much as the prior does."""
STARTS = ((timedelta(hours=1), 100.0), (timedelta(hours=6), 80.0), (timedelta(hours=24), 60.0))


class Wanted(Struct, frozen=True, kw_only=True):
    """What a buyer asks for."""

    budget_min_units: int = 0
    budget_max_units: int | None = None
    specifications: dict[str, SpecValue] = {}
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    preferred_regions: Sequence[str] = ()
    excluded_regions: Sequence[str] = ()
    service_level: str = "standard"


class Offered(Struct, frozen=True, kw_only=True):
    """What a seller has."""

    price_units: int
    specifications: dict[str, SpecValue] = {}
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    regions: Sequence[str] = ()
    service_level: str = "standard"
    capacity: int = 1
    taken: int = 0


class Score(Struct, frozen=True):
    """A total from 0 to 100, and what it is made of."""

    total: float
    parts: dict[str, float]


def score(wanted: Wanted, offered: Offered, buyer_reputation: int, seller_reputation: int) -> Score:
    """How well an offer fits."""
    parts = {
        "price": price_score(wanted, offered.price_units),
        "specifications": specification_score(wanted.specifications, offered.specifications),
        "timing": timing_score(wanted, offered),
        "reputation": min(100.0, (buyer_reputation + seller_reputation) / 2 / 10),
        "geography": geography_score(wanted, offered.regions),
        "availability": 100.0 * (offered.capacity - offered.taken) / offered.capacity,
        "service_level": level_score(wanted.service_level, offered.service_level),
    }
    parts = {name: round(part, 2) for name, part in parts.items()}
    return Score(round(sum(WEIGHTS[name] * part for name, part in parts.items()) / 100, 2), parts)


def in_budget(wanted: Wanted, price_units: int) -> bool:
    """Whether a price lies within what the buyer said."""
    most = wanted.budget_max_units
    return wanted.budget_min_units <= price_units and (most is None or price_units <= most)


def price_score(wanted: Wanted, price_units: int) -> float:
    """0 outside of the budget; within it the more, the nearer to its middle."""
    if not in_budget(wanted, price_units):
        return 0.0
    most, least = wanted.budget_max_units, wanted.budget_min_units
    if most is None or most == least:
        return 100.0
    return 100.0 * (1 - 2 * abs((price_units - least) / (most - least) - 0.5))


def specification_score(wanted: dict[str, SpecValue], offered: dict[str, SpecValue]) -> float:
    """The mean over the names that both sides have; 50 where they have none in common."""
    common = [_one_specification(wanted[name], offered[name]) for name in sorted(wanted.keys() & offered.keys())]
    return sum(common) / len(common) if common else 50.0


def _one_specification(wanted: SpecValue, offered: SpecValue) -> float:
    if isinstance(wanted, float | int) and isinstance(offered, float | int):
        if offered >= wanted:
            return 100.0
        return max(0.0, 100.0 * offered / wanted) if wanted > 0 else 0.0
    if isinstance(wanted, list) and isinstance(offered, list):
        return 100.0 * sum(one in offered for one in wanted) / len(wanted) if wanted else 100.0
    return 0.0


def timing_score(wanted: Wanted, offered: Offered) -> float:
    """The share of the wanted time that is offered; by the starts where no end is known, and 80 where none is."""
    if wanted.starts_at is None or offered.starts_at is None:
        return 80.0
    if wanted.ends_at is not None and offered.ends_at is not None:
        whole = (wanted.ends_at - wanted.starts_at).total_seconds()
        common = min(wanted.ends_at, offered.ends_at) - max(wanted.starts_at, offered.starts_at)
        return max(0.0, 100.0 * common.total_seconds() / whole) if whole > 0 else 80.0
    apart = abs(wanted.starts_at - offered.starts_at)
    return next((points for within, points in STARTS if apart <= within), 40.0)


def geography_score(wanted: Wanted, regions: Sequence[str]) -> float:
    """0 where it is excluded; else the share of the preferred regions that are covered; silence is half an answer."""
    if any(region in wanted.excluded_regions for region in regions):
        return 0.0
    if not regions and not wanted.preferred_regions:
        return 80.0
    if not regions or not wanted.preferred_regions:
        return 60.0
    return 100.0 * sum(region in regions for region in wanted.preferred_regions) / len(wanted.preferred_regions)


def level_score(wanted: str, offered: str) -> float:
    """100 where it is as good as wanted; half for each level below."""
    below = SERVICE_LEVELS.index(wanted) - SERVICE_LEVELS.index(offered)
    return max(0.0, 100.0 - 50.0 * max(0, below))


def reputation(ratings: int, stars: int) -> int:
    """0 to 1000, from how many ratings there are and their sum; few of them stay near the prior."""
    return (PRIOR_RATINGS * REPUTATION_PRIOR + (stars - ratings) * 250) // (PRIOR_RATINGS + ratings)
