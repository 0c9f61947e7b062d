"""Verdicts carried out: in one transaction the job ends, and each answer is paid by an event, or not."""

import random
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct, structs
from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert

from aitbc.kernel.database.unit_of_work import UnitOfWork
from aitbc.kernel.primitives.clock import now
from aitbc.modules.ai.batched.claim import closings
from aitbc.modules.ai.batched.complete import Accepted, attempt_ended, succeeded
from aitbc.modules.ai.events import AnswerSucceeded, HoldsFreed, JobSucceeded
from aitbc.modules.ai.models.checks.sampling import is_drawn
from aitbc.modules.ai.models.checks.verdicts import Answer, Decision, Verdict
from aitbc.modules.ai.models.job_spans import trace_attempt
from aitbc.modules.ai.models.kinds.registry import KINDS
from aitbc.modules.ai.models.life import Ended, Fault, Reason, State, judge_attempt, move
from aitbc.modules.ai.models.queue import needs_of
from aitbc.modules.ai.models.tables import AttemptRow, DeliveryRow, JobRow, TrackRecordRow
from aitbc.modules.ai.models.views import holds_of
from aitbc.modules.ai.service.rows import attempt_value, count_ended, job_value

_BLAMED = (Reason.OVERCOUNTED.value, Reason.TOO_FAST.value)


class Concluded(Struct):
    """What a verdict led to, for what follows its commit."""

    payments: list[JobSucceeded]
    """What is to be paid, the answer that was taken first; none where nobody is."""
    freed: tuple[str, ...]
    """The holds that are to be voided; of a job that failed those are all, and its end voids them."""
    accepted: Accepted | None
    attempts: list[AttemptRow]


async def deliveries_of(uow: UnitOfWork, job: str) -> list[DeliveryRow]:
    """The answers to a locked job that wait for the verdict, in the order in which they came."""
    found = select(DeliveryRow).where(DeliveryRow.job == job).order_by(DeliveryRow.delivered_at, DeliveryRow.attempt)
    return list(await uow.session.scalars(found))


def answer_of(row: DeliveryRow) -> Answer:
    """An answer, as verdicts are made from it."""
    return Answer(attempt=row.attempt, is_trusted=row.is_trusted, agrees_with=frozenset(row.agrees_with))


async def is_to_check(uow: UnitOfWork, job: JobRow, miner: str, chance: Callable[[], float] = random.random) -> bool:
    """Whether a sampled answer of this miner is drawn to be checked."""
    record = await uow.session.get(TrackRecordRow, (miner, job.kind, needs_of(job.needs).model or ""))
    return is_drawn(0 if record is None else record.valid_in_row, chance)


async def conclude(uow: UnitOfWork, job: JobRow, rows: Sequence[DeliveryRow], decision: Decision) -> Concluded:
    """Carry out a verdict on a locked job."""
    at = now()
    by_id = {row.attempt: row for row in rows}
    locked = select(AttemptRow).where(AttemptRow.id.in_(list(by_id))).order_by(AttemptRow.id).with_for_update()
    attempts = {row.id: row for row in await uow.session.scalars(locked)}
    _judge(attempts, decision)
    evidence = _evidence(job, rows, attempts, decision)
    job.verdict = msgspec.json.encode(evidence).decode()
    await _note_records(uow, job, attempts, decision, at)
    concluded = Concluded([], (), None, list(attempts.values()))
    if decision.paid:
        _succeed(job, [by_id[attempt] for attempt in decision.paid], attempts, at)
        _pay(uow, job, [by_id[attempt] for attempt in decision.paid], concluded, evidence)
    else:
        move(job, State.FAILED, Reason.NO_MAJORITY, at=at)
        for event in closings(job):
            uow.publish(event)
    for attempt in attempts.values():
        uow.publish(attempt_ended(job.account, attempt_value(attempt)))
        trace_attempt(job.request_id, attempt_value(attempt))
    await uow.session.execute(delete(DeliveryRow).where(DeliveryRow.job == job.id))
    await count_ended(uow, [job])
    return concluded


