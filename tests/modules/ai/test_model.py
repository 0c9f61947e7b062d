"""The whole life of jobs against a small model of it: any commands of clients and miners, in any order, at any time."""

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, ClassVar, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from aitbc.kernel.database.idempotency import IdempotencyKeyReused
from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import clock, ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError
from aitbc.modules.ai.api import JobNotFound, Lease, LeaseLost, Part, Parts, StopAsked, TooManyOpenJobs
from aitbc.modules.ai.models.life import IllegalMove
from aitbc.modules.ai.service.stops import CannotStopEarly
from aitbc.modules.trading.api import InsufficientFunds
from tests.modules.ai.make import POOLS, Market, Worker, a_job, a_key, ai_on, embedding
from tests.modules.ai.reference import QUEUE_SECONDS, RUN_SECONDS, START_SECONDS, Attempt, Job

T = TypeVar("T")
EXAMPLES, STEPS = (300, 60) if os.environ.get("TEST_ALL") == "1" else (20, 50)
PRICE_UNITS = 5_000_000
OPEN_MAX = 5
FUNDS = 9
"""Each owner has money for so many jobs at once or, as far as they are paid, in turn."""
VALUES: dict[str, dict[str, Any]] = {
    "embed": {"texts": ["one"]},
    "chat": {"messages": [{"role": "user", "content": "Count."}], "max_tokens": 100},
    "command": {"program": "wc"},
}
LOOK = """
SELECT *, ARRAY(SELECT ROW(token, ended, fault) FROM ai.attempts WHERE job = j.id ORDER BY token) AS tries
FROM ai.jobs j WHERE id = ANY($1::uuid[])"""
KINDS = ("embed", "chat", "command")
HOLDS = dict.fromkeys(("queued", "leased", "running"), "open") | {"succeeded": "settled"}
picks = st.integers(0, 1000)


