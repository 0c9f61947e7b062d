"""What both older doors do alike with jobs."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import structs

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.errors import FieldError, Invalid
from aitbc.modules.ai.api import Clocks, Job, JobDetail, JobNotFound
from aitbc.modules.ai.legacy.shapes import OPEN, OURS, Constraints, NewJob
from aitbc.modules.ai.legacy.tasks import kind_and_input
from aitbc.modules.ai.models.submit_job import Requirements, SubmitJob
from aitbc.modules.ai.service import AiService

PRIORITY_MAX = 9
ANY_PRICE = "1"
ANY_GPU = "any"
PAGE = 500
MIB_PER_GIB = 1024
TIMES = "Expected a time, for instance 2030-01-31T12:00:00Z"


async def submit(ai: AiService, who: Principal, data: NewJob, once: IdempotencyKey) -> Job:
    """Submit what an older client describes; without a price, for what the quote says it can cost at most."""
    described: Mapping[str, Any] = data.payload if data.payload is not None else data.task_data or {}
    task = data.task_type or described.get("task_type") or described.get("type")
    kind, found = kind_and_input(task if isinstance(task, str) else None, described)
    offered = [one for one in (data.payment_amount, data.constraints.max_price) if one]
    command = SubmitJob(
        kind=kind,
        input=found,
        max_price=_amount(min(offered)) if offered else ANY_PRICE,
        requirements=_requirements(data.constraints),
        priority=min(data.priority, PRIORITY_MAX) if data.priority else "normal",
        clocks=Clocks(queue_seconds=data.ttl_seconds),
    )
    if not offered:
        command = structs.replace(command, max_price=(await ai.quotes.quote(who, command)).price_max)
    return await ai.submissions.submit(who, command, once)


def _requirements(told: Constraints) -> Requirements:
    """What a miner must have: with `any` some GPU, with CUDA one too. Raises `Invalid` for what is no version."""
    models = told.models or []
    found = {
        "device": "gpu" if told.gpu is not None or told.min_vram_gb or told.cuda is not None else None,
        "gpu_model": None if told.gpu is None or told.gpu.lower() == ANY_GPU else told.gpu,
        "min_vram_mib": (told.min_vram_gb or 0) * MIB_PER_GIB,
        "region": told.region,
        "model": models[0] if len(models) == 1 else None,
        "models": models if len(models) > 1 else [],
        "cuda": None if told.cuda is None else told.cuda.lower().removeprefix("cuda").strip(),
    }
    try:
        return msgspec.convert(found, Requirements)
    except msgspec.ValidationError as error:
        raise Invalid(fields=(FieldError("/constraints", str(error)[:200]),)) from None


def _amount(told: float) -> str:
    """A number of JSON as the decimal that was written."""
    return format(Decimal(repr(told)), "f")


async def listed(
    ai: AiService,
    who: Principal,
    *,
    limit: int,
    state: str | None = None,
    kind: str | None = None,
    since: str | None = None,
    until: str | None = None,
    offset: int = 0,
) -> list[Job]:
    """The caller's jobs from the newest on, an operator's of everybody, of one state, kind and stretch of time."""
    states: tuple[str | None, ...] = (None,)
    if state is not None:
        if state.lower() not in OURS:
            raise Invalid(fields=(FieldError("?state", f"Expected one of {', '.join(OURS)}"),))
        states = OURS[state.lower()]
    first, last = _time(since, "from_time"), _time(until, "to_time")
    found: list[Job] = []
    for one in states:
        found += await _read(ai, who, state=one, kind=kind, first=first, last=last, count=offset + limit)
    found.sort(key=lambda job: job.id, reverse=True)
    return found[offset : offset + limit]


async def _read(
    ai: AiService,
    who: Principal,
    *,
    state: str | None,
    kind: str | None,
    first: datetime | None,
    last: datetime | None,
    count: int,
) -> list[Job]:
    found: list[Job] = []
    after = None
    while len(found) < count:
        page = await ai.jobs.page(who, state=state, kind=kind, after=after, limit=PAGE)
        found += [
            job
            for job in page
            if (last is None or job.created_at <= last) and (first is None or job.created_at >= first)
        ]
        if len(page) < PAGE or (first is not None and page[-1].created_at < first):
            break
        after = page[-1].id
    return found[:count]


def _time(text: str | None, name: str) -> datetime | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise Invalid(fields=(FieldError(f"?{name}", TIMES),)) from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)  # older clients name no zone


async def job_of_payment(ai: AiService, who: Principal, payment: str) -> JobDetail:
    """The job that a payment is for. Raises `JobNotFound`."""
    if not ids.is_id("hold", payment):
        raise JobNotFound
    return await ai.jobs.get(who, ids.encode("job", ids.decode("hold", payment)))


async def cancel(ai: AiService, who: Principal, job: str, once: IdempotencyKey, refusal: type[Exception]) -> Job:
    """Cancel a job that has not ended. Raises `refusal` for one that has."""
    found = await ai.jobs.get(who, job)
    if found.state not in OPEN:
        raise refusal
    return await ai.stops.cancel(who, job, once)
