"""Plans of jobs: a command checked by its kind, measured and priced, before money or the queue is touched."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec
from msgspec import Struct

from aitbc.kernel.crypto.signing import value_digest
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids, money
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import FieldError, Invalid
from aitbc.kernel.primitives.request_id import current_request_id
from aitbc.modules.ai.api import ArtifactNotFound, InputFile
from aitbc.modules.ai.models.asks import covers
from aitbc.modules.ai.models.checks.tiers import NONE, copies_of, is_quorum, require_offered
from aitbc.modules.ai.models.fleet import FleetMiner
from aitbc.modules.ai.models.kinds.kind import INPUT_BYTES_MAX, FileFacts, InvalidInput, Kind, Measure
from aitbc.modules.ai.models.kinds.registry import kind_of, price_of
from aitbc.modules.ai.models.life import Fault, Reason, State, hold_until, last_deadline
from aitbc.modules.ai.models.preference import Candidate, Prefer, first_free, kept_for
from aitbc.modules.ai.models.queue import PRIORITIES, Needs, lane_of, needs_text
from aitbc.modules.ai.models.submit_job import Requirements, SubmitJob
from aitbc.modules.ai.models.values import JobValue
from aitbc.modules.ai.service.artifacts import Artifacts
from aitbc.modules.ai.service.fitting_offers import FittingOffers
from aitbc.modules.ai.service.prices import Prices, Ranked
from aitbc.modules.ai.service.served_models import ServedModels

HEAD_BYTES = 256 * 1024
"""How much of a file is read to find a picture's size."""
CONTEXT_MIB = 630
"""What the context of a CUDA process takes of a GPU's memory, as measured: a share holds it too."""
_encoder = msgspec.json.Encoder(order="deterministic")


class ContradictingModels(Invalid):
    """The input and the requirements name different models."""

    code = "contradicting_models"


class DevicesNotLeased(Invalid):
    """The job asks for GPUs in a way in which none can be leased to it; the message says which."""

    code = "devices_not_leased"


class Plan(Struct, frozen=True):
    """A submission that passed every check."""

    account: str
    """Who would pay."""
    kind: Kind
    value: dict[str, Any]
    measure: Measure
    files: tuple[InputFile, ...]
    needs: Needs
    priority: int
    max_price_units: int
    unit_price_units: int
    retention_seconds: int
    """How long what it is asked and answered is kept after its end."""
    verification: str = NONE
    """The tier by which it is verified."""

    @property
    def copies(self) -> int:
        """How many answers are paid at most."""
        return copies_of(self.verification)

    @property
    def share_units(self) -> int:
        """The most that one answer may cost."""
        return self.max_price_units // self.copies

    @property
    def price_max_units(self) -> int:
        """The most that the job can cost, all answers together."""
        return self.copies * price_of(self.measure.units_max, self.unit_price_units, money.LARGEST)


class Planner:
    """Makes plans."""

    def __init__(self, artifacts: Artifacts, models: ServedModels, offers: FittingOffers, prices: Prices) -> None:
        self._artifacts = artifacts
        self._offers = offers
        self._models = models
        self.prices = prices

    def require_open(self) -> None:
        """Raises `ModulePaused` while new work is not taken."""
        self.prices.require_open()

    async def is_covered(self, plan: Plan) -> bool:
        """Whether the limit covers the most that the job can cost, at the platform's price or at an offer that fits.

        Where a price was agreed on, at that one.
        """
        if plan.needs.agreed is not None:  # it is worked at no other price
            return plan.share_units >= price_of(plan.measure.units_max, plan.needs.agreed.units, money.LARGEST)
        if plan.max_price_units >= plan.price_max_units:
            return True
        most, _ = await self._offers.least_most(plan.needs, plan.measure.units_max)
        return most is not None and plan.share_units >= most

    async def limit_units(self, plan: Plan) -> int:
        """A limit that the platform's price fits, or where every miner that fits asks more the cheapest of them."""
        most, is_at_list = await self._offers.least_most(plan.needs, plan.measure.units_max)
        return plan.price_max_units if is_at_list or most is None else max(most * plan.copies, plan.price_max_units)

    async def candidates(self, plan: Plan, fleet: Sequence[FleetMiner]) -> list[Candidate]:
        """The miners of the fleet that are online and fit, with what a unit costs there and how fast they were."""
        return await self._offers.candidates(plan.account, plan.needs, plan.unit_price_units, fleet)

    async def kept_for(self, plan: Plan, prefer: Prefer) -> tuple[str, ...]:
        """The miners for which a new job is kept at first."""
        if plan.needs.booking is not None:
            return ()
        found = await self.candidates(plan, await self._offers.fleet())
        return affordable(plan, prefer, await self.ranked(plan, prefer, found))

    async def ranked(self, plan: Plan, prefer: Prefer | None, candidates: Sequence[Candidate]) -> Ranked:
        """The candidates of a plan, the best first."""
        return await self.prices.ranked(plan.account, plan.needs, plan.measure, candidates, prefer)

    async def plan(self, who: Principal, command: SubmitJob, *, is_off_peak: bool = False) -> Plan:
        """Check everything that can be checked before money moves; `is_off_peak` is priced as what can wait.

        Raises `UnknownKind`, `InvalidInput`, `ContradictingModels`, `DevicesNotLeased`, `UnknownModel`,
        `VerificationNotOffered`, `InvalidAmount`.
        """
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
            told = {name: getattr(facts[field], name) for name in ("artifact", "digest")} | {"bytes": facts[field].size}
            place, _, name = field.rpartition("/")
            value |= {place: value[place] | {name: told}} if place else {field: told}
        measure = kind.measure(given, facts, run_seconds=command.clocks.run_seconds)
        needs = self._models.real(who.account, _needs(who, kind, command.requirements, measure))
        if needs.model is not None and hasattr(given, "model"):
            value["model"] = needs.model  # so that its miner knows, wherever it was named
        await self._models.require(needs)
        require_offered(command.verification, kind, given, needs, self._models.tolerances)
        # The time of a booked GPU is paid for by its booking, which nobody but its booker can reach.
        unit_price = 0 if command.requirements.booking else await self.prices.of(who, kind, needs, measure)
        unit_price = self.prices.off_peak(unit_price) if is_off_peak else unit_price
        money.times(
            unit_price, measure.units_max * copies_of(command.verification)
        )  # refused here where it would not fit the ledger
        return Plan(
            account=who.account,
            kind=kind,
            value=value,
            measure=measure,
            files=tuple(
                InputFile(field=field, artifact=fact.artifact, digest=fact.digest, bytes=fact.size)
                for field, fact in facts.items()
            ),
            needs=needs,
            priority=PRIORITIES[command.priority] if isinstance(command.priority, str) else command.priority,
            max_price_units=max_price_units,
            unit_price_units=unit_price,
            retention_seconds=self.prices.kept_seconds(command.clocks.retention_seconds),
            verification=command.verification,
        )

    async def require_allowed(self, who: Principal, plan: Plan) -> None:
        """Raises `SubmissionRefused` where a plugin refuses the job."""
        await self.prices.require_allowed(
            who, plan.needs, plan.measure, limit_units=plan.max_price_units, priority=plan.priority
        )

    async def _facts(self, who: Principal, field: str, artifact: str) -> FileFacts:
        try:
            row, head = await self._artifacts.head_of(who, artifact, HEAD_BYTES)
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
        gpus=_gpus(kind, wanted),
        vram_mib=wanted.vram_mib,
        min_compute_capability=wanted.min_compute_capability,
        verified=wanted.verified,
        context=measure.context,
        pictures=measure.pictures,
        booking=wanted.booking,
        booker=None if wanted.booking is None else who.account,
    )


