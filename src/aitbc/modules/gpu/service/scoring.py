"""Reputation: kept up as attempts end, and worked out anew from them for whoever asks."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date

from msgspec import Struct
from sqlalchemy import Date, cast, func, select
from sqlalchemy.dialects.postgresql import insert as upsert

from aitbc.kernel.auth import Principal
from aitbc.kernel.clock import now
from aitbc.kernel.db import UnitOfWork
from aitbc.modules.ai.events import AttemptEnded
from aitbc.modules.gpu.models.reputation import (
    HALF_LIFE_DAYS,
    NEWCOMER_BELOW,
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


class ReputationDay(Struct, frozen=True, kw_only=True):
    """What one day counts."""

    day: date
    good: int
    """Attempts that succeeded."""
    bad: int
    """Attempts that ended by the miner's own fault."""
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
        days = await self._recount(miner)
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
                ReputationDay(day=day, good=days[day].good, bad=days[day].bad, weight=share)
                for day in sorted(days, reverse=True)
                if (share := weight(day, newest))
            ),
        )

    async def _recount(self, miner: str) -> dict[date, Tally]:
        """The tallies of a miner, counted in the events themselves; see `reputation.judged`."""
        event = ReputationEventRow
        day = cast(func.timezone("UTC", event.ended_at), Date)
        good = func.count().filter(event.outcome == "succeeded")
        bad = func.count().filter(event.outcome != "succeeded", event.fault == "miner")
        counted = select(day, good, bad).where(event.miner == miner).group_by(day)
        async with self.db.reading() as session:
            rows = (await session.execute(counted)).all()
        return {day: Tally(good, bad) for day, good, bad in rows if good or bad}

    async def on_attempts_ended(self, uow: UnitOfWork, events: Sequence[AttemptEnded]) -> None:
        """Keep each attempt once, and bring the reputations of their miners up to it."""
        fresh = await _keep(uow, events)
        by_miner: dict[str, list[AttemptEnded]] = defaultdict(list)
        for event in fresh:
            by_miner[event.miner].append(event)
        for miner in sorted(by_miner):  # in one order, so that two hearers never wait for each other
            added = tally((event.ended_at, event.outcome, event.fault) for event in by_miner[miner])
            if added:
                await _score_anew(uow, miner, added)


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
    added = upsert(ReputationEventRow).on_conflict_do_nothing().returning(ReputationEventRow.attempt)
    return [known[attempt] for attempt in await uow.session.scalars(added, rows)]


async def _score_anew(uow: UnitOfWork, miner: str, added: Mapping[date, Tally]) -> None:
    """Add to the days of a miner and store what they amount to. Its reputation is locked first: hearers take turns."""
    blank = {"miner": miner, "score": PRIOR, "good": 0, "bad": 0, "updated_at": now()}
    await uow.session.execute(upsert(ReputationRow).values(**blank).on_conflict_do_nothing())
    row = await uow.session.get_one(ReputationRow, miner, with_for_update=True)
    await _add_days(uow, miner, added.items())
    stored = await uow.session.execute(
        select(ReputationDayRow.day, ReputationDayRow.good, ReputationDayRow.bad).where(ReputationDayRow.miner == miner)
    )
    found = score({day: Tally(good, bad) for day, good, bad in stored})
    row.score, row.good, row.bad, row.updated_at = found.value, found.good, found.bad, now()


async def _add_days(uow: UnitOfWork, miner: str, added: Iterable[tuple[date, Tally]]) -> None:
    days = upsert(ReputationDayRow)
    days = days.on_conflict_do_update(
        index_elements=["miner", "day"],
        set_={
            "good": ReputationDayRow.good + days.excluded.good,
            "bad": ReputationDayRow.bad + days.excluded.bad,
        },
    )
    rows = [{"miner": miner, "day": day, "good": one.good, "bad": one.bad} for day, one in sorted(added)]
    await uow.session.execute(days, rows)
