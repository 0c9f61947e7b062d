"""The spans of a job's life, of one trace: its submission, each wait in the queue, each attempt, and its payment.

Their ids follow from those of the job and its attempts, so whoever ends one needs not know who began it: a job is the
parent of its waits and attempts, and an attempt of its payment. One that is written in a transaction which is tried
again may be told twice, under one id.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Protocol

from aitbc.kernel.primitives.request_id import request_id
from aitbc.kernel.primitives.trace_context import current_span, span_id_of
from aitbc.kernel.telemetry.spans import Span, is_traced, record

GOOD = ("succeeded", "released", "delivered")


class TracedJob(Protocol):
    """What spans need of a job."""

    id: str
    kind: str
    request_id: str | None
    created_at: datetime


class TracedAttempt(Protocol):
    """What spans need of an attempt."""

    id: str
    job: str
    kind: str
    token: int
    miner: str
    started_at: datetime
    ended: str | None
    ended_at: datetime | None


def trace_submission(job: TracedJob, ended_at: datetime) -> None:
    """A job was written: the span that its later ones are part of."""
    if is_traced() and job.request_id is not None:
        record(
            Span(
                name="job submit",
                request_id=job.request_id,
                began_at=job.created_at,
                ended_at=max(ended_at, job.created_at),
                id=span_id_of(job.id),
                parent=current_span.get(),
                attributes={"aitbc.job": job.id, "aitbc.kind": job.kind},
            )
        )


def trace_wait(job: TracedJob, attempt: TracedAttempt, since: datetime) -> None:
    """A miner took a job that was due since then."""
    if is_traced() and job.request_id is not None:
        record(
            Span(
                name="job queue",
                request_id=job.request_id,
                began_at=min(since, attempt.started_at),
                ended_at=attempt.started_at,
                parent=span_id_of(job.id),
                attributes=_attributes(attempt),
            )
        )


def trace_attempt(request_id: str | None, attempt: TracedAttempt) -> None:
    """An attempt has ended."""
    if is_traced() and request_id is not None and attempt.ended is not None and attempt.ended_at is not None:
        record(
            Span(
                name="job attempt",
                request_id=request_id,
                began_at=min(attempt.started_at, attempt.ended_at),
                ended_at=attempt.ended_at,
                id=span_id_of(attempt.id),
                parent=span_id_of(attempt.job),
                attributes=_attributes(attempt) | {"aitbc.outcome": attempt.ended},
                failed=attempt.ended not in GOOD,
            )
        )


def trace_payment(request_id: str | None, attempt: TracedAttempt, began_at: datetime, ended_at: datetime) -> None:
    """The ledger settled a result."""
    if is_traced() and request_id is not None:
        record(
            Span(
                name="ledger settle",
                request_id=request_id,
                began_at=began_at,
                ended_at=max(began_at, ended_at),
                parent=span_id_of(attempt.id),
                attributes=_attributes(attempt),
            )
        )


@contextmanager
def belonging_to(request: str | None, thing: str) -> Iterator[None]:
    """Have what is done in the block belong to another request, that which began this thing; under its span."""
    outer = request_id.set(request)
    span = current_span.set(None if current_span.get() is None else span_id_of(thing))
    try:
        yield
    finally:
        current_span.reset(span)
        request_id.reset(outer)


def _attributes(attempt: TracedAttempt) -> dict[str, str | int]:
    return {
        "aitbc.job": attempt.job,
        "aitbc.attempt": attempt.id,
        "aitbc.attempt_number": attempt.token,
        "aitbc.kind": attempt.kind,
        "aitbc.miner": attempt.miner,
    }
