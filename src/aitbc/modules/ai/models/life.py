"""The life of a job: its states, and the rules by which it moves; pure, and shared by batches and units of work.

    queued ──► leased ──► running ──► succeeded
      ▲  │       │           │
      │  │       ├───────────┼──────► succeeded            a result, also before the first sign of work
      └──┼───────┴───────────┤        queued               lost, failed or given back, and to be tried again
         │                   └──────► failed, canceled
         └──────────────────────────► expired, canceled, failed

Terminal states never change. Four clocks: the queue's (`expires_at`), the start's and the run's (of each attempt), and
the retention of input and output (`kept_until`). `deadline_at` bounds all attempts together.
"""

import random
from collections.abc import Callable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from aitbc.kernel.primitives.errors import Conflict
from aitbc.modules.ai.models.checks.tiers import SAMPLED, is_quorum

STOP_GRACE = timedelta(seconds=10)
"""How long a miner that was asked to finish early has for bringing what it delivered; then the money goes back."""
LEASE = timedelta(seconds=30)
"""How far a renewal extends a lease."""
UNCOUNTED_MAX = 20
"""How many leases may end without counting as an attempt (given back, or the platform's fault) before the job fails."""
AVOIDED_FOR = timedelta(seconds=30)
"""How long a miner whose fault it was must leave the job to others."""
BACKOFF_SECONDS_MAX = 60.0


MISROUTED = frozenset({"model_unavailable", "program_unavailable", "unsupported_input"})
"""Reasons of a miner that was the wrong one to ask, though nobody is at fault: others are asked at once."""
DELIVERY_MARGIN = timedelta(hours=24)
"""How much longer a job's money is held than to the moment at which its result is accepted.

Within it the event pays that the acceptance commits, or the hold is prolonged, even if this module is down for hours.
"""
HOLD_MARGIN = DELIVERY_MARGIN + timedelta(hours=1)
"""How much longer than the work money is held when a hold is placed or prolonged: more, so that few are prolonged."""
PROLONGED_EARLY = timedelta(minutes=5)
"""How long before the last moment of an acceptance its hold is prolonged: the acceptance takes a while too."""


class State(StrEnum):
    """Where a job is."""

    QUEUED = "queued"
    """It waits for a miner, or for the end of a pause before the next attempt."""
    LEASED = "leased"
    """A miner has it and has not yet shown a sign of work."""
    RUNNING = "running"
    """A miner works on it."""
    SUCCEEDED = "succeeded"
    """Its result was accepted; it is paid and has a receipt."""
    FAILED = "failed"
    """It ended without a result; the money went back."""
    CANCELED = "canceled"
    """Its owner or the operator ended it; the money went back."""
    EXPIRED = "expired"
    """Nobody took it in time; the money went back."""


OPEN = frozenset({State.QUEUED, State.LEASED, State.RUNNING})
HELD = frozenset({State.LEASED, State.RUNNING})
TERMINAL = frozenset(State) - OPEN
ALLOWED: dict[State, frozenset[State]] = {
    # A sampled job that nobody came to check succeeds as it waits.
    State.QUEUED: frozenset({State.LEASED, State.CANCELED, State.EXPIRED, State.FAILED, State.SUCCEEDED}),
    State.LEASED: frozenset({State.RUNNING, State.SUCCEEDED, State.QUEUED, State.FAILED, State.CANCELED}),
    State.RUNNING: frozenset({State.SUCCEEDED, State.QUEUED, State.FAILED, State.CANCELED}),
    **{state: frozenset[State]() for state in TERMINAL},
}


class PaymentState(StrEnum):
    """Where the money of a job is."""

    HELD = "held"
    """Set aside since the submission."""
    PAID = "paid"
    RETURNED = "returned"
    """It went back to its payer."""


def payment_state(state: str) -> PaymentState:
    """Where the money of a job in this state is."""
    if state in OPEN:
        return PaymentState.HELD
    return PaymentState.PAID if state == State.SUCCEEDED else PaymentState.RETURNED


