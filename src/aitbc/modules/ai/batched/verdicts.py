"""Verdicts carried out: the job ends, and each answer is paid by an event, or not; written in their batch."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct, structs

from aitbc.kernel.database.outbox import Event, outbox_insert
from aitbc.kernel.database.write_batch import WriteBatch
from aitbc.kernel.primitives import ids
from aitbc.modules.ai.batched.claim import closings
from aitbc.modules.ai.batched.complete import DIRECT_WAY, Accepted, attempt_ended, succeeded
from aitbc.modules.ai.batched.counts import count_ended
from aitbc.modules.ai.events import AnswerSucceeded, HoldsFreed, JobSucceeded
from aitbc.modules.ai.models.checks.likelihoods import RECENT, Measured, word_of
from aitbc.modules.ai.models.checks.verdicts import Answer, Decision, Verdict
from aitbc.modules.ai.models.job_spans import trace_attempt
from aitbc.modules.ai.models.kinds.registry import KINDS
from aitbc.modules.ai.models.life import Ended, Fault, Reason, State, judge_attempt, move
from aitbc.modules.ai.models.queue import needs_of
from aitbc.modules.ai.models.values import AttemptValue, JobValue
from aitbc.modules.ai.models.views import holds_of

_BLAMED = (Reason.OVERCOUNTED.value, Reason.TOO_FAST.value)

# By hand: what is written are sums. In the order of miners, in which these rows are locked.
COUNT_CHECKED = f"""
INSERT INTO ai.track_records AS t (miner, kind, model, valid_in_row, checked, wrong, recent, changed_at)
SELECT v.*, $8::timestamptz
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::int[], $5::bigint[], $6::bigint[], $7::text[])
    AS v(miner, kind, model, valid_in_row, checked, wrong, recent)
ON CONFLICT (miner, kind, model) DO UPDATE SET
    valid_in_row = CASE WHEN excluded.wrong > 0 THEN 0 ELSE t.valid_in_row END + excluded.valid_in_row,
    checked = t.checked + excluded.checked, wrong = t.wrong + excluded.wrong, changed_at = excluded.changed_at,
    recent = CASE WHEN excluded.recent = '' THEN t.recent ELSE array_to_string((string_to_array(
        trim(excluded.recent || ' ' || t.recent), ' '))[1:{RECENT}], ' ') END"""  # noqa: S608 - constants
FORGET_DELIVERIES = "DELETE FROM ai.deliveries WHERE job = ANY($1::uuid[])"


class Kept(Struct):
    """An answer that waits for the verdict, with the attempt that brought it."""

    attempt: AttemptValue
    is_trusted: bool
    output: str
    units: int
    price_units: int
    agrees_with: Sequence[str]
    """The attempts before it whose answers agree with its own."""
    is_unclear: bool = False
    measured: Measured | None = None
    """What the check of the answer before it measured, where it was evaluated."""

    @property
    def answer(self) -> Answer:
        """As verdicts are made from it."""
        return Answer(
            attempt=self.attempt.id,
            is_trusted=self.is_trusted,
            agrees_with=frozenset(self.agrees_with),
            is_unclear=self.is_unclear,
        )


class Concluded(Struct):
    """What a verdict led to."""

    job: JobValue
    attempts: list[AttemptValue]
    payments: list[JobSucceeded]
    """What is to be paid, the answer that was taken first; none where nobody is."""
    freed: tuple[str, ...] = ()
    """The holds that are to be voided; of a job that failed those are all, and its end voids them."""
    accepted: Accepted | None = None
    checked: dict[str, bool] = {}
    """By miner, whether the answer that was compared with others was wrong; none where nothing was found out by it."""
    measured: tuple[str, Measured] | None = None
    """The miner whose answer was evaluated, and what that measured."""
    events: list[UUID] = []
    """The events of the payments, in their order, which pay if the direct way does not."""


def conclude(job: JobValue, kept: Sequence[Kept], decision: Decision, at: datetime) -> Concluded:
    """Carry out a verdict on a locked job and its answers."""
    by_id = {one.attempt.id: one for one in kept}
    for one in kept:
        _judge(one.attempt, decision)
    evidence = _evidence(job, kept, decision)
    job.verdict = msgspec.json.encode(evidence).decode()
    checked = _checked(job, kept, decision)
    concluded = Concluded(job, [one.attempt for one in kept], [], checked=checked, measured=_measured(job, kept))
    if decision.paid:
        paid = [by_id[attempt] for attempt in decision.paid]
        _succeed(job, paid, at)
        _pay(job, paid, concluded, evidence)
    else:
        move(job, State.FAILED, Reason.NO_MAJORITY, at=at)
    return concluded


def _judge(attempt: AttemptValue, decision: Decision) -> None:
    if attempt.id in decision.paid:
        reason = attempt.reason if attempt.reason in _BLAMED else Reason.COMPLETED
        judge_attempt(attempt, Ended.SUCCEEDED, fault=Fault.NONE, reason=reason)
    elif attempt.id in decision.wrong:
        judge_attempt(attempt, Ended.FAILED, fault=Fault.MINER, reason=Reason.WRONG_RESULT)
    else:
        judge_attempt(attempt, Ended.FAILED, fault=Fault.UNKNOWN, reason=Reason.NO_MAJORITY)


def _evidence(job: JobValue, kept: Sequence[Kept], decision: Decision) -> dict[str, Any]:
    """What a receipt says of the verification, in its own form."""
    answers = [
        {
            "agrees": one.attempt.id in decision.paid,
            "attempt": one.attempt.id,
            "output_digest": one.attempt.output_digest or "",
            "trusted": one.is_trusted,
        }
        for one in kept
    ]
    rule = KINDS[job.kind].equality or ""
    return {"answers": answers, "rule": rule, "tier": job.verification, "verdict": decision.verdict.value}


def _checked(job: JobValue, kept: Sequence[Kept], decision: Decision) -> dict[str, bool]:
    if decision.verdict is not Verdict.VALID:
        return {}
    # An account's own jobs prove nothing to others.
    others = [one.attempt for one in kept if one.attempt.miner_account != job.account]
    return {attempt.miner: attempt.id in decision.wrong for attempt in others}


def _measured(job: JobValue, kept: Sequence[Kept]) -> tuple[str, Measured] | None:
    """What was measured of an answer; an account's own jobs prove nothing to others."""
    measured, first = kept[-1].measured, kept[0].attempt
    return None if measured is None or first.miner_account == job.account else (first.miner, measured)


