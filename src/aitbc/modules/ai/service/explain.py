"""Why a job is where it is, and what would help: never blank, and never invented."""

from collections.abc import Sequence

from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import money
from aitbc.kernel.primitives.clock import now
from aitbc.modules.ai.api import Attempt
from aitbc.modules.ai.models.asks import Ask, covers
from aitbc.modules.ai.models.checks.tiers import is_quorum
from aitbc.modules.ai.models.fleet import ONLINE, FleetMiner, filter_counts, own_miners, suggest
from aitbc.modules.ai.models.kinds.registry import price_of
from aitbc.modules.ai.models.life import STOP_GRACE, Reason, State, copies_wanted, must_leave
from aitbc.modules.ai.models.prospects import ExpectedWait, Explanation, FilterCount
from aitbc.modules.ai.models.queue import Needs, matches, needs_of
from aitbc.modules.ai.models.values import JobValue
from aitbc.modules.ai.models.views import attempt_view
from aitbc.modules.ai.service.durations import Durations
from aitbc.modules.ai.service.fleet_view import FleetView
from aitbc.modules.ai.service.job_queue import JobQueue
from aitbc.modules.ai.service.jobs import Jobs

NO_DATA = "no data"
OWN_WORK = " A miner of the same account did it: without a fee, and it counts in no reputation or statistics."
GPUS_FREE = "gpus_free"
"""The last of the counts where a job asks for GPUs: who has them free now."""


