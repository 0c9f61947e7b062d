"""Results: what miners deliver, fail at, give back and tell on the way."""

import asyncio
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import msgspec
import structlog
from sqlalchemy import func, select

from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import UnitOfWork
from aitbc.kernel.primitives import money
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError
from aitbc.kernel.primitives.request_id import current_request_id
from aitbc.modules.ai.api import ArtifactNotFound, Failure, LeaseLost, LogLine, Outcome, Result, WrongDigest
from aitbc.modules.ai.batched.claim import closed
from aitbc.modules.ai.batched.complete import Accepted, Completion, attempt_ended, succeeded
from aitbc.modules.ai.models.delivery import OutputRefused, judge, output_text, require_signature
from aitbc.modules.ai.models.kinds.kind import Reference
from aitbc.modules.ai.models.kinds.registry import KINDS
from aitbc.modules.ai.models.life import TERMINAL, Ended, Fault, State, avoid, give_up, show_sign
from aitbc.modules.ai.models.tables import AttemptRow, JobRow, LogRow
from aitbc.modules.ai.models.values import AttemptValue, Delivered, JobValue
from aitbc.modules.ai.models.views import hold_of, receipt_of
from aitbc.modules.ai.service.output_parts import Streaming
from aitbc.modules.ai.service.rows import attempt_value, count_ended, job_value, lock_lease
from aitbc.modules.trading.api import SettleHold