def _succeed(job: JobValue, paid: Sequence[Kept], at: datetime) -> None:
    """The job has its result: that of the first; it costs what all of them cost."""
    taken = paid[0]
    move(job, State.SUCCEEDED, Reason.COMPLETED, at=at)
    job.output, job.output_digest = taken.output, taken.attempt.output_digest
    job.units, job.price_units = taken.units, sum(one.price_units for one in paid)


def _pay(job: JobValue, paid: Sequence[Kept], concluded: Concluded, evidence: dict[str, Any]) -> None:
    """A payment for each answer out of a hold of its own; the rest of the holds is free."""
    holds = holds_of(job.id, job.copies)
    for number, (hold, one) in enumerate(zip(holds, paid, strict=False)):
        value = structs.replace(job, units=one.units, price_units=one.price_units)
        accepted = Accepted(value, one.attempt, job.input_digest, repeated=False)
        event = structs.replace(succeeded(accepted), hold=hold, verification=evidence)
        if number:
            event = AnswerSucceeded(**structs.asdict(event))
        else:
            concluded.accepted = accepted
        concluded.payments.append(event)
    concluded.freed = holds[len(paid) :]


def write_concluded(writes: WriteBatch, concluded: Sequence[Concluded], at: datetime) -> bool:
    """Write what verdicts led to, but for the jobs and the attempts; whether an event is due at once."""
    if not concluded:
        return False
    writes.add(FORGET_DELIVERIES, [ids.decode("job", one.job.id) for one in concluded])
    _write_records(writes, concluded, at)
    later: list[tuple[Event, str | None]] = []
    at_once: list[tuple[Event, str | None]] = []
    for one in concluded:
        request = one.job.request_id
        later += [(event, request) for event in one.payments]
        later += [(attempt_ended(one.job.account, attempt), request) for attempt in one.attempts]
        if one.freed:
            freed = HoldsFreed(job=one.job.id, holds=one.freed, reason="verification did not need it")
            later.append((freed, request))
        if not one.payments:
            at_once += [(event, request) for event in closings(one.job)]
    _publish(writes, at_once)
    event_ids = _publish(writes, later, delayed=True)
    of_event = {id(event): event_id for (event, _), event_id in zip(later, event_ids, strict=True)}
    for one in concluded:
        one.events = [of_event[id(event)] for event in one.payments]
        for attempt in one.attempts:
            trace_attempt(one.job.request_id, attempt)
    count_ended(writes, [one.job for one in concluded])
    return bool(at_once)


def _publish(
    writes: WriteBatch, events: Sequence[tuple[Event, str | None]], *, delayed: bool = False
) -> Sequence[UUID]:
    """Write events with their requests, the `delayed` ones due once the direct way had its time; answers their ids."""
    if not events:
        return ()
    requests = [request for _, request in events]
    plain = [event for event, _ in events]
    if delayed:
        statement, columns = outbox_insert("ai", plain, delay=DIRECT_WAY, requests=requests)
    else:
        statement, columns = outbox_insert("ai", plain, requests=requests)
    writes.add(statement, *columns)
    return columns[0]


def _write_records(writes: WriteBatch, concluded: Sequence[Concluded], at: datetime) -> None:
    """Count the answers that were compared: how many, how many were wrong, and how many right ones came after those."""
    sums: dict[tuple[UUID, str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    recent: dict[tuple[UUID, str, str], str] = defaultdict(str)
    for one in concluded:
        model = needs_of(one.job.needs).model or ""
        for miner, is_wrong in one.checked.items():
            row = sums[ids.decode("mnr", miner), one.job.kind, model]
            row[0] = 0 if is_wrong else row[0] + 1
            row[1] += 1
            row[2] += int(is_wrong)
        if one.measured is not None:
            miner, measured = one.measured
            key = ids.decode("mnr", miner), one.job.kind, model
            recent[key] = f"{word_of(measured)} {recent[key]}".strip()
            sums[key]  # one that was unclear counts nothing else
    if sums:
        keys = sorted(sums)
        columns = [
            *zip(*keys, strict=True),
            *zip(*(sums[key] for key in keys), strict=True),
            [recent[key] for key in keys],
        ]
        writes.add(COUNT_CHECKED, *map(list, columns), at)
