"""Reputation: kept up as attempts end, and worked out anew from them for whoever asks."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date
from typing import cast as cast_type

from msgspec import Struct
from sqlalchemy import Date, Table, bindparam, cast, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from aitbc.kernel.auth import Principal
from aitbc.kernel.clock import now
from aitbc.kernel.db import UnitOfWork
from aitbc.modules.ai.events import AttemptEnded
from aitbc.modules.gpu.models.reputation import (
    HALF_LIFE_DAYS,
    NEWCOMER_BELOW,
    OVERCOUNTED,
    PRIOR,
    PRIOR_WEIGHT,
    WINDOW_DAYS,
    Tally,
    score,
    tally,
    weight,
)
from aitbc.modules.gpu.models.tables import ReputationDayRow, ReputationEventRow, ReputationRow
from aitbc.modules.gpu.service.fleet import Fleet

# As tables, not as objects: these lines are written with every attempt that ends anywhere.
EVENTS, DAYS, SCORES = (
    cast_type(Table, row.__table__) for row in (ReputationEventRow, ReputationDayRow, ReputationRow)
)
_new_days = upsert(DAYS)
ADD_DAYS = _new_days.on_conflict_do_update(
    index_elements=["miner", "day"],
    set_={"good": DAYS.c.good + _new_days.excluded.good, "bad": DAYS.c.bad + _new_days.excluded.bad},
)
STORE_SCORE = update(SCORES).where(SCORES.c.miner == bindparam("of"))


class ReputationDay(Struct, frozen=True, kw_only=True):
    """What one day counts."""

    day: date
    good: int
    """Attempts that succeeded."""
    bad: int
    """Attempts that ended by the miner's own fault, and those that succeeded though it counted far too much."""
    overcounted: int
    """How many of the bad ones were paid as the platform metered them, while the miner had counted far more."""
    weight: float
    """What each of them weighs beside one of the newest day."""


class Reputation(Struct, frozen=True, kw_only=True):
    """A miner's reputation and all that it is made of.

    value = (prior · prior_weight + Σ good · weight) / (prior_weight + Σ (good + bad) · weight)
    """

    miner: str
    value: float
    newcomer: bool
    newcomer_below: int
    """With fewer counted attempts than this a miner is a newcomer, and gets a newcomer's share of the work."""
    half_life_days: int
    window_days: int
    """Attempts that lie longer than this before the newest count no more."""
    prior: float
    prior_weight: float
    days: tuple[ReputationDay, ...]
    """From the newest on."""


class Scoring(Fleet):
    """Keeping and showing reputations."""

    async def reputation(self, who: Principal, miner: str) -> Reputation:
        """A miner's reputation, worked out from its stored attempts. Raises `MinerNotFound`."""
        await self.miner_of(who, miner)
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
        """The tallies of a miner and how often it counted too much, by day, out of the events; see `reputation.judged`."""
        event = ReputationEventRow
        day = cast(func.timezone("UTC", event.ended_at), Date)
        succeeded, too_much = event.outcome == "succeeded", event.reason == OVERCOUNTED
        good = func.count().filter(succeeded, ~too_much)
        over = func.count().filter(succeeded, too_much)
        bad = func.count().filter(~succeeded, event.fault == "miner")
        counted = select(day, good, bad, over).where(event.miner == miner).group_by(day)
        async with self.db.reading() as session:
            rows = (await session.execute(counted)).all()
        telling = [row for row in rows if any(row[1:])]
        tallies = {day: Tally(good, bad + over) for day, good, bad, over in telling}
        return tallies, {day: over for day, _, _, over in telling}

    async def on_attempts_ended(self, uow: UnitOfWork, events: Sequence[AttemptEnded]) -> None:
        """Keep each attempt once, and bring the reputations of their miners up to it."""
        by_miner: dict[str, list[AttemptEnded]] = defaultdict(list)
        for event in await _keep(uow, events):
            by_miner[event.miner].append(event)
        tallies = {
            miner: added
            for miner, ended in sorted(by_miner.items())  # in one order, so that two hearers never wait for each other
            if (added := tally((event.ended_at, event.outcome, event.fault, event.reason) for event in ended))
        }
        if tallies:
            await _score_anew(uow, tallies)


async def _keep(uow: UnitOfWork, events: Sequence[AttemptEnded]) -> list[AttemptEnded]:
    """Those of the events that were not known."""
    known = {event.attempt: event for event in events}
    rows = [
        {
            "attempt": event.attempt,
            "miner": event.miner,
            "job": event.job,
            "job_kind": event.job_kind,
            "outcome": event.outcome,
            "fault": event.fault,
            "reason": event.reason,
            "started_at": event.started_at,
            "ended_at": event.ended_at,
            "heard_at": now(),
        }
        for _, event in sorted(known.items())
    ]
    added = upsert(EVENTS).on_conflict_do_nothing().returning(EVENTS.c.attempt)
    return [known[attempt] for attempt in await uow.session.scalars(added, rows)]


async def _score_anew(uow: UnitOfWork, tallies: Mapping[str, Mapping[date, Tally]]) -> None:
    """Add to the days of miners and store what they amount to. Their reputations are locked first: hearers take turns."""
    session, miners = uow.session, list(tallies)
    blanks = [{"miner": miner, "score": PRIOR, "good": 0, "bad": 0, "updated_at": now()} for miner in miners]
    await session.execute(upsert(SCORES).on_conflict_do_nothing(), blanks)
    await session.execute(
        select(SCORES.c.miner).where(SCORES.c.miner.in_(miners)).order_by(SCORES.c.miner).with_for_update()
    )
    await session.execute(
        ADD_DAYS,
        [
            {"miner": miner, "day": day, "good": one.good, "bad": one.bad}
            for miner, added in tallies.items()
            for day, one in sorted(added.items())
        ],
    )
    stored: dict[str, dict[date, Tally]] = defaultdict(dict)
    for miner, day, good, bad in await session.execute(
        select(DAYS.c.miner, DAYS.c.day, DAYS.c.good, DAYS.c.bad).where(DAYS.c.miner.in_(miners))
    ):
        stored[miner][day] = Tally(good, bad)
    found = [(miner, score(stored[miner])) for miner in miners]
    await session.execute(
        STORE_SCORE,
        [
            {"of": miner, "score": one.value, "good": one.good, "bad": one.bad, "updated_at": now()}
            for miner, one in found
        ],
    )