MESSAGE_LENGTH_MAX = 2000
LINE_LENGTH_MAX = 4096
LINES_MAX = 10_000
"""How many log lines an attempt may leave; the last says that there were more."""
CUT = " … (cut)"
_WORD = re.compile(r"[a-z][a-z0-9_]{0,39}\Z")
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, line separators, marks that turn the direction of writing, and half characters."""
log = structlog.get_logger("aitbc.ai")


class Results(Streaming):
    """Accepting what miners bring."""

    async def complete(self, result: Result) -> Outcome:
        """Accept a result, settle it and answer. Repeating it answers the same.

        Raises `LeaseLost`, `WrongSignature`, `WrongDigest`, `OutputTooLarge`, `StopAsked`.
        """
        job, attempt = await self._lease_of(result.miner, result.attempt, result.token)
        text = output_text(result)
        require_signature(result, job, attempt)
        if attempt.ended is None:
            try:
                delivered = await self._judge(result, text, job, attempt)
            except OutputRefused as refusal:
                message = clean(f"The output was refused: {refusal}", MESSAGE_LENGTH_MAX)
                lease = (result.attempt, result.miner, result.token)
                return await self._end(*lease, Ended.FAILED, Fault.MINER, "invalid_output", message)
        else:
            delivered = _repeated(result, text, job, attempt)
        completion = Completion(delivered, job.input_digest, current_request_id())
        return await self._settled(await self.completions.do(completion))

    async def _lease_of(self, miner: str, attempt: str, token: int) -> tuple[JobValue, AttemptValue]:
        found = await self.lease_reads.do(attempt) if re.fullmatch("att_[0-7][0-9a-z]{25}", attempt) else None
        if found is None or (found[1].miner, found[1].token) != (miner, token):
            raise LeaseLost
        return found

    async def _judge(self, result: Result, text: str, job: JobValue, attempt: AttemptValue) -> Delivered:
        value = result.output
        if isinstance(value, dict) and "artifact" in value:
            value = await self._value_in(value, attempt.id)
        told = await self.told_text(job.id, attempt.token) if KINDS[job.kind].streams else None
        return judge(result, text, value, job, attempt, now(), told=told)

    async def _value_in(self, reference: dict[str, Any], attempt: str) -> Any:
        """The output in an artifact that was delivered under this lease. Raises `OutputRefused`."""
        try:
            wanted = msgspec.convert(reference, Reference)
        except msgspec.ValidationError as error:
            raise OutputRefused(str(error)) from None
        found = await self.whole_output(wanted.artifact, attempt)
        if found is None:
            raise OutputRefused("it refers to an artifact that was not delivered under this lease")
        row, content = found
        if wanted.digest != row.digest:
            raise OutputRefused(f"it names the digest {wanted.digest} for an artifact with {row.digest}")
        try:
            return msgspec.json.decode(content)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise OutputRefused(f"the artifact is not JSON: {error}") from None

    async def _settled(self, accepted: Accepted) -> Outcome:
        """Pay at once; where the ledger cannot be reached now, the event pays later."""
        job, attempt = accepted.job, accepted.attempt
        assert attempt.ended_at is not None and job.price_units is not None
        event = succeeded(accepted)
        fields = {name: getattr(event, name) for name in event.__struct_fields__ if name != "job_kind"}
        earned = None
        try:
            settlement = await self.trading.settle(SettleHold(kind=job.kind, **fields))
            earned = money.render(settlement.earned_units)
            if accepted.event is not None:
                self.tell_paid(accepted.event, event)
        except AppError as error:
            log.warning("settlement_postponed", job=job.id, reason=error.message)
        if not accepted.repeated:
            self.durations[job.kind].append((attempt.ended_at - attempt.started_at).total_seconds())
            self.watched.tell([job.id])
        price = money.render(job.price_units)
        return Outcome(job=job.id, state=job.state, receipt=receipt_of(job.id), price=price, earned=earned)

    async def fail(self, failure: Failure) -> Outcome:
        """Note a failed attempt; the job is tried again or ends. Raises `LeaseLost`."""
        fault = Fault(failure.fault) if failure.fault in set(Fault) - {Fault.NONE} else Fault.UNKNOWN
        reason = failure.reason if _WORD.match(failure.reason) else "unnamed"
        message = clean(failure.message, MESSAGE_LENGTH_MAX)
        proven = fault is Fault.REQUESTER and await self._is_proven(failure)
        lease = (failure.attempt, failure.miner, failure.token)
        return await self._end(*lease, Ended.FAILED, fault, reason, message, proven=proven)

    async def _is_proven(self, failure: Failure) -> bool:
        """Whether the platform itself finds the request impossible that a miner blames. Raises `LeaseLost`."""
        lease, attempt = await self._lease_of(failure.miner, failure.attempt, failure.token)
        kind = KINDS[lease.kind]
        found = None if kind.miner_may_blame or attempt.ended is not None else await self.job_reads.do(lease.id)
        if found is None or found[0].input is None:
            return False
        given = kind.read(msgspec.json.decode(found[0].input))
        try:
            files = {field: await self.content_of(reference) for field, reference in kind.references(given).items()}
        except ArtifactNotFound:
            return False
        return await asyncio.to_thread(kind.is_impossible, given, files)

    async def release(self, miner: str, attempt: str, token: int, reason: str) -> Outcome:
        """Give a lease back unworked: the attempt does not count. Raises `LeaseLost`."""
        word = reason if _WORD.match(reason) else "released"
        return await self._end(attempt, miner, token, Ended.RELEASED, Fault.NONE, word, "")

    @retrying
    async def _end(
        self,
        attempt: str,
        miner: str,
        token: int,
        ended: Ended,
        fault: Fault,
        reason: str,
        message: str,
        *,
        proven: bool = False,
    ) -> Outcome:
        async with self.db.unit_of_work() as uow:
            job, row = await lock_lease(uow, attempt)
            if (row.miner, row.token) != (miner, token):
                raise LeaseLost
            if row.ended is None:
                row.blames_request = fault is Fault.REQUESTER
                if row.blames_request and not (proven or await _is_agreed(uow, job, row)):
                    fault = Fault.UNKNOWN
                give_up(job, row, ended, fault=fault, reason=reason, message=message, at=now())
                if row.blames_request and job.state == State.QUEUED and not KINDS[job.kind].miner_may_blame:
                    avoid(job, row.miner)  # another one's word is wanted
                tell_end(uow, job, row)
                await count_ended(uow, [job])
            elif (row.ended, row.reason) != (ended, reason):
                raise LeaseLost
        await self.after_end(job_value(job))
        return Outcome(job=job.id, state=job.state)

    async def after_end(self, job: JobValue) -> None:
        """What follows the commit of an ended attempt or job: the money goes back, or miners are woken."""
        self.watched.tell([job.id])
        if job.state == State.QUEUED and job.due_at <= now():
            self.announce_work([job])
        if job.state in TERMINAL and job.state != State.SUCCEEDED:
            with suppress(AppError):  # the event does it then
                await self.trading.void(hold_of(job.id), job.reason)

    @retrying
    async def log(self, miner: str, attempt: str, token: int, lines: Sequence[LogLine]) -> int:
        """Keep log lines; answers the highest sequence that is kept. Raises `LeaseLost`."""
        async with self.db.unit_of_work() as uow:
            job, row = await lock_lease(uow, attempt)
            if row.ended is not None or (row.miner, row.token) != (miner, token):
                raise LeaseLost
            show_sign(job, row, at=now())
            kept = select(func.coalesce(func.max(LogRow.sequence), 0))
            kept = kept.where(LogRow.job == job.id, LogRow.token == row.token)
            highest = int((await uow.session.execute(kept)).scalar_one())
            for line in sorted(lines, key=lambda line: line.sequence):
                if highest < line.sequence <= LINES_MAX:
                    highest = line.sequence
                    last = line.sequence == LINES_MAX
                    body = f"(no more than {LINES_MAX} lines are kept)" if last else clean(line.text, LINE_LENGTH_MAX)
                    uow.add(LogRow(job=job.id, token=row.token, sequence=line.sequence, at=line.at, text=body))
        self.watched.tell([job.id])
        if highest >= LINES_MAX:  # the miner need not send the rest again
            return max([highest, *(line.sequence for line in lines)])
        return highest


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


def tell_end(uow: UnitOfWork, job: JobRow, attempt: AttemptRow | None) -> None:
    """The events of an attempt that ended without a result, and of its job if that ended too."""
    if attempt is not None:
        uow.publish(attempt_ended(attempt_value(attempt)))
    if job.state in TERMINAL:
        uow.publish(closed(job))


def clean(text: str, longest: int, replace: Callable[[str], str] = lambda text: _UNSAFE.sub("\ufffd", text)) -> str:
    """A miner's words, safe to store and to show on a terminal or a page; what is too long is cut, and says so."""
    short = text if len(text) <= longest else text[: longest - len(CUT)] + CUT
    return replace(short)


def _repeated(result: Result, text: str, job: JobValue, attempt: AttemptValue) -> Delivered:
    """A delivery for an attempt that has ended: right only if it is the very one that was accepted."""
    if attempt.output_digest is not None and attempt.output_digest != result.output_digest:
        raise LeaseLost("Another result was accepted for this attempt.")
    if attempt.ended == Ended.SUCCEEDED and (job.units is None or job.price_units is None):
        raise WrongDigest
    return Delivered(
        job=job.id,
        attempt=attempt.id,
        miner=attempt.miner,
        token=attempt.token,
        output=text,
        output_digest=result.output_digest,
        units=job.units or 0,
        price_units=job.price_units or 0,
        usage="{}",
        note=None,
        miner_key=result.miner_key,
        signature=result.signature,
    )