class Reason(StrEnum):
    """Why a job is in its state."""

    SUBMITTED = "submitted"
    RETRYING = "retrying"
    """An earlier attempt ended; the attempts say how."""
    TAKEN = "taken"
    WORKING = "working"
    VERIFYING = "verifying"
    """Another miner's answer is wanted to verify it: one is there, or others of its quorum are at work."""
    COMPLETED = "completed"
    STOPPED_EARLY = "stopped_early"
    """Its owner asked to finish early: what had been delivered until then is the result, and is paid for."""
    OVERCOUNTED = "overcounted"
    """Of an attempt: its result was accepted, and paid as the platform metered it; its miner had counted far more."""
    TOO_FAST = "too_fast"
    """Of an attempt: its result was accepted, and paid as far as the measured speed of such work makes it credible."""
    REQUESTER_FAULT = "requester_fault"
    """The work itself cannot succeed: trying again would not help."""
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    DEADLINE_PASSED = "deadline_passed"
    UNDECODABLE = "undecodable"
    """The stored input can no longer be read."""
    CANCELED_BY_OWNER = "canceled_by_owner"
    STOP_UNANSWERED = "stop_unanswered"
    """Its owner asked to finish early, and the miner did not bring what it had delivered."""
    CANCELED_BY_OPERATOR = "canceled_by_operator"
    QUEUE_TIMEOUT = "queue_timeout"
    HOLD_EXPIRED = "hold_expired"
    """Its money was no longer held, as after days in which the platform stood still; it went back to its payer."""
    BOOKING_ENDED = "booking_ended"
    """The booking that it was for is over."""
    NO_MAJORITY = "no_majority"
    """The answers of a quorum differ too much; nobody was paid."""
    WRONG_RESULT = "wrong_result"
    """Of an attempt: other answers proved its own wrong, so it is not paid."""
    UNVERIFIED = "unverified"
    """Of an attempt: its job ended before its answer was verified, so it is not paid."""


class Fault(StrEnum):
    """Whose fault it was that an attempt, or the job, did not succeed."""

    NONE = "none"
    REQUESTER = "requester"
    MINER = "miner"
    PLATFORM = "platform"
    UNKNOWN = "unknown"


class Ended(StrEnum):
    """How an attempt ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    LOST = "lost"
    RELEASED = "released"
    CANCELED = "canceled"
    DELIVERED = "delivered"
    """Its answer waits for others, by which it is verified; paid or not, it ends anew by the verdict."""


class IllegalMove(Conflict):
    """The job is no longer in a state that allows this."""

    code = "job_state_conflict"


class JobFields(Protocol):
    """What the rules know of a job's row; the ORM row and the value that batches work on both have it."""

    state: str
    reason: str
    fault: str
    token: int
    attempt: str | None
    attempts: int
    attempts_max: int
    retry_requester: bool
    verification: str
    trusted_only: bool
    avoided: str
    copies: int
    barred: str
    due_at: datetime
    expires_at: datetime
    deadline_at: datetime
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    kept_until: datetime | None
    queue_seconds: int
    start_seconds: int
    run_seconds: int
    retention_seconds: int
    hold_expires_at: datetime


class AttemptFields(Protocol):
    """What the rules know of an attempt's row."""

    miner: str
    miner_account: str
    ended: str | None
    fault: str
    reason: str
    message: str
    started_at: datetime
    running_at: datetime | None
    ended_at: datetime | None
    run_until: datetime
    expires_at: datetime
    stop_asked_at: datetime | None


def move(job: JobFields, to: State, reason: Reason, *, at: datetime, fault: Fault = Fault.NONE) -> None:
    """Take a job to another state. Raises `IllegalMove` where the table of moves has no such step."""
    if to not in ALLOWED[State(job.state)]:
        raise IllegalMove(f"A job that is {job.state} cannot become {to}.", state=str(job.state))
    job.state, job.reason, job.fault = to.value, reason.value, fault.value
    if to not in HELD:
        job.attempt = None
    if to in TERMINAL:
        job.completed_at = max(at, job.started_at or job.created_at)
        job.kept_until = job.completed_at + timedelta(seconds=job.retention_seconds)