class JobsModel(RuleBasedStateMachine):
    """Two owners, four miners of three accounts, and every job as it should be."""

    runner: ClassVar[asyncio.Runner]
    market: ClassVar[Market]

    def __init__(self) -> None:
        super().__init__()
        region = ids.new_id("key")  # lanes of its own: the jobs of earlier examples are none of its miners' business
        self.region = region
        self.owners = [self.market.person(FUNDS * PRICE_UNITS) for _ in range(2)]
        kinds: list[tuple[str, ...]] = [("embed", "chat", "command")] * 3 + [("embed",)]
        self.miners = [Worker(self.market, region=self.region, kinds=served) for served in kinds]
        self.miners[1].account = self.miners[0].account
        self.jobs: list[Job] = []
        self.leases: list[tuple[Attempt, Lease]] = []

    def run(self, work: Awaitable[T]) -> T:
        """Wait for something asynchronous."""

        async def waiting() -> T:
            return await work

        return self.runner.run(waiting())

    def refusal_of(self, work: Awaitable[Any]) -> type[AppError] | None:
        """The refusal of a command, or none when it was done."""
        try:
            self.run(work)
        except AppError as refusal:
            return type(refusal)
        return None

    def owner_of(self, job: Job) -> Principal:
        """Whose job it is."""
        return next(who for who in self.owners if who.account == job.account)

    def open_jobs(self, account: str) -> int:
        """How many jobs of an account have not ended."""
        return sum(job.is_open for job in self.jobs if job.account == account)

    def wishes(self, kind: str, attempts_max: int, *, again: bool) -> dict[str, Any]:
        """A command to submit."""
        clocks = {"queue_seconds": QUEUE_SECONDS, "start_seconds": START_SECONDS, "run_seconds": RUN_SECONDS}
        retry = {"attempts_max": attempts_max, "requester_faults": again}
        return {"kind": kind, "value": VALUES[kind], "clocks": clocks, "retry": retry, "region": self.region}

    # Few rules: Hypothesis leaves out some of many, and a life needs all of them

    @initialize(kinds=st.lists(st.sampled_from(KINDS), min_size=3, max_size=3))
    def begin(self, kinds: list[str]) -> None:
        for number, kind in enumerate(kinds):
            self.submit(number, KINDS.index(kind))
            self.claim(number, 0)

    @rule(
        does=st.sampled_from(("submit",) * 3 + ("repeat_submission", "cancel", "trespass", "stop")),
        which=picks,
        how=picks,
    )
    def client(self, does: str, which: int, how: int) -> None:
        if self.jobs or does == "submit":
            getattr(self, does)(which, how)

    @rule(
        does=st.sampled_from(
            ("claim", "renew", "deliver", "fail") * 3 + ("steal", "deliver_nonsense", "release", "leave")
        ),
        which=picks,
        how=picks,
    )
    def miner(self, does: str, which: int, how: int) -> None:
        if self.leases or does == "claim":
            getattr(self, does)(which, how)

    @rule(which=picks, stops=st.booleans())
    def chat(self, which: int, stops: bool) -> None:
        if not any(attempt.job.kind == "chat" for attempt, _ in self.leases):
            return  # no precondition: which of equal jobs is leased first is chance, and Hypothesis draws alike each time
        self.stream(which)
        if stops:
            self.stop(self.jobs.index(self.leases[-1][0].job), 0)

    @rule(seconds=st.sampled_from((0, 1, 3, 11, 13, 29, 31, 53, 61, 400)), sweeps=st.booleans())
    def time_passes(self, seconds: int, sweeps: bool) -> None:
        clock.move(timedelta(seconds=seconds))
        if sweeps:
            self.run(self.market.ai.sweep())
            for job in self.jobs:
                if job.is_open:
                    job.sweep()

    # What clients do

    def submit(self, which: int, how: int) -> None:
        kind, attempts_max, again = KINDS[how % 3], 1 + how // 3 % 4, how // 12 % 2 == 1
        who = self.owners[which % 2]
        once = a_key(who)
        refused: set[type[AppError]] = set()
        if self.market.trading.available[who.account] < PRICE_UNITS:
            refused.add(InsufficientFunds)
        if self.open_jobs(who.account) >= OPEN_MAX:
            refused.add(TooManyOpenJobs)
        command = a_job(**self.wishes(kind, attempts_max, again=again))
        if refused:
            assert self.refusal_of(self.market.ai.submissions.submit(who, command, once)) in refused
            return
        made = self.run(self.market.ai.submissions.submit(who, command, once))
        lasts = timedelta(seconds=attempts_max * (QUEUE_SECONDS + RUN_SECONDS))
        waits = now() + timedelta(seconds=QUEUE_SECONDS)
        assert once.key is not None
        self.jobs.append(
            Job(made.id, who.account, kind, attempts_max, again, once.key, waits, now() + lasts, now(), now())
        )

    def repeat_submission(self, which: int, how: int) -> None:
        is_other = how % 2 == 1
        job = self.jobs[which % len(self.jobs)]
        who = self.owner_of(job)
        command = a_job(**self.wishes(job.kind, job.attempts_max, again=job.retry_requester))
        once = a_key(who, job.key, b"other" if is_other else b"f")
        if is_other:
            assert self.refusal_of(self.market.ai.submissions.submit(who, command, once)) is IdempotencyKeyReused
        else:
            assert self.run(self.market.ai.submissions.submit(who, command, once)).id == job.id
            assert once.replayed

    def trespass(self, which: int, how: int) -> None:
        job = self.jobs[which % len(self.jobs)]
        other = next(who for who in self.owners if who.account != job.account)
        command = (self.market.ai.stops.cancel, self.market.ai.stops.stop)[how % 2]
        assert self.refusal_of(command(other, job.id, a_key(other))) is JobNotFound

    def cancel(self, which: int, how: int) -> None:
        job = self.jobs[which % len(self.jobs)]
        who = self.owner_of(job)
        refusal = self.refusal_of(self.market.ai.stops.cancel(who, job.id, a_key(who)))
        assert refusal is (None if job.is_open or job.state == "canceled" else IllegalMove)
        if job.is_open:
            job.cancel()

    def stop(self, which: int, how: int) -> None:
        job = self.jobs[which % len(self.jobs)]
        who = self.owner_of(job)
        refusal = self.refusal_of(self.market.ai.stops.stop(who, job.id, a_key(who)))
        if job.kind != "chat":
            assert refusal is CannotStopEarly
        elif job.state == "queued":
            assert refusal is None
            job.cancel()
        elif job.live is not None:
            assert refusal is None
            job.live.stop_asked_at = job.live.stop_asked_at or now()
        else:
            is_done = job.state == "canceled" or job.reason == "stopped_early"
            assert refusal is (None if is_done else IllegalMove)

    # What miners do

    def claim(self, which: int, how: int) -> None:
        slots, miner = 1 + how % 3, self.miners[which % len(self.miners)]
        served = miner.capabilities.kinds
        free = {job.id: job for job in self.jobs if job.kind in served and job.can_be_taken(miner.id)}
        leases = self.run(miner.claim(slots=slots))
        assert len(leases) == min(slots, len(free))
        for lease in leases:
            attempt = free.pop(lease.job).take(lease.attempt, miner.id, miner.account)
            assert (lease.token, lease.number, lease.expires_at) == (attempt.token, attempt.token, attempt.expires_at)
            self.leases.append((attempt, lease))

    def _pick(self, which: int) -> tuple[Attempt, Lease, Worker]:
        """A lease that was ever given, the newer ones more often, and its miner."""
        attempt, lease = self.leases[-1 - which % min(len(self.leases), 1 + which % 7)]
        return attempt, lease, next(miner for miner in self.miners if miner.id == attempt.miner)

    def steal(self, which: int, how: int) -> None:
        attempt, lease, miner = self._pick(which)
        thief = next(one for one in self.miners if one is not miner)
        assert self.run(thief.renew(lease)) == "lost"
        work = (thief.deliver(lease, self._output(attempt, "")), thief.fail(lease, "miner"))
        refusals = [self.refusal_of(one) for one in work]
        assert refusals == [LeaseLost, LeaseLost]

    def renew(self, which: int, how: int) -> None:
        attempt, lease, miner = self._pick(which)
        progress = None if how % 3 == 0 else how % 11 / 10
        assert self.run(miner.renew(lease, progress)) == attempt.status
        if attempt.ended is None:
            attempt.renew()

    def stream(self, which: int) -> None:
        chats = [(attempt, lease) for attempt, lease in self.leases if attempt.job.kind == "chat"]
        attempt, lease = chats[which % len(chats)]
        kept = len(attempt.text.split())
        parts = (Part(sequence=kept + 1, text=f"{kept + 1} "),)
        sent = Parts(miner=attempt.miner, attempt=lease.attempt, token=lease.token, parts=parts)
        status = attempt.status
        answer = self.run(self.market.ai.tell_parts(sent))
        assert answer.status == status
        if attempt.ended is None:
            attempt.show_sign()
        if status == "live":
            attempt.text += f"{kept + 1} "
        assert answer.kept == len(attempt.text.split())

    def _output(self, attempt: Attempt, text: str) -> Any:
        if attempt.job.kind == "chat":
            return {"message": {"role": "assistant", "content": text}, "model": "m", "finish_reason": "stop"}
        if attempt.job.kind == "command":
            return {"exit_code": 0, "stdout": text, "stderr": "", "truncated": False}
        return embedding(1) | {"model": text or "m"}

    def deliver(self, which: int, how: int) -> None:
        more = ("", "", "more")[how % 3]
        attempt, lease, miner = self._pick(which)
        text = attempt.text + more
        work = miner.deliver(lease, self._output(attempt, text))
        if attempt.ended is None and attempt.stop_asked_at is not None and more:
            assert self.refusal_of(work) is StopAsked
        elif attempt.ended is None:
            outcome = self.run(work)
            assert (outcome.state, outcome.earned is not None) == ("succeeded", True)
            attempt.job.succeed(text)
        else:
            refusal = self.refusal_of(work)
            assert refusal is (None if attempt.ended == "succeeded" and attempt.output == text else LeaseLost)

    def deliver_nonsense(self, which: int, how: int) -> None:
        attempt, lease, miner = self._pick(which)
        work = miner.deliver(lease, {"nonsense": True})
        if attempt.ended is None:
            self.run(work)
            attempt.job.give_up("failed", "invalid_output", "miner")
        else:
            assert self.refusal_of(work) is LeaseLost

    def fail(self, which: int, how: int) -> None:
        fault = ("requester", "requester", "miner", "platform", "unknown")[how % 5]
        attempt, lease, miner = self._pick(which)
        self._end(attempt, miner.fail(lease, fault), "failed", "broken", fault)

    def release(self, which: int, how: int) -> None:
        attempt, lease, miner = self._pick(which)
        work = self.market.ai.release(miner.id, lease.attempt, lease.token, "draining")
        self._end(attempt, work, "released", "draining", "none")

    def _end(self, attempt: Attempt, work: Awaitable[Any], ended: str, reason: str, fault: str) -> None:
        refusal = self.refusal_of(work)
        if attempt.ended is None:
            assert refusal is None
            attempt.job.give_up(ended, reason, fault)
        else:
            assert refusal is (None if (attempt.ended, attempt.reason) == (ended, reason) else LeaseLost)

    def leave(self, which: int, how: int) -> None:
        miner = self.miners[which % len(self.miners)]
        live = {attempt.id: attempt for attempt, _ in self.leases if attempt.miner == miner.id and not attempt.ended}
        found = self.run(self.market.ai.leases_of(miner.id))
        assert {lease.attempt for lease in found} == live.keys()
        for lease in found:
            self.run(self.market.ai.release(miner.id, lease.attempt, lease.token, "miner_left"))
            live[lease.attempt].job.give_up("released", "miner_left", "none")

    # What must always hold

    @invariant()
    def rows_are_as_they_should_be(self) -> None:
        rows = self.run(self.market.sql(LOOK, [ids.decode("job", job.id) for job in self.jobs]))
        found = {ids.encode("job", row["id"]): row for row in rows}
        for job in self.jobs:
            row = found[job.id]
            is_as_told = (row["state"], row["reason"], row["fault"], row["attempts"], row["token"])
            assert is_as_told == (job.state, job.reason, job.fault, job.counted, len(job.history))
            if job.state == "queued":
                assert job.due_from <= row["due_at"] <= job.due_at
                job.wait_until(row["due_at"])
                assert row["expires_at"] == job.expires_at
            assert row["avoided"].split() == sorted(job.avoided, key=row["avoided"].index)
            assert list(map(tuple, row["tries"])) == [(one.token, one.ended, one.fault) for one in job.history]
            assert [one.ended is None for one in job.history[-1:]] == [job.live is not None] * bool(job.history)

    @invariant()
    def money_is_held_for_open_jobs_and_no_others(self) -> None:
        trading = self.market.trading
        for who in self.owners:
            mine = [job for job in self.jobs if job.account == who.account]
            held = sum(
                hold.amount_units
                for hold in trading.holds.values()
                if hold.payer == who.account and hold.state == "open"
            )
            assert held == PRICE_UNITS * sum(job.is_open for job in mine)
            paid = sum(one.price_units for one in trading.paid.values() if one.payer == who.account)
            assert trading.available[who.account] + held + paid == FUNDS * PRICE_UNITS
        for job in self.jobs:
            assert trading.holds["hold_" + job.id[4:]].state == HOLDS.get(job.state, "voided")

    @invariant()
    def open_jobs_are_counted(self) -> None:
        accounts = [ids.decode("acct", who.account) for who in self.owners]
        counts = self.run(
            self.market.sql("SELECT account, ended, jobs FROM ai.job_counts WHERE account = ANY($1::uuid[])", accounts)
        )
        counted = {(ids.encode("acct", row["account"]), row["ended"]): row["jobs"] for row in counts}
        for who in self.owners:
            open_now = counted.get((who.account, False), 0) - counted.get((who.account, True), 0)
            assert open_now == self.open_jobs(who.account)

    def teardown(self) -> None:
        for job in self.jobs:
            if job.is_open:
                self.run(self.market.ai.stops.cancel(self.owner_of(job), job.id, a_key(self.owner_of(job))))
                job.cancel()
        self._require_events()
        self.run(self.market.sql("TRUNCATE ai.outbox"))
        clock.reset()

    def _require_events(self) -> None:
        """Each end was published once: what happened to the events is never taken back, so it is enough to look last."""
        query = "SELECT kind, body::json->>'job' AS job, count(*) AS events FROM ai.outbox GROUP BY 1, 2"
        mine = {job.id for job in self.jobs}
        rows = self.run(self.market.sql(query))
        published = {(row["kind"], row["job"]): row["events"] for row in rows if row["job"] in mine}
        expected: Counter[tuple[str, str]] = Counter()
        for job in self.jobs:
            expected["ai.attempt_ended", job.id] += sum(one.ended is not None for one in job.history)
            if not job.is_open:
                expected["ai.job_succeeded" if job.state == "succeeded" else "ai.job_closed", job.id] += 1
        assert published == {key: count for key, count in expected.items() if count}


@pytest.fixture
def machine(new_jobs: Callable[[], Target], monkeypatch: pytest.MonkeyPatch) -> Any:
    """The model on a service that all examples share, with a clock that only moves when it is told to."""
    start = now()
    monkeypatch.setattr(clock, "_source", lambda: start)
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        market = runner.run(stack.enter_async_context(ai_on(new_jobs(), open_jobs_per_account=OPEN_MAX)))
        yield type("Model", (JobsModel,), {"runner": runner, "market": market})
        runner.run(stack.aclose())
        runner.run(POOLS.close())


@pytest.mark.timeout(900)  # a failure is made small, which takes its time
def test_jobs_live_as_their_model_does(machine: type[JobsModel]) -> None:
    run_state_machine_as_test(
        machine, settings=settings(max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None)
    )
