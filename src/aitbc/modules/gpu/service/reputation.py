"""Reputation: kept up as attempts end, and worked out anew from them for whoever asks."""

from collections.abc import Sequence
from datetime import date

from msgspec import Struct
from sqlalchemy import Date, cast, func, select

from aitbc.kernel.database.unit_of_work import Connection, Database
from aitbc.kernel.identity.principal import Principal
from aitbc.modules.ai.events import AttemptEnded
from aitbc.modules.gpu.batched.reputation import record_ended_attempts
from aitbc.modules.gpu.models.reputation import (
    HALF_LIFE_DAYS,
    NEWCOMER_BELOW,
    OVERCOUNTED,
    PRIOR,
    PRIOR_WEIGHT,
    TOO_FAST,
    WINDOW_DAYS,
    Tally,
    score,
    weight,
)
from aitbc.modules.gpu.models.tables import ReputationEventRow
from aitbc.modules.gpu.service.miners import Miners


class ReputationDay(Struct, frozen=True, kw_only=True):
    """What one day counts."""

    day: date
    """The day, in UTC. For example `2030-01-31`."""
    good: int
    """Attempts that succeeded."""
    bad: int
    """Attempts that ended by the miner's own fault, and those that succeeded though it counted far too much."""
    overcounted: int
    """How many of the bad ones were paid as the platform metered them, while the miner had counted far more."""
    weight: float
    """What each of them weighs beside one of the newest day."""


class Reputation(Struct, frozen=True, kw_only=True):
    """A miner's reputation and all that it is made of; attempts at jobs of its own account's do not count.

    value = (prior · prior_weight + Σ good · weight) / (prior_weight + Σ (good + bad) · weight)
    """

    miner: str
    """The miner. For example `mnr_01k0000000000000000000000a`."""
    value: float
    """0 to 1. For example `0.93`."""
    newcomer: bool
    """Whether too little is known of it for the value to mean much."""
    newcomer_below: int
    """With fewer counted attempts than this a miner is a newcomer, and gets a newcomer's share of the work."""
    half_life_days: int
    """After so many days an attempt weighs half, in days. For example `30`."""
    window_days: int
    """Attempts that lie longer than this before the newest count no more."""
    prior: float
    """The value of a miner that nothing is known of. For example `0.5`."""
    prior_weight: float
    """How many attempts that weighs. For example `10.0`."""
    days: tuple[ReputationDay, ...]
    """From the newest on."""


class Reputations:
    """Keeping and explaining reputations."""

    def __init__(self, db: Database, miners: Miners) -> None:
        self._db = db
        self._miners = miners

    async def explain(self, who: Principal, miner: str) -> Reputation:
        """A miner's reputation, worked out from its stored attempts. Raises `MinerNotFound`."""
        await self._miners.owned(who, miner)
        days, overcounted = await self._recount(miner)
        found = score(days)
        newest = max(days, default=date.min)
        return Reputation(
            miner=miner,
            value=found.value,
            newcomer=found.newcomer,
            newcomer_below=NEWCOMER_BELOW,
            half_life_days=HALF_LIFE_DAYS,
            window_days=WINDOW_DAYS,
            prior=PRIOR,
            prior_weight=PRIOR_WEIGHT,
            days=tuple(
                ReputationDay(
                    day=day,
                    good=days[day].good,
                    bad=days[day].bad,
                    overcounted=overcounted[day],
                    weight=share,
                )
                for day in sorted(days, reverse=True)
                if (share := weight(day, newest))
            ),
        )

    async def _recount(self, miner: str) -> tuple[dict[date, Tally], dict[date, int]]:
        """The tallies of a miner and how often it counted too much, by day, out of the events.

        See `reputation.judged`.
        """
        event = ReputationEventRow
        day = cast(func.timezone("UTC", event.ended_at), Date)
        succeeded, too_much = event.outcome == "succeeded", event.reason == OVERCOUNTED
        good = func.count().filter(succeeded, ~too_much, event.reason != TOO_FAST)
        over = func.count().filter(succeeded, too_much)
        bad = func.count().filter(~succeeded, event.fault == "miner")
        counted = select(day, good, bad, over).where(event.miner == miner, ~event.is_own_work).group_by(day)
        async with self._db.reading() as session:
            rows = (await session.execute(counted)).all()
        telling = [row for row in rows if any(row[1:])]
        tallies = {day: Tally(good, bad + over) for day, good, bad, over in telling}
        return tallies, {day: over for day, _, _, over in telling}

    async def record(self, connection: Connection, events: Sequence[AttemptEnded]) -> None:
        """Record attempts that ended, each once, and bring the reputations of their miners up to them."""
        await record_ended_attempts(connection, events)