def _judge(attempts: dict[str, AttemptRow], decision: Decision) -> None:
    for id_, attempt in attempts.items():
        if id_ in decision.paid:
            reason = attempt.reason if attempt.reason in _BLAMED else Reason.COMPLETED
            judge_attempt(attempt, Ended.SUCCEEDED, fault=Fault.NONE, reason=reason)
        elif id_ in decision.wrong:
            judge_attempt(attempt, Ended.FAILED, fault=Fault.MINER, reason=Reason.WRONG_RESULT)
        else:
            judge_attempt(attempt, Ended.FAILED, fault=Fault.UNKNOWN, reason=Reason.NO_MAJORITY)


def _evidence(
    job: JobRow, rows: Sequence[DeliveryRow], attempts: Mapping[str, AttemptRow], decision: Decision
) -> dict[str, Any]:
    """What a receipt says of the verification, in its own form."""
    answers = [
        {
            "agrees": row.attempt in decision.paid,
            "attempt": row.attempt,
            "output_digest": attempts[row.attempt].output_digest or "",
            "trusted": row.is_trusted,
        }
        for row in rows
    ]
    rule = KINDS[job.kind].equality or ""
    return {"answers": answers, "rule": rule, "tier": job.verification, "verdict": decision.verdict.value}


async def _note_records(
    uow: UnitOfWork, job: JobRow, attempts: Mapping[str, AttemptRow], decision: Decision, at: datetime
) -> None:
    """Count the answers that were compared, in the order of miners, in which these rows are locked."""
    if decision.verdict is not Verdict.VALID:
        return
    model = needs_of(job.needs).model or ""
    for id_, attempt in sorted(attempts.items(), key=lambda pair: pair[1].miner):
        if attempt.miner_account == job.account:
            continue  # its own jobs prove nothing to others
        is_wrong = id_ in decision.wrong
        row = TrackRecordRow
        making = insert(row).values(
            miner=attempt.miner,
            kind=job.kind,
            model=model,
            valid_in_row=int(not is_wrong),
            checked=1,
            wrong=int(is_wrong),
            changed_at=at,
        )
        counted = {
            "valid_in_row": 0 if is_wrong else row.valid_in_row + 1,
            "checked": row.checked + 1,
            "wrong": row.wrong + int(is_wrong),
            "changed_at": at,
        }
        key = ["miner", "kind", "model"]
        await uow.session.execute(making.on_conflict_do_update(index_elements=key, set_=counted))


def _succeed(job: JobRow, paid: Sequence[DeliveryRow], attempts: Mapping[str, AttemptRow], at: datetime) -> None:
    """The job has its result: that of the first; it costs what all of them cost."""
    taken = paid[0]
    move(job, State.SUCCEEDED, Reason.COMPLETED, at=at)
    job.output, job.output_digest = taken.output, attempts[taken.attempt].output_digest
    job.units, job.price_units = taken.units, sum(row.price_units for row in paid)


def _pay(
    uow: UnitOfWork, job: JobRow, paid: Sequence[DeliveryRow], concluded: Concluded, evidence: dict[str, Any]
) -> None:
    """Publish a payment for each answer out of a hold of its own, and that the rest of the holds is free."""
    holds = holds_of(job.id, job.copies)
    by_id = {row.id: row for row in concluded.attempts}
    for number, (hold, row) in enumerate(zip(holds, paid, strict=False)):
        value = structs.replace(job_value(job), units=row.units, price_units=row.price_units)
        accepted = Accepted(value, attempt_value(by_id[row.attempt]), job.input_digest, repeated=False)
        event = structs.replace(succeeded(accepted), hold=hold, verification=evidence)
        if number:
            event = AnswerSucceeded(**structs.asdict(event))
        else:
            concluded.accepted = accepted
        uow.publish(event)
        concluded.payments.append(event)
    concluded.freed = holds[len(paid) :]
    if concluded.freed:
        uow.publish(HoldsFreed(job=job.id, holds=concluded.freed, reason="verification did not need it"))
