"""Submitting jobs: checked by the kind, priced, paid for by a hold, and only then written down."""

import functools
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import func, select

from aitbc.kernel.crypto.signing import value_digest
from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids, money
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError, FieldError, Invalid, OutcomeUnknown
from aitbc.kernel.primitives.json_schema import schema_of
from aitbc.kernel.primitives.request_id import current_request_id
from aitbc.modules.ai.api import ArtifactNotFound, InputFile, Job, KindInfo, Quote, TooManyOpenJobs
from aitbc.modules.ai.batched.submit import Submission
from aitbc.modules.ai.models.fleet import filter_counts
from aitbc.modules.ai.models.kinds.kind import INPUT_BYTES_MAX, FileFacts, InvalidInput, Kind, Measure
from aitbc.modules.ai.models.kinds.registry import KINDS, kind_of, price_of
from aitbc.modules.ai.models.life import Fault, Reason, State, last_deadline
from aitbc.modules.ai.models.queue import PRIORITIES, Needs, lane_of, needs_text
from aitbc.modules.ai.models.submit_job import Requirements, SubmitJob
from aitbc.modules.ai.models.tables import FlowRow, JobRow
from aitbc.modules.ai.models.values import JobValue
from aitbc.modules.ai.models.views import hold_of
from aitbc.modules.ai.service.artifacts import Artifacts
from aitbc.modules.ai.service.explain import Explaining
from aitbc.modules.ai.service.rows import open_jobs
from aitbc.modules.trading.api import InsufficientFunds, PlaceHold

HOLD_MARGIN = timedelta(hours=1)
"""How much longer than the job itself its money is held."""
HEAD_BYTES = 256 * 1024
"""How much of a file is read to find a picture's size."""
_shape = functools.cache(schema_of)
_encoder = msgspec.json.Encoder(order="deterministic")


class MaxPriceTooLow(Invalid):
    """The maximum price does not cover the most that this job can cost."""

    code = "max_price_too_low"


class ContradictingModels(Invalid):
    """The input and the requirements name different models."""

    code = "contradicting_models"


class Plan(Struct, frozen=True):
    """A submission that passed every check."""

    kind: Kind
    value: dict[str, Any]
    measure: Measure
    files: tuple[InputFile, ...]
    needs: Needs
    priority: int
    max_price_units: int
    unit_price_units: int

    @property
    def price_max_units(self) -> int:
        """The most the job can cost."""
        return price_of(self.measure.units_max, self.unit_price_units, money.LARGEST)


