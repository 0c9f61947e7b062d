"""Submitting what a legacy client describes."""

from collections.abc import Mapping
from typing import Any

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.legacy.amounts import decimal_text
from aitbc.kernel.legacy.errors import converted
from aitbc.modules.ai.api import Clocks, Job
from aitbc.modules.ai.legacy.shapes import Constraints, NewJob
from aitbc.modules.ai.legacy.tasks import kind_and_input
from aitbc.modules.ai.models.submit_job import Requirements, SubmitJob
from aitbc.modules.ai.service import AiService

PRIORITY_MAX = 9
ANY_PRICE = "1"
"""What stands in a command until it is quoted."""
ANY_GPU = "any"
MIB_PER_GIB = 1024


async def submit(ai: AiService, who: Principal, data: NewJob, once: IdempotencyKey) -> Job:
    """Submit the job; without a price it offers what it can cost at most.

    Raises as `Submissions.submit`, and `UnknownTask`.
    """
    described: Mapping[str, Any] = data.payload if data.payload is not None else data.task_data or {}
    task = data.task_type or described.get("task_type") or described.get("type")
    kind, found = kind_and_input(task if isinstance(task, str) else None, described)
    offered = [amount for amount in (data.payment_amount, data.constraints.max_price) if amount]
    command = SubmitJob(
        kind=kind,
        input=found,
        max_price=decimal_text(min(offered)) if offered else ANY_PRICE,
        requirements=_requirements(data.constraints),
        priority=min(data.priority, PRIORITY_MAX) if data.priority else "normal",
        clocks=Clocks(queue_seconds=data.ttl_seconds),
    )
    if offered:
        return await ai.submissions.submit(who, command, once)
    return await ai.submissions.submit_quoted(who, command, once)


def _requirements(wanted: Constraints) -> Requirements:
    """What a miner must have: with `any` some GPU, with CUDA one too. Raises `Invalid` for what is no version."""
    models = wanted.models or []
    found = {
        "device": "gpu" if wanted.gpu is not None or wanted.min_vram_gb or wanted.cuda is not None else None,
        "gpu_model": None if wanted.gpu is None or wanted.gpu.lower() == ANY_GPU else wanted.gpu,
        "min_vram_mib": (wanted.min_vram_gb or 0) * MIB_PER_GIB,
        "region": wanted.region,
        "model": models[0] if len(models) == 1 else None,
        "models": models if len(models) > 1 else [],
        "cuda": None if wanted.cuda is None else wanted.cuda.lower().removeprefix("cuda").strip(),
    }
    return converted(found, Requirements, "/constraints")