class Explanations:
    """Explains jobs."""

    def __init__(self, jobs: Jobs, queue: JobQueue, fleet_view: FleetView, durations: Durations) -> None:
        self._jobs = jobs
        self._queue = queue
        self._fleet_view = fleet_view
        self._durations = durations

    async def explain(self, who: Principal, job: str) -> Explanation:
        """Why a job is in its state, and what would help. Raises `JobNotFound`."""
        found, rows = await self._jobs.find(who, job)
        attempts = tuple(attempt_view(attempt) for attempt in rows)
        if found.state != State.QUEUED:
            return _settled(found, attempts, is_own=bool(rows) and rows[-1].miner_account == found.account)
        needs = needs_of(found.needs)
        fleet = await self._fleet_view.miners()
        counts = filter_counts(needs, fleet, avoided=_avoided_now(found))
        offered = await self._fleet_view.offered(needs, fleet)
        dear = [
            ask
            for _, ask in offered
            if ask is not None and not covers(found.max_price_units // found.copies, found.units_max, ask)
        ]
        counts = _priced(found, counts, len(dear))
        counts += await self._free_gpus(needs, fleet, counts)
        position = await self._queue.position(found)
        wait = await self._expected_wait(found, position, needs, fleet)
        paused = (found.due_at - now()).total_seconds()
        return Explanation(
            job=found.id,
            state=found.state,
            reason=found.reason if _able(counts) or paused > 0 else "no_miner_fits",
            summary=_summary(found, counts, position, paused) + _quorum(found) + _own(found, needs, fleet),
            position=position,
            expected_wait=wait,
            filters=counts,
            suggestion=_cheaper(found, dear) if _is_too_dear(counts) else suggest(needs, fleet, counts),
            attempts=attempts,
        )

    async def _free_gpus(
        self, needs: Needs, fleet: Sequence[FleetMiner], counts: Sequence[FilterCount]
    ) -> tuple[FilterCount, ...]:
        """How many of the miners that can take the job have the GPUs that it asks for free now."""
        if not needs.gpus or not counts[-1].after:
            return ()
        able = [miner for miner in fleet if miner.status == ONLINE and matches(needs, miner)]
        free = min(len(await self._fleet_view.with_room(needs, able)), counts[-1].after)
        return (FilterCount(filter=GPUS_FREE, wanted=str(needs.gpus), before=counts[-1].after, after=free),)

    async def _expected_wait(
        self, job: JobValue, position: int, needs: Needs, fleet: Sequence[FleetMiner]
    ) -> ExpectedWait:
        """From how long recent jobs of the kind took, and over how many slots the queue is spread."""
        slots = sum(miner.slots for miner in fleet if miner.status == ONLINE and matches(needs, miner))
        durations = sorted(await self._durations.recent(job.kind))
        if not slots or not durations:
            missing = "no miner fits" if not slots else f"no finished {job.kind} job yet"
            return ExpectedWait(low_seconds=None, high_seconds=None, basis=f"{NO_DATA}: {missing}")
        rounds = position / slots
        median, long = durations[len(durations) // 2], durations[len(durations) * 9 // 10]
        low = round(max(rounds - 1, 0.0) * median, 3)
        spread = f"half within {median:.1f} s, nine in ten within {long:.1f} s"
        basis = f"{len(durations)} recent {job.kind} jobs ({spread}), {slots} slots"
        return ExpectedWait(low_seconds=low, high_seconds=round(max(rounds, 1.0) * long, 3), basis=basis)


def _priced(job: JobValue, counts: tuple[FilterCount, ...], dear: int) -> tuple[FilterCount, ...]:
    """The counts, and last how many miners ask more than the job may cost; nothing more where none does."""
    left = counts[-1].after
    if not (dear and left):
        return counts
    wanted = money.render(job.max_price_units)
    return (*counts, FilterCount(filter="max_price", wanted=wanted, before=left, after=max(left - dear, 0)))


def _is_too_dear(counts: Sequence[FilterCount]) -> bool:
    return any(count.filter == "max_price" and not count.after for count in counts)


def _cheaper(job: JobValue, dear: Sequence[Ask]) -> str:
    most = money.render(price_of(job.units_max, dear[0].units, money.LARGEST))
    return f"Submit it again with a max_price of {most}: so much it can cost at the cheapest offer that fits."


def _avoided_now(job: JobValue) -> str:
    at = now()
    return " ".join(miner for miner in job.avoided.split() if must_leave(job.avoided, miner, job.due_at, at))


def _summary(job: JobValue, counts: Sequence[FilterCount], position: int, paused_seconds: float) -> str:
    if paused_seconds > 0:
        return f"Attempt {job.token} did not succeed; the next may begin in {paused_seconds:.1f} seconds."
    if not _able(counts):
        blocking = next(count for count in counts if not count.after)
        wish = "" if blocking.wanted == "yes" else f" = {blocking.wanted}"
        return f"No miner can take it: the condition {blocking.filter}{wish} left none of {blocking.before}."
    free = ""
    if counts[-1].filter == GPUS_FREE:
        free = f", and {counts[-1].after or 'none'} of them has the GPUs that it asks for free now"
    return f"It waits at position {position}; {_able(counts)} miners can take it{free}."


def _quorum(job: JobValue) -> str:
    if not is_quorum(job.verification) or not job.token:
        return ""
    return f" Of the {job.copies} miners of its quorum {job.copies - copies_wanted(job)} have answered or are at work."


def _own(job: JobValue, needs: Needs, fleet: Sequence[FleetMiner]) -> str:
    if is_quorum(job.verification) or not (own := own_miners(job.account, needs, fleet)):
        return ""
    return f" Miners of its own account that can: {len(own)}; they take it before the jobs of others, without a fee."


def _able(counts: Sequence[FilterCount]) -> int:
    """How many miners can take it, whether or not their GPUs are free now."""
    return counts[-1].before if counts[-1].filter == GPUS_FREE else counts[-1].after


def _settled(job: JobValue, attempts: tuple[Attempt, ...], *, is_own: bool) -> Explanation:
    """The explanation of a job that does not wait."""
    last = attempts[-1] if attempts else None
    last_words = (
        f" The last attempt: {last.reason}{': ' + last.message if last.message else ''}."
        if last and last.reason
        else ""
    )
    back = " The money went back."
    summaries = {
        State.LEASED: f"Miner {last.miner if last else '?'} took it and has not shown a sign of work yet.",
        State.RUNNING: f"Miner {last.miner if last else '?'} works on it{_on(last)}{_progress(last)}.{_stopping(last)}",
        State.SUCCEEDED: f"It is done and paid; the receipt says what for.{_stopped(job)}{OWN_WORK if is_own else ''}",
        State.FAILED: f"It failed ({job.reason}, fault: {job.fault}).{last_words}{back}",
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


def _on(attempt: Attempt | None) -> str:
    """The GPUs that an attempt has, by number and by the beginning of the digest of their uuid."""
    if attempt is None or not attempt.devices:
        return ""
    named = [
        f"GPU {'?' if one.index is None else one.index} ({one.uuid_digest[:15]})"
        + ("" if one.is_whole else f", {one.memory_mib} MiB of it")
        for one in attempt.devices
    ]
    return f" on {'; '.join(named)}"


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
