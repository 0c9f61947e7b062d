"""What others see of the rows."""

from datetime import datetime
from typing import Any

import msgspec
from msgspec import Raw, Struct

from aitbc.kernel.crypto.copies import copy_id
from aitbc.kernel.primitives import money
from aitbc.modules.ai.api import Attempt, Clocks, Job, JobDetail, JobVerification
from aitbc.modules.ai.models.checks.tiers import NONE
from aitbc.modules.ai.models.devices import used_devices
from aitbc.modules.ai.models.kinds.registry import KINDS
from aitbc.modules.ai.models.life import State
from aitbc.modules.ai.models.tables import ArtifactRow, AttemptRow, JobRow
from aitbc.modules.ai.models.values import AttemptValue, JobValue

NULL = Raw(b"null")


class RateLimitView(Struct, frozen=True, kw_only=True):
    """A limit on how much an account asks at a time."""

    id: str
    """The limit. For example `rlim_01k0000000000000000000000a`."""
    account: str
    """Whom it limits. For example `acct_01k0000000000000000000000a`."""
    key: str | None
    """The API key whose requests count; null for all. For example `key_01k0000000000000000000000a`."""
    model: str | None
    """The model for which requests count; null for all. For example `llama-3-8b`."""
    requests_per_minute: int | None
    """The most requests in a minute of the clock; null for any number. For example `600`."""
    tokens_per_minute: int | None
    """The most tokens in a minute, of requests of `/v1`; null for any number. For example `100000`."""
    concurrency: int | None
    """The most requests of `/v1` at once; null for any number. For example `16`."""
    by_operator: bool
    """Whether an operator set it: then its account cannot remove it. For example `false`."""
    created_at: datetime
    """When it was set."""
    ended_at: datetime | None
    """When it was removed; null while it limits."""


class ModelAlias(Struct, frozen=True, kw_only=True):
    """A name for a model."""

    id: str
    """The alias. For example `mals_01k0000000000000000000000a`."""
    account: str
    """Who set it. For example `acct_01k0000000000000000000000a`."""
    name: str
    """The name. For example `default`."""
    model: str
    """The model that it stands for. For example `llama-3-8b`."""
    for_all: bool
    """Whether it is an alias for everybody, set by an operator. For example `false`."""
    created_at: datetime
    """When it was set."""
    ended_at: datetime | None
    """When it was removed, or set to another model; null while it stands."""


class Artifact(Struct, frozen=True, kw_only=True):
    """An uploaded file."""

    id: str
    """The artifact. For example `art_01k0000000000000000000000a`."""
    digest: str
    """SHA-256 of its content. For example `sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08`."""
    bytes: int
    """Its size in bytes. For example `48213`."""
    created_at: datetime
    """When it was uploaded."""
    expires_at: datetime
    """When it is removed, unless a job still needs it."""


def hold_of(job: str) -> str:
    """The id of a job's hold: the same UUID under another prefix."""
    return "hold_" + job.removeprefix("job_")


def holds_of(job: str, copies: int) -> tuple[str, ...]:
    """The ids of all holds of a job, one for each answer that may be paid."""
    return tuple(copy_id(hold_of(job), number) for number in range(copies))


def receipt_of(job: str) -> str:
    """The id of a job's receipt: the same UUID under another prefix."""
    return "rcpt_" + job.removeprefix("job_")


def raw(text: str | None) -> Raw:
    """Stored JSON text as it goes out: without being read again."""
    return NULL if text is None else Raw(text.encode())


def job_view(job: JobValue | JobRow) -> Job:
    """A job without its input and output."""
    return Job(**_fields(job))


def detail_view(job: JobValue, attempts: tuple[Attempt, ...]) -> JobDetail:
    """A job with everything."""
    return JobDetail(**_fields(job), input=raw(job.input), output=raw(job.output), history=attempts)


def _fields(job: JobValue | JobRow) -> dict[str, Any]:
    queued = job.state == State.QUEUED
    paid = job.state == State.SUCCEEDED and job.price_units is not None
    return {
        "id": job.id,
        "kind": job.kind,
        "state": job.state,
        "reason": job.reason,
        "fault": job.fault,
        "needs": raw(job.needs),
        "priority": job.priority,
        "max_price": money.render(job.max_price_units),
        "price": money.render(job.price_units) if paid and job.price_units is not None else None,
        "unit": job.unit,
        "unit_price": money.render(job.unit_price_units),
        "units": job.units,
        "receipt": receipt_of(job.id) if paid else None,
        "input_digest": job.input_digest,
        "output_digest": job.output_digest,
        "verification": verification_view(job),
        "attempts": job.attempts,
        "attempts_max": job.attempts_max,
        "clocks": Clocks(
            queue_seconds=job.queue_seconds,
            start_seconds=job.start_seconds,
            run_seconds=job.run_seconds,
            retention_seconds=job.retention_seconds,
        ),
        "created_at": job.created_at,
        "started_at": job.started_at,
        "completed_at": job.completed_at,
        "expires_at": job.expires_at if queued else None,
        "kept_until": job.kept_until,
    }


def verification_view(job: JobValue | JobRow) -> JobVerification | None:
    """How a job is verified, and what that found; none where it asked for nothing."""
    if job.verification == NONE:
        return None
    rule = KINDS[job.kind].equality or ""
    found = {} if job.verdict is None else msgspec.json.decode(job.verdict)
    answers = found.get("answers", [])
    return JobVerification(
        tier=job.verification,
        verdict=found.get("verdict"),
        rule=found.get("rule", rule),
        answers=len(answers),
        agreeing=sum(one["agrees"] for one in answers),
    )


def attempt_view(attempt: AttemptValue | AttemptRow) -> Attempt:
    """An attempt as its job's owner sees it."""
    return Attempt(
        id=attempt.id,
        number=attempt.token,
        miner=attempt.miner,
        state=attempt.ended or (State.RUNNING if attempt.running_at else State.LEASED),
        fault=attempt.fault,
        reason=attempt.reason,
        message=attempt.message,
        progress=attempt.progress,
        note=attempt.note,
        unit_price=None if attempt.ask_units is None else money.render(attempt.ask_units),
        offer=attempt.offer,
        devices=used_devices(attempt.devices),
        stop_asked_at=attempt.stop_asked_at,
        started_at=attempt.started_at,
        running_at=attempt.running_at,
        ended_at=attempt.ended_at,
    )


def artifact_view(row: ArtifactRow) -> Artifact:
    """An uploaded file."""
    return Artifact(id=row.id, digest=row.digest, bytes=row.bytes, created_at=row.created_at, expires_at=row.expires_at)