class Submitting(Explaining, Artifacts):
    """Quotes and submissions."""

    async def submit(self, who: Principal, command: SubmitJob, once: IdempotencyKey) -> Job:
        """Hold the money, then write the job, which miners may take from then on.

        Raises `UnknownKind`, `InvalidInput`, `MaxPriceTooLow`, `ArtifactNotFound`, `InsufficientFunds`,
        `IdempotencyKeyReused`, `TooManyOpenJobs`. A crash between the two leaves a hold without a job, which
        `reconcile_holds` gives back.
        """
        earlier = await self._stored_answer(once)
        if earlier is not None:
            return earlier
        await self._refuse_crowded(who.account)
        plan = await self._plan(who, command)
        if plan.max_price_units < plan.price_max_units:
            most = money.render(plan.price_max_units)
            message = f"This job can cost up to {most}; max_price must be at least that."
            raise MaxPriceTooLow(message, fields=(FieldError("/max_price", message),), price_max=most)
        job = _job_of(who, command, plan)
        try:
            await self.trading.hold(
                PlaceHold(
                    hold=hold_of(job.id),
                    payer=who.account,
                    amount_units=job.max_price_units,
                    expires_at=job.deadline_at + timedelta(seconds=job.run_seconds) + HOLD_MARGIN,
                    reference=job.id,
                )
            )
        except InsufficientFunds:
            earlier = await self._stored_answer(once)  # a twin of this request may have taken the money
            if earlier is not None:
                return earlier
            raise
        return await self._write(job, once)

    async def _write(self, job: JobValue, once: IdempotencyKey) -> Job:
        if job.kind not in self.served:
            async with self.learning:  # the first of many at once asks for all of them
                if job.kind not in self.served:
                    await self._learn_served(job.kind)
        try:
            answer = await self.submissions.do(Submission(job, once))
        except OutcomeUnknown:
            raise  # the job may exist: the hold is looked after by reconcile_holds
        except AppError as error:
            if isinstance(error, TooManyOpenJobs):
                self.crowded.add(job.account)
            await self._give_back(job.id, "the job was not written")
            raise
        if answer.id != job.id:
            await self._give_back(job.id, "the request was a repeated one")
        else:
            self.announce_work([job])
        return answer

    async def _refuse_crowded(self, account: str) -> None:
        """Refuse an account that was refused before and still has no room: the ledger need not hold its money again."""
        if account not in self.crowded:
            return
        open_max = self.settings.open_jobs_per_account
        async with self.db.reading() as session:
            if await open_jobs(session, account) >= open_max:
                raise TooManyOpenJobs(open_jobs_max=open_max)
        self.crowded.discard(account)

    async def _give_back(self, job: str, reason: str) -> None:
        with suppress(AppError):  # reconcile_holds tries again
            await self.trading.void(hold_of(job), reason)

    async def _stored_answer(self, once: IdempotencyKey) -> Job | None:
        if once.key is None:
            return None
        return await self.answer_reads.do(once)

    async def _learn_served(self, kind: str) -> None:
        """After a start: new flows begin beside those that are furthest, not before everybody."""
        async with self.db.reading() as session:
            furthest = (await session.execute(select(func.max(FlowRow.tag)))).scalar_one()
        self.note_served(kind, furthest or 0)

    async def quote(self, who: Principal, command: SubmitJob) -> Quote:
        """What the job would cost and who could take it; nothing is changed."""
        plan = await self._plan(who, command)
        fee = await self.trading.quote_fee(plan.price_max_units)
        fleet = await self.fleet()
        counts = filter_counts(plan.needs, fleet, avoided="")
        return Quote(
            kind=plan.kind.name,
            unit=plan.kind.unit,
            unit_price=money.render(plan.unit_price_units),
            units=plan.measure.units,
            units_max=plan.measure.units_max,
            price=money.render(price_of(plan.measure.units, plan.unit_price_units, money.LARGEST)),
            price_max=money.render(plan.price_max_units),
            fee_basis_points=fee.basis_points,
            fee_max=money.render(fee.fee_units),
            max_price=command.max_price,
            sufficient=plan.max_price_units >= plan.price_max_units,
            position=1 + await self._ahead(who, plan),
            miners_eligible=counts[-1].after,
            filters=counts,
        )

    async def _ahead(self, who: Principal, plan: Plan) -> int:
        lane = lane_of(plan.needs)
        waiting = select(JobRow.rank).where(JobRow.lane == lane, JobRow.state == State.QUEUED)
        tag = select(FlowRow.tag).where(
            FlowRow.account == who.account, FlowRow.lane == lane, FlowRow.priority == plan.priority
        )
        async with self.db.reading() as session:
            in_turn = waiting.where(JobRow.rank >= 0).order_by(JobRow.rank).limit(1)
            head = (await session.execute(in_turn)).scalar_one_or_none()
            mine = (await session.execute(tag)).scalar_one_or_none()
            rank = max(head or 0, mine or 0)
            before = select(func.count()).select_from(waiting.where(JobRow.rank <= rank).limit(100_000).subquery())
            return int((await session.execute(before)).scalar_one())

    def kinds(self) -> Sequence[KindInfo]:
        """Every kind of work with its shapes, its meter and its price."""
        return [
            KindInfo(
                name=kind.name,
                summary=kind.summary,
                unit=kind.unit,
                unit_price=money.render(self.unit_price(kind)),
                metering=kind.metering,
                input_schema=_shape(kind.input),
                output_schema=_shape(kind.output),
            )
            for kind in KINDS.values()
        ]

    async def _plan(self, who: Principal, command: SubmitJob) -> Plan:
        """Check everything that can be checked before money moves."""
        kind = kind_of(command.kind)
        max_price_units = money.parse(command.max_price)
        if len(_encoder.encode(command.input)) > INPUT_BYTES_MAX:
            raise InvalidInput(
                f"The input may have {INPUT_BYTES_MAX} bytes; larger things are uploaded as artifacts first."
            )
        given = kind.read(command.input)
        value = dict(command.input)
        facts: dict[str, FileFacts] = {}
        for field, reference in kind.references(given).items():
            facts[field] = await self._facts(who, field, reference.artifact)
            if reference.digest not in (None, facts[field].digest):
                raise InvalidInput(f"The artifact of {field} has the digest {facts[field].digest}.")
            value[field] = {name: getattr(facts[field], name) for name in ("artifact", "digest")}
            value[field]["bytes"] = facts[field].size
        measure = kind.measure(given, facts, run_seconds=command.clocks.run_seconds)
        # The time of a booked GPU is paid for by its booking, which nobody but its booker can reach.
        unit_price = 0 if command.requirements.booking else self.unit_price(kind)
        money.times(unit_price, measure.units_max)  # refused here where it would not fit the ledger
        return Plan(
            kind=kind,
            value=value,
            measure=measure,
            files=tuple(
                InputFile(field=field, artifact=fact.artifact, digest=fact.digest, bytes=fact.size)
                for field, fact in facts.items()
            ),
            needs=_needs(who, kind, command.requirements, measure),
            priority=PRIORITIES[command.priority] if isinstance(command.priority, str) else command.priority,
            max_price_units=max_price_units,
            unit_price_units=unit_price,
        )

    async def _facts(self, who: Principal, field: str, artifact: str) -> FileFacts:
        try:
            row, head = await self.head_of(who, artifact, HEAD_BYTES)
        except ArtifactNotFound:
            message = "There is no such artifact."
            raise InvalidInput(message, fields=(FieldError(f"/input/{field}/artifact", message),)) from None
        return FileFacts(artifact=row.id, digest=row.digest, size=row.bytes, head=head)