def lease_ends(job: JobFields, at: datetime) -> tuple[datetime, datetime]:
    """Until when a lease taken now waits for its first sign of work, and until when the work may last."""
    run_until = at + timedelta(seconds=job.run_seconds)
    return min(at + timedelta(seconds=job.start_seconds), run_until), run_until


def take(job: JobFields, attempt: str, *, at: datetime) -> None:
    """A miner takes the job: a new fencing token, which makes every earlier one stale."""
    move(job, State.LEASED, Reason.TAKEN, at=at)
    job.token += 1
    job.attempt = attempt
    job.started_at = job.started_at or max(at, job.created_at)


def show_sign(job: JobFields, attempt: AttemptFields, *, at: datetime) -> None:
    """The miner showed a first sign of work."""
    if attempt.running_at is None:
        attempt.running_at = max(at, attempt.started_at)
        if job.state == State.LEASED or not is_quorum(
            job.verification
        ):  # else others of the quorum are wanted, or work
            move(job, State.RUNNING, Reason.WORKING, at=at)


def copies_wanted(job: JobFields) -> int:
    """How many more miners are to answer a quorum's job: who answered or works on it is barred, as its payer is."""
    return job.copies - (len(job.barred.split()) - 1)


def take_copy(job: JobFields, owner: str, *, at: datetime) -> None:
    """A miner of this owner has taken a quorum's job: while others are wanted, it waits for them at the same time."""
    bar(job, owner)
    if copies_wanted(job):
        _wait(job, Reason.VERIFYING, Fault.NONE, at=at)
        job.expires_at = min(at + timedelta(seconds=job.queue_seconds), job.deadline_at)


def bar(job: JobFields, owner: str) -> None:
    """No other miner of this owner is to answer the job."""
    if owner not in job.barred:
        job.barred = f"{job.barred} {owner}".strip()


def _wait(job: JobFields, reason: Reason, fault: Fault, *, at: datetime) -> None:
    """Let a job wait for a miner; a quorum's may do so already, while others work on it."""
    if job.state == State.QUEUED and is_quorum(job.verification):
        job.reason, job.fault = reason.value, fault.value
    else:
        move(job, State.QUEUED, reason, at=at, fault=fault)


def renewed_until(attempt: AttemptFields, at: datetime) -> datetime:
    """Where a renewal now takes the lease's end: never beyond the run clock, never backwards."""
    return max(attempt.expires_at, min(at + LEASE, attempt.run_until))


def succeed(job: JobFields, attempt: AttemptFields, *, at: datetime) -> None:
    """A result was accepted."""
    reason = Reason.COMPLETED if attempt.stop_asked_at is None else Reason.STOPPED_EARLY
    move(job, State.SUCCEEDED, reason, at=at)
    end(attempt, Ended.SUCCEEDED, fault=Fault.NONE, reason=reason, message="", at=at)


def end(attempt: AttemptFields, ended: Ended, *, fault: Fault, reason: str, message: str, at: datetime) -> None:
    """Close an attempt, once."""
    assert attempt.ended is None
    attempt.ended, attempt.fault, attempt.reason, attempt.message = ended.value, fault.value, str(reason), message
    attempt.ended_at = max(at, attempt.started_at)


