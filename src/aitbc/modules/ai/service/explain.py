"""Why a job is where it is, and what would help: never blank, and never invented."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import func, select, tuple_

from aitbc.kernel.database.unit_of_work import UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.clock import now
from aitbc.modules.ai.api import Attempt, ExpectedWait, Explanation, FilterCount
from aitbc.modules.ai.models.fleet import ONLINE, FleetMiner, filter_counts, suggest
from aitbc.modules.ai.models.life import STOP_GRACE, Reason, State, must_leave
from aitbc.modules.ai.models.queue import Needs, matches, needs_of
from aitbc.modules.ai.models.tables import AttemptRow, JobRow, MinerRow
from aitbc.modules.ai.models.values import JobValue
from aitbc.modules.ai.models.views import attempt_view
from aitbc.modules.ai.service.office import Office
from aitbc.modules.gpu.events import MinerChanged

POSITION_MAX = 100_000
"""A position is counted no further."""
RECENT_MAX = 500
"""Among so many of the newest attempts the recent successes are looked for."""
NO_DATA = "no data"


class Explaining(Office):
    """The picture of the fleet, and what can be told from it."""

    async def on_miners_changed(self, uow: UnitOfWork, events: Sequence[MinerChanged]) -> None:
        """Keep the newest of what gpu tells of each miner."""
        newest: dict[str, MinerChanged] = {}
        for event in sorted(events, key=lambda event: event.version):
            newest[event.miner] = event
        for miner in sorted(newest):
            event = newest[miner]
            row = await uow.session.get(MinerRow, miner, with_for_update=True)
            if row is None:
                uow.add(MinerRow(id=miner, **_picture(event)))
                await uow.session.flush()
            elif row.version < event.version:
                if row.booking != event.booking:
                    self.miners.recall(miner)
                for name, value in _picture(event).items():
                    setattr(row, name, value)

    async def fleet(self) -> list[FleetMiner]:
        """Every miner that has not been removed."""
        async with self.db.reading() as session:
            rows = await session.scalars(select(MinerRow).where(MinerRow.status != "removed"))
        return [
            FleetMiner(
                row.id,
                row.status,
                row.status_reason,
                tuple(row.kinds),
                msgspec.json.decode(row.models, type=dict[str, tuple[str, ...]]),
                tuple(row.programs),
                row.device,
                tuple(row.gpu_models),
                row.vram_mib,
                row.region,
                row.slots,
                row.cuda,
                row.booking,
                row.booker,
            )
            for row in rows
        ]

    async def explain(self, who: Principal, job: str) -> Explanation:
        """Why a job is in its state, and what would help. Raises `JobNotFound`."""
        found, rows = await self.found(who, job)
        attempts = tuple(attempt_view(attempt) for attempt in rows)
        if found.state != State.QUEUED:
            return _settled(found, attempts)
        needs = needs_of(found.needs)
        fleet = await self.fleet()
        counts = filter_counts(needs, fleet, avoided=_avoided_now(found))
        position = await self._position(found)
        wait = await self._expected_wait(found, position, needs, fleet)
        paused = (found.due_at - now()).total_seconds()
        return Explanation(
            job=found.id,
            state=found.state,
            reason=found.reason if counts[-1].after or paused > 0 else "no_miner_fits",
            summary=_summary(found, counts, position, paused),
            position=position,
            expected_wait=wait,
            filters=counts,
            suggestion=suggest(needs, fleet, counts),
            attempts=attempts,
        )

    async def _position(self, job: JobValue) -> int:
        ahead = (
            select(JobRow.id)
            .where(JobRow.lane == job.lane, JobRow.state == State.QUEUED)
            .where(tuple_(JobRow.rank, JobRow.id) < (job.rank, job.id))
            .limit(POSITION_MAX)
        )
        async with self.db.reading() as session:
            return 1 + int((await session.execute(select(func.count()).select_from(ahead.subquery()))).scalar_one())

    async def _expected_wait(
        self, job: JobValue, position: int, needs: Needs, fleet: Sequence[FleetMiner]
    ) -> ExpectedWait:
        """From how long recent jobs of the kind took, and over how many slots the queue is spread."""
        slots = sum(miner.slots for miner in fleet if miner.status == ONLINE and matches(needs, miner))
        durations = sorted(await self._recent_durations(job.kind))
        if not slots or not durations:
            missing = "no miner fits" if not slots else f"no finished {job.kind} job yet"
            return ExpectedWait(low_seconds=None, high_seconds=None, basis=f"{NO_DATA}: {missing}")
        rounds = position / slots
        median, long = durations[len(durations) // 2], durations[len(durations) * 9 // 10]
        low = round(max(rounds - 1, 0.0) * median, 3)
        told = f"half within {median:.1f} s, nine in ten within {long:.1f} s"
        basis = f"{len(durations)} recent {job.kind} jobs ({told}), {slots} slots"
        return ExpectedWait(low_seconds=low, high_seconds=round(max(rounds, 1.0) * long, 3), basis=basis)

    async def typical_seconds(self, kind: str) -> float | None:
        """How long half of the recent jobs of a kind took at most; none while none is finished."""
        durations = sorted(await self._recent_durations(kind))
        return durations[len(durations) // 2] if durations else None

    async def _recent_durations(self, kind: str) -> Sequence[float]:
        if not self.durations[kind]:
            newest = select(AttemptRow).order_by(AttemptRow.id.desc()).limit(RECENT_MAX)
            async with self.db.reading() as session:
                rows = [
                    row for row in await session.scalars(newest) if row.kind == kind and row.ended == State.SUCCEEDED
                ]
            self.durations[kind].extend(
                (row.ended_at - row.started_at).total_seconds() for row in reversed(rows) if row.ended_at is not None
            )
        return self.durations[kind]


def _picture(event: MinerChanged) -> dict[str, object]:
    return {
        "version": event.version,
        "status": event.status,
        "status_reason": event.status_reason,
        "kinds": list(event.kinds),
        "models": msgspec.json.encode(event.models).decode(),
        "programs": list(event.programs),
        "device": event.device,
        "gpu_models": list(event.gpu_models),
        "vram_mib": event.vram_mib,
        "region": event.region,
        "slots": event.slots,
        "cuda": event.cuda,
        "booking": event.booking,
        "booker": event.booker,
        "changed_at": event.changed_at,
    }


def _avoided_now(job: JobValue) -> str:
    at = now()
    return " ".join(miner for miner in job.avoided.split() if must_leave(job.avoided, miner, job.due_at, at))


def _summary(job: JobValue, counts: Sequence[FilterCount], position: int, paused_seconds: float) -> str:
    if paused_seconds > 0:
        return f"Attempt {job.token} did not succeed; the next may begin in {paused_seconds:.1f} seconds."
    if not counts[-1].after:
        blocking = next(count for count in counts if not count.after)
        wish = "" if blocking.wanted == "yes" else f" = {blocking.wanted}"
        return f"No miner can take it: the condition {blocking.filter}{wish} left none of {blocking.before}."
    return f"It waits at position {position}; {counts[-1].after} miners can take it."


def _settled(job: JobValue, attempts: tuple[Attempt, ...]) -> Explanation:
    """The explanation of a job that does not wait."""
    last = attempts[-1] if attempts else None
    told = (
        f" The last attempt: {last.reason}{': ' + last.message if last.message else ''}."
        if last and last.reason
        else ""
    )
    back = " The money went back."
    summaries = {
        State.LEASED: f"Miner {last.miner if last else '?'} took it and has not shown a sign of work yet.",
        State.RUNNING: f"Miner {last.miner if last else '?'} works on it{_progress(last)}.{_stopping(last)}",
        State.SUCCEEDED: f"It is done and paid; the receipt says what for.{_stopped(job)}",
        State.FAILED: f"It failed ({job.reason}, fault: {job.fault}).{told}{back}",
        State.CANCELED: f"It was stopped ({job.reason}).{back}",
        State.EXPIRED: f"No miner took it in time ({job.reason}).{back}",
    }
    suggestions = {
        State.FAILED: "Read the attempts: each says what went wrong and whose fault it was.",
        State.EXPIRED: "Submit it again with a longer queue clock or fewer requirements; a quote counts who fits.",
    }
    state = State(job.state)
    return Explanation(
        job=job.id,
        state=job.state,
        reason=job.reason,
        summary=summaries[state],
        position=None,
        expected_wait=ExpectedWait(low_seconds=None, high_seconds=None, basis="it does not wait"),
        filters=(),
        suggestion=suggestions.get(state, "Nothing has to change."),
        attempts=attempts,
    )


def _stopping(attempt: Attempt | None) -> str:
    if attempt is None or attempt.stop_asked_at is None:
        return ""
    return f" It was asked to finish early, and has {STOP_GRACE.seconds} seconds to bring what it delivered."


def _stopped(job: JobValue) -> str:
    if job.reason != Reason.STOPPED_EARLY:
        return ""
    return " Its owner finished it early: what was delivered until then is its result."


def _progress(attempt: Attempt | None) -> str:
    return "" if attempt is None or attempt.progress is None else f", {attempt.progress:.0%} done"
