"""How fast miners do a kind of work, told to other modules."""

from aitbc.modules.ai.api.speeds import MeasuredSpeed, MeasuredSpeeds
from aitbc.modules.ai.models.kinds.registry import KINDS
from aitbc.modules.ai.service.fitting_offers import FittingOffers

JOBS_MIN = 3
"""Of fewer jobs nothing is said."""


async def speeds_of(offers: FittingOffers, kind: str, model: str | None) -> MeasuredSpeeds | None:
    """What a kind of work is metered in, and how fast miners do it; none for a kind that there is not."""
    known = KINDS.get(kind)
    if known is None:
        return None
    measured = await offers.measured(kind, model)
    return MeasuredSpeeds(
        kind=kind,
        model=model,
        unit=known.unit,
        miners=tuple(
            MeasuredSpeed(miner=miner, per_second=speed.units_per_second, jobs=speed.jobs)
            for miner, speed in sorted(measured.items())
            if speed.jobs >= JOBS_MIN
        ),
    )