def give_up(
    job: JobFields,
    attempt: AttemptFields,
    ended: Ended,
    *,
    fault: Fault,
    reason: str,
    message: str,
    at: datetime,
    chance: Callable[[], float] = random.random,
) -> None:
    """An attempt ended without a result: the job is queued again, or fails for good.

    The requester's fault ends the job at once, unless its retry policy asks otherwise. The platform's fault and a lease
    given back do not count as an attempt. A miner's fault, and one that does not have what is asked for, send the job
    elsewhere without a pause.
    """
    end(attempt, ended, fault=fault, reason=reason, message=message, at=at)
    job.attempts += int(ended is not Ended.RELEASED and fault is not Fault.PLATFORM)
    if is_quorum(job.verification):
        job.barred = " ".join(owner for owner in job.barred.split() if owner != attempt.miner_account)
    if attempt.stop_asked_at is not None:
        stop_unanswered(job, attempt, at=at)
    elif (final := _final_reason(job, fault, at)) is not None:
        if is_sampled_check(job):  # its answer is there: it is taken unchecked, by the next sweep
            move(job, State.QUEUED, Reason.VERIFYING, fault=fault, at=at)
            job.due_at = job.expires_at = at
        else:
            move(job, State.FAILED, final, fault=fault, at=at)
    else:
        _wait(job, Reason.RETRYING, fault, at=at)
        job.due_at = at if is_misrouted(fault, reason) else at + pause(job, ended, fault, chance)
        job.expires_at = min(job.due_at + timedelta(seconds=job.queue_seconds), job.deadline_at)
        if fault is Fault.MINER or is_misrouted(fault, reason):
            avoid(job, attempt.miner)


def _final_reason(job: JobFields, fault: Fault, at: datetime) -> Reason | None:
    """Why a job is not tried again; none where it is."""
    if fault is Fault.REQUESTER and not job.retry_requester:
        return Reason.REQUESTER_FAULT
    if job.attempts >= job.attempts_max or job.token - job.attempts > UNCOUNTED_MAX:
        return Reason.ATTEMPTS_EXHAUSTED
    return Reason.DEADLINE_PASSED if at >= job.deadline_at else None


def is_sampled_check(job: JobFields) -> bool:
    """Whether a sampled job waits only for its check: without one it is paid as it is."""
    return job.verification == SAMPLED and job.trusted_only


def deliver(attempt: AttemptFields, *, at: datetime) -> None:
    """An answer is there and waits for the verdict: its miner is free again."""
    end(attempt, Ended.DELIVERED, fault=Fault.NONE, reason=Reason.VERIFYING, message="", at=at)


def ask_another(job: JobFields, *, at: datetime) -> None:
    """Another answer is wanted: the job waits for a miner anew, with all of its attempts.

    Where the others of a quorum work on it already, it is theirs.
    """
    job.attempts = 0
    if is_quorum(job.verification) and not copies_wanted(job):
        return
    _wait(job, Reason.VERIFYING, Fault.NONE, at=at)
    job.due_at = at
    job.expires_at = min(at + timedelta(seconds=job.queue_seconds), job.deadline_at)


def judge_attempt(attempt: AttemptFields, ended: Ended, *, fault: Fault, reason: str) -> None:
    """What the verdict makes of an answer that waited for it, once."""
    assert attempt.ended == Ended.DELIVERED
    attempt.ended, attempt.fault, attempt.reason = ended.value, fault.value, str(reason)


def is_misrouted(fault: Fault, reason: str) -> bool:
    """Whether the miner does not have what it was asked for, and nobody is at fault."""
    return fault is Fault.PLATFORM and reason in MISROUTED


def avoid(job: JobFields, miner: str) -> None:
    """Give others the first chance at the next attempt."""
    if miner not in job.avoided:
        job.avoided = f"{job.avoided} {miner}".strip()


def pause(job: JobFields, ended: Ended, fault: Fault, chance: Callable[[], float]) -> timedelta:
    """How long the job waits before its next attempt: 1, 2, 4 … 60 seconds, or not at all."""
    if fault is Fault.MINER or (ended is Ended.RELEASED and job.token == 1):
        return timedelta()
    step = job.attempts if fault in (Fault.UNKNOWN, Fault.REQUESTER) else job.token
    longest = min(2.0 ** (max(step, 1) - 1), BACKOFF_SECONDS_MAX)
    # Between three quarters and the whole, so that jobs which failed together do not come back together.
    return timedelta(seconds=longest * (0.75 + chance() / 4))


