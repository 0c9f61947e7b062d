"""Requests of these protocols as jobs: submitted for the most they can cost, and ended with their client."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec
from litestar import Request
from msgspec import structs

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.http.disconnect import disconnect_of
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import money
from aitbc.kernel.primitives.errors import AppError, FieldError
from aitbc.modules.ai.api import Clocks, JobDetail
from aitbc.modules.ai.models.life import Fault, State
from aitbc.modules.ai.models.submit_job import SubmitJob
from aitbc.modules.ai.protocols.anthropic_requests import CreateMessage
from aitbc.modules.ai.protocols.completion_requests import Completion
from aitbc.modules.ai.protocols.errors import (
    AnswerBroken,
    ModelNotFound,
    NoMinerInTime,
    RequestRefused,
    RunCanceled,
    WorkFailed,
)
from aitbc.modules.ai.protocols.openai_requests import ChatCompletion
from aitbc.modules.ai.service.attended_runs import AttendedRun, AttendedRuns
from aitbc.modules.ai.service.auto_models import WORDS, AutoModels
from aitbc.modules.ai.service.quotes import Quotes
from aitbc.modules.ai.service.served_models import UnknownModel
from aitbc.modules.ai.service.text_runs import Broken, Ended

AnyRequest = Request[Any, Any, Any]
CLOCKS = Clocks(queue_seconds=300, run_seconds=900)
"""A client that stays waits this long for a miner, and an answer may take this long."""
Asked = TypeVar("Asked", ChatCompletion, Completion, CreateMessage)
OPT: dict[str, Any] = {"permission": "jobs:create", "lasts": True}
_UNPRICED = money.render(money.LARGEST)
"""The offer before the job is quoted; what is held is the most that it can cost."""


async def routed(auto_models: AutoModels, asked: Asked) -> tuple[Asked, dict[str, str]]:
    """A request with the model that was chosen where it left that to us, and a header that says so.

    Raises `ModelNotFound`.
    """
    if asked.model not in WORDS:
        return asked, {}
    work, chosen = await routed_work(auto_models, asked.work())
    return structs.replace(asked, model=work["model"]), chosen


async def routed_work(auto_models: AutoModels, work: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The input of a chat with the model that was chosen where it left that to us, and a header that says so.

    Raises `ModelNotFound`.
    """
    if (word := work.get("model")) not in WORDS:
        return work, {}
    with _model_asked_for():
        choice = await auto_models.choose(word, work)
    return work | {"model": choice.taken.name}, {"x-aitbc-model": choice.header}


async def begin(
    attended_runs: AttendedRuns,
    who: Principal,
    once: IdempotencyKey,
    request: AnyRequest,
    work: tuple[str, dict[str, Any]],
    *,
    shortens: bool = False,
) -> AttendedRun:
    """Begin a run of a kind with an input. Raises `ModelNotFound` beside what `AttendedRuns.begin` raises."""
    with _model_asked_for():
        return await attended_runs.begin(who, _command(*work), once, disconnect_of(request.scope), shortens=shortens)


async def whole(run: AttendedRun, request: AnyRequest) -> Ended:
    """How a run ended whose client waits for all of it. Raises what its client is to be told otherwise."""
    return succeeded(await run.end(disconnect_of(request.scope)))


async def measured(quotes: Quotes, who: Principal, kind: str, work: dict[str, Any]) -> int:
    """How many units the input alone has. Raises as `submit`, and moves nothing."""
    with _model_asked_for():
        return (await quotes.quote(who, _command(kind, work))).units


def _command(kind: str, work: dict[str, Any]) -> SubmitJob:
    return SubmitJob(kind=kind, input=work, max_price=_UNPRICED, clocks=CLOCKS)


@contextmanager
def _model_asked_for() -> Iterator[None]:
    try:
        yield
    except UnknownModel as error:
        raise model_not_found(error) from None


def model_not_found(error: UnknownModel) -> ModelNotFound:
    """The refusal of a model, as these protocols have it."""
    return ModelNotFound(error.message, fields=(FieldError("/model", error.message),))


def succeeded(ended: Ended) -> Ended:
    """It itself, if it succeeded and its output is still there. Raises what its client is to be told otherwise."""
    job = ended.job
    if job.state == State.SUCCEEDED and ended.output is not None:
        return ended
    raise refusal_of(ended)


def refusal_of(ended: Ended) -> AppError:
    """Why a job gave nothing."""
    job = ended.job
    last = job.history[-1].message if job.history else ""
    if job.state == State.EXPIRED:
        return NoMinerInTime(f"No miner took this within {job.clocks.queue_seconds} seconds; nothing was charged.")
    if job.state == State.CANCELED:
        return RunCanceled()
    if job.state == State.FAILED and job.fault == Fault.REQUESTER:
        return RequestRefused(last or None)
    return WorkFailed(f"No miner could finish this; nothing was charged. {last}".strip(), retry_after=2)


def broken(end: Broken) -> AppError:
    """What a client is told whose answer ended in the middle."""
    return AnswerBroken(f"The miner was lost in the middle of its answer ({end.reason}).", job=end.job)


def _model_of(job: JobDetail) -> str | None:
    """The model that a job asked for, whatever its client called it."""
    needs = msgspec.json.decode(job.needs) if isinstance(job.needs, msgspec.Raw) else job.needs
    return needs.get("model") if isinstance(needs, dict) else None


def receipt_of(ended: Ended) -> dict[str, Any]:
    """What these protocols have no words for, under one member `aitbc`."""
    job = ended.job
    return {
        "job": job.id,
        "model": _model_of(job),
        "price": job.price,
        "units": job.units,
        "unit": job.unit,
        "unit_price": job.unit_price,
        "receipt": job.receipt,
        "miner": job.history[-1].miner if job.history else None,
        "attempts": len(job.history),
    }
