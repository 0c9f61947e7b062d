"""Attempts at jobs: found by their lease, ended without a result, and what follows once an end is committed."""

import re
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from msgspec import Struct
from sqlalchemy import select

from aitbc.kernel.database.batcher import Batcher
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.primitives.clock import now
from aitbc.modules.ai.api import LeaseLost, Outcome
from aitbc.modules.ai.batched.complete import Accepted
from aitbc.modules.ai.batched.read import read_leases
from aitbc.modules.ai.models.kinds.registry import KINDS
from aitbc.modules.ai.models.life import OPEN, TERMINAL, Ended, Fault, State, avoid, give_up, lose_hold
from aitbc.modules.ai.models.miner_text import reason_word
from aitbc.modules.ai.models.tables import AttemptRow, JobRow
from aitbc.modules.ai.models.values import AttemptValue, JobValue
from aitbc.modules.ai.service.durations import Durations
from aitbc.modules.ai.service.kind_health import KindHealth
from aitbc.modules.ai.service.payments import Payments
from aitbc.modules.ai.service.rows import count_ended, job_value, lock_lease, lock_newest, publish_end
from aitbc.modules.ai.service.wakeups import Wakeups

_ATTEMPT_ID = re.compile("att_[0-7][0-9a-z]{25}")


class HeldLease(NamedTuple):
    """A lease as its miner names it."""

    attempt: str
    miner: str
    token: int


class Ending(Struct, frozen=True):
    """How an attempt ends without a result."""

    ended: Ended
    fault: Fault
    reason: str
    message: str = ""
    is_proven: bool = False
    """Whether the platform itself found the request impossible that a miner blames."""


class Attempts:
    """Finds attempts and ends them."""

    def __init__(self, db: Database, payments: Payments, wakeups: Wakeups, durations: Durations) -> None:
        self._db = db
        self._payments = payments
        self._wakeups = wakeups
        self._durations = durations
        self.kind_health = KindHealth()
        self._reads: Batcher[str, tuple[JobValue, AttemptValue] | None] = Batcher(partial(read_leases, db))

    async def find(self, lease: HeldLease) -> tuple[JobValue, AttemptValue]:
        """The job and the attempt of a lease, whether it is live or has ended. Raises `LeaseLost`."""
        found = await self._reads.do(lease.attempt) if _ATTEMPT_ID.fullmatch(lease.attempt) else None
        if found is None or (found[1].miner, found[1].token) != (lease.miner, lease.token):
            raise LeaseLost
        return found

    async def release(self, lease: HeldLease, reason: str) -> Outcome:
        """Give a lease back unworked: the attempt does not count. Raises `LeaseLost`."""
        return await self.end(lease, Ending(Ended.RELEASED, Fault.NONE, reason_word(reason, "released")))

    @retrying
    async def end(self, lease: HeldLease, ending: Ending) -> Outcome:
        """End an attempt without a result; its job is queued again, or ends too. Raises `LeaseLost`."""
        async with self._db.unit_of_work() as uow:
            job, attempt = await lock_lease(uow, lease.attempt)
            if (attempt.miner, attempt.token) != (lease.miner, lease.token):
                raise LeaseLost
            is_new = attempt.ended is None
            if is_new:
                await _end(uow, job, attempt, ending)
            elif (attempt.ended, attempt.reason) != (ending.ended, ending.reason):
                raise LeaseLost
        if is_new:
            self.kind_health.record(attempt)
            if attempt.kind in self.kind_health.resting(attempt.miner):
                self._wakeups.miners.recall(attempt.miner)
            if attempt.devices is not None:
                self._wakeups.miners.wake(attempt.miner)
        await self.after_end(job_value(job))
        return Outcome(job=job.id, state=job.state)

    @retrying
    async def end_unheld(self, jobs: Sequence[str]) -> None:
        """End those of the jobs that are still open: their holds are gone, and a hold never opens again."""
        if not jobs:
            return
        async with self._db.unit_of_work() as uow:
            still_open = select(JobRow).where(JobRow.id.in_(jobs), JobRow.state.in_(OPEN)).order_by(JobRow.id)
            rows = (await uow.session.scalars(still_open.with_for_update())).all()
            for job in rows:
                attempt = await lock_newest(uow, job)
                lose_hold(job, attempt, at=now())
                await publish_end(uow, job, attempt)
            await count_ended(uow, rows)
        for job in rows:
            await self.after_end(job_value(job))

    async def after_end(self, job: JobValue) -> None:
        """What follows the commit of an ended attempt or job: the money goes back, or miners are woken."""
        self._wakeups.note_ended(job)
        if job.state == State.QUEUED and job.due_at <= now():
            self._wakeups.announce([job])
        if job.state in TERMINAL and job.state != State.SUCCEEDED:
            self._wakeups.on_job_ended(job.id)
            await self._payments.void(job, job.reason)

    def after_verdict(self, attempt: AttemptValue) -> None:
        """What follows the commit of a verdict on an answer."""
        self.kind_health.record(attempt)

    def free_devices(self, attempt: AttemptValue) -> None:
        """Wake the miner of an attempt that has just ended, where GPUs are free by that."""
        if attempt.devices is not None:
            self._wakeups.miners.wake(attempt.miner)

    def after_success(self, accepted: Accepted) -> None:
        """What follows the commit of a result."""
        job, attempt = accepted.job, accepted.attempt
        assert attempt.ended_at is not None
        if job.account != attempt.miner_account:
            self._durations.record(job.kind, attempt.ended_at - attempt.started_at)
        self.kind_health.record(attempt)
        self._wakeups.watched.notify([job.id])
        self._wakeups.leases.notify([job.id])
        self._wakeups.on_job_ended(job.id)
        if attempt.devices is not None:
            self._wakeups.miners.wake(attempt.miner)


async def _end(uow: UnitOfWork, job: JobRow, attempt: AttemptRow, ending: Ending) -> None:
    fault = ending.fault
    attempt.blames_request = fault is Fault.REQUESTER
    if attempt.blames_request and not (ending.is_proven or await _is_agreed(uow, job, attempt)):
        fault = Fault.UNKNOWN
    give_up(job, attempt, ending.ended, fault=fault, reason=ending.reason, message=ending.message, at=now())
    if attempt.blames_request and job.state == State.QUEUED and not KINDS[job.kind].miner_may_blame:
        avoid(job, attempt.miner)  # another one's word is wanted
    await publish_end(uow, job, attempt)
    await count_ended(uow, [job])


async def _is_agreed(uow: UnitOfWork, job: JobRow, attempt: AttemptRow) -> bool:
    """Whether it is the request's fault: one miner's word counts where its kind says so, else that of two accounts."""
    if KINDS[job.kind].miner_may_blame:
        return True
    others = select(AttemptRow.id).where(
        AttemptRow.job == job.id,
        AttemptRow.blames_request,
        AttemptRow.miner != attempt.miner,
        AttemptRow.miner_account != attempt.miner_account,
    )
    return (await uow.session.scalars(others.limit(1))).first() is not None