def must_leave(avoided: str, miner: str, due_at: datetime, at: datetime) -> bool:
    """Whether this miner must leave the job to others for now: its fault was the last, or one before."""
    return miner in avoided and at < due_at + AVOIDED_FOR


def lost_reason(attempt: AttemptFields, at: datetime) -> tuple[str, Fault]:
    """Why a lease that ended by its clock is over, and whose fault that is taken to be."""
    if at >= attempt.run_until:
        return "run_timeout", Fault.UNKNOWN
    if attempt.running_at is None:
        return "not_started", Fault.MINER
    return "lease_expired", Fault.MINER


def cancel(job: JobFields, attempt: AttemptFields | None, *, by_operator: bool, at: datetime) -> None:
    """Stop a job wherever it is. Raises `IllegalMove` for one that has ended."""
    reason = Reason.CANCELED_BY_OPERATOR if by_operator else Reason.CANCELED_BY_OWNER
    move(job, State.CANCELED, reason, at=at)
    if attempt is not None:
        end(attempt, Ended.CANCELED, fault=Fault.NONE, reason=reason, message="", at=at)


def end_with_booking(job: JobFields, attempt: AttemptFields | None, *, at: datetime) -> None:
    """The booking that a job is for is over: it ends wherever it is. Raises `IllegalMove` for one that has ended."""
    move(job, State.CANCELED, Reason.BOOKING_ENDED, at=at)
    if attempt is not None:
        end(attempt, Ended.CANCELED, fault=Fault.NONE, reason=Reason.BOOKING_ENDED, message="", at=at)


def ask_to_stop(job: JobFields, attempt: AttemptFields, *, at: datetime) -> None:
    """Its owner wants no more of it than what is delivered by now; the first time counts. Raises `IllegalMove`."""
    if job.state not in HELD:
        raise IllegalMove(f"A job that is {job.state} cannot be stopped.", state=str(job.state))
    attempt.stop_asked_at = attempt.stop_asked_at or at


def stop_unanswered(job: JobFields, attempt: AttemptFields, *, at: datetime) -> None:
    """The attempt that was to finish early has ended, or ends now, without a result: the job is tried no more."""
    if attempt.ended is None:
        end(attempt, Ended.LOST, fault=Fault.UNKNOWN, reason=Reason.STOP_UNANSWERED, message="", at=at)
    if job.state in OPEN:
        move(job, State.CANCELED, Reason.STOP_UNANSWERED, at=at)


def expire(job: JobFields, *, at: datetime) -> None:
    """Nobody took the job in time."""
    late = at >= job.deadline_at
    move(job, State.EXPIRED, Reason.DEADLINE_PASSED if late else Reason.QUEUE_TIMEOUT, at=at)


def lose_hold(job: JobFields, attempt: AttemptFields | None, *, at: datetime) -> None:
    """The job's money is not held any more, so that nobody could be paid for it: it ends, by the platform's fault."""
    move(job, State.FAILED, Reason.HOLD_EXPIRED, at=at, fault=Fault.PLATFORM)
    if attempt is not None:
        end(attempt, Ended.FAILED, fault=Fault.PLATFORM, reason=Reason.HOLD_EXPIRED, message="", at=at)


def hold_outlasts_delivery(job: JobFields, at: datetime) -> bool:
    """Whether money is held for long enough to pay for a result that is accepted at that time."""
    return job.hold_expires_at >= at + DELIVERY_MARGIN


def hold_until(deadline_at: datetime, run_seconds: int) -> datetime:
    """Until when the money of a new job is held: its last attempt may begin at the deadline, and run its time."""
    return deadline_at + timedelta(seconds=run_seconds) + HOLD_MARGIN


def last_deadline(created_at: datetime, *, queue_seconds: int, run_seconds: int, attempts_max: int) -> datetime:
    """When a job is queued no more: every attempt may wait and run to its clocks' ends."""
    return created_at + timedelta(seconds=attempts_max * (queue_seconds + run_seconds))