def _needs(who: Principal, kind: Kind, wanted: Requirements, measure: Measure) -> Needs:
    if wanted.model and measure.model and wanted.model != measure.model:
        raise ContradictingModels
    return Needs(
        kind=kind.name,
        model=wanted.model or measure.model,
        program=measure.program,
        device=wanted.device,
        gpu_model=wanted.gpu_model,
        min_vram_mib=wanted.min_vram_mib,
        region=wanted.region,
        models=tuple(sorted(set(wanted.models))),
        cuda=wanted.cuda,
        booking=wanted.booking,
        booker=None if wanted.booking is None else who.account,
    )


def _job_of(who: Principal, command: SubmitJob, plan: Plan) -> JobValue:
    clocks, at = command.clocks, now()
    deadline_at = last_deadline(
        at,
        queue_seconds=clocks.queue_seconds,
        run_seconds=clocks.run_seconds,
        attempts_max=command.retry.attempts_max,
    )
    return JobValue(
        id=ids.new_id("job"),
        account=who.account,
        kind=plan.kind.name,
        lane=lane_of(plan.needs),
        needs=needs_text(plan.needs),
        priority=plan.priority,
        state=State.QUEUED.value,
        reason=Reason.SUBMITTED.value,
        fault=Fault.NONE.value,
        input=_encoder.encode(plan.value).decode(),
        input_digest=value_digest(plan.value),
        files=_encoder.encode(plan.files).decode() if plan.files else None,
        max_price_units=plan.max_price_units,
        unit=plan.kind.unit,
        unit_price_units=plan.unit_price_units,
        input_units=plan.measure.units,
        units_max=plan.measure.units_max,
        expects=_encoder.encode(plan.measure.expects).decode(),
        queue_seconds=clocks.queue_seconds,
        start_seconds=clocks.start_seconds,
        run_seconds=clocks.run_seconds,
        retention_seconds=clocks.retention_seconds,
        attempts_max=command.retry.attempts_max,
        retry_requester=command.retry.requester_faults,
        attempts=0,
        token=0,
        attempt=None,
        avoided="",
        due_at=at,
        expires_at=at + timedelta(seconds=clocks.queue_seconds),
        deadline_at=deadline_at,
        created_at=at,
        started_at=None,
        completed_at=None,
        kept_until=None,
        request_id=current_request_id(),
    )