def _gpus(kind: Kind, wanted: Requirements) -> int:
    """How many GPUs a job gets for itself: what it asks for, or one where it asks for a GPU at all.

    Where it goes to a GPU that is booked and does not say how many, its miner chooses. Raises `DevicesNotLeased`.
    """
    if wanted.gpus or wanted.vram_mib:
        if not kind.takes_devices:
            raise DevicesNotLeased(f"Work of kind {kind.name} runs on what its miner serves it with; ask for no gpus.")
        if wanted.device == "cpu":
            raise DevicesNotLeased("What is to run on the CPU gets no GPU.")
        if wanted.vram_mib and wanted.gpus > 1:
            raise DevicesNotLeased("A share is of one GPU: ask for vram_mib or for several gpus.")
        if 0 < wanted.vram_mib < CONTEXT_MIB:
            raise DevicesNotLeased(f"A process needs about {CONTEXT_MIB} MiB of a GPU before it does anything.")
        return wanted.gpus or 1
    asks = wanted.device == "gpu" or wanted.gpu_model or wanted.min_vram_mib or wanted.min_compute_capability
    asks = asks or wanted.verified
    return int(bool(asks) and kind.takes_devices and wanted.booking is None)


def affordable(plan: Plan, prefer: Prefer, ranked: Ranked) -> tuple[str, ...]:
    """For which of these miners a job is kept: the best of those that may take it at its limit."""
    able = [one for one in ranked.candidates if _may_take(plan, one)]
    return first_free(able) if ranked.by_plugin else kept_for(able, prefer)


def _may_take(plan: Plan, one: Candidate) -> bool:
    if one.ask is None:
        return plan.max_price_units >= plan.price_max_units
    return covers(plan.share_units, plan.measure.units_max, one.ask)


def job_of(who: Principal, command: SubmitJob, plan: Plan) -> JobValue:
    """A planned job, as it is written."""
    clocks, at = command.clocks, now()
    deadline_at = last_deadline(
        at,
        queue_seconds=clocks.queue_seconds,
        run_seconds=clocks.run_seconds,
        attempts_max=command.retry.attempts_max * plan.copies,
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
        max_price_units=plan.share_units * plan.copies,
        unit=plan.kind.unit,
        unit_price_units=plan.unit_price_units,
        input_units=plan.measure.units,
        units_max=plan.measure.units_max,
        expects=_encoder.encode(plan.measure.expects).decode(),
        queue_seconds=clocks.queue_seconds,
        start_seconds=clocks.start_seconds,
        run_seconds=clocks.run_seconds,
        retention_seconds=plan.retention_seconds,
        attempts_max=command.retry.attempts_max,
        retry_requester=command.retry.requester_faults,
        attempts=0,
        token=0,
        attempt=None,
        avoided="",
        # Who pays has no vote: two of its miners could make an honest third one the odd one out.
        barred=who.account if is_quorum(plan.verification) else "",
        due_at=at,
        expires_at=at + timedelta(seconds=clocks.queue_seconds),
        deadline_at=deadline_at,
        created_at=at,
        started_at=None,
        completed_at=None,
        kept_until=None,
        hold_expires_at=hold_until(deadline_at, clocks.run_seconds),
        request_id=current_request_id(),
        verification=plan.verification,
        copies=plan.copies,
    )
