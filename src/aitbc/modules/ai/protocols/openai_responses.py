"""`/v1/responses`: made whole or as a stream, told again, stopped; each is a job, and its id names that job."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import msgspec
from litestar import Controller, Response, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.response import Stream

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.errors import AppError, FieldError, NotFound
from aitbc.kernel.primitives.request_id import current_request_id
from aitbc.modules.ai.api import JobDetail, JobNotFound
from aitbc.modules.ai.models.kinds.chat import ChatOutput
from aitbc.modules.ai.models.life import TERMINAL, State
from aitbc.modules.ai.protocols.attended import (
    OPT,
    AnyRequest,
    begin,
    broken,
    refusal_of,
    routed_work,
    succeeded,
    whole,
)
from aitbc.modules.ai.protocols.errors import error_body
from aitbc.modules.ai.protocols.event_lines import HEADERS, KEEP_ALIVE
from aitbc.modules.ai.protocols.examples import NEW_RESPONSE, ONE_RESPONSE, RESPONSE_DELETED, RESPONSE_ITEMS
from aitbc.modules.ai.protocols.responses_answers import PREFIX, ResponseAnswer, input_items, said_by
from aitbc.modules.ai.protocols.responses_requests import ResponseRequest
from aitbc.modules.ai.service.attended_runs import AttendedRun, AttendedRuns
from aitbc.modules.ai.service.auto_models import AutoModels
from aitbc.modules.ai.service.retention import Retention
from aitbc.modules.ai.service.stops import Stops
from aitbc.modules.ai.service.text_runs import Broken, Ended, TextRuns

PATH = "/v1/responses"
READ: dict[str, Any] = {"permission": "jobs:read"}
CHANGE: dict[str, Any] = {"permission": "jobs:create", "idempotency": "natural"}


class ResponseNotFound(NotFound):
    """There is no such response, or its retention is over."""

    code = "response_not_found"


class OpenAiResponses(Controller):
    """Responses."""

    path = PATH
    tags = ("openai",)

    @post("/", operation_id="create_response", status_code=200, opt=OPT | NEW_RESPONSE)
    async def create(
        self,
        attended_runs: NamedDependency[AttendedRuns],
        auto_models: NamedDependency[AutoModels],
        text_runs: NamedDependency[TextRuns],
        who: NamedDependency[Principal],
        once: NamedDependency[IdempotencyKey],
        request: AnyRequest,
        data: JSONBody[ResponseRequest],
    ) -> Response[Any]:
        """Answer an input with a model, after an earlier answer if wished; a client that leaves ends the work."""
        earlier = await _earlier(text_runs, who, data.previous_response_id)
        work, chosen = await routed_work(auto_models, data.work(earlier))
        run = await begin(attended_runs, who, once, request, ("chat", work), shortens=bool(data.stream))
        answer = ResponseAnswer(run.job, work, data.previous_response_id)
        if data.stream:
            return Stream(_lines(run, answer), media_type="text/event-stream", headers=run.headers | chosen | HEADERS)
        ended = await whole(run, request)
        return Response(answer.whole(ended, _output(ended)), headers=run.headers | chosen)

    @get("/{response:str}", operation_id="get_response", opt=READ | ONE_RESPONSE)
    async def get_response(
        self, text_runs: NamedDependency[TextRuns], who: NamedDependency[Principal], response: FromPath[str]
    ) -> dict[str, Any]:
        """Tell an answer again."""
        return _told(await _found(text_runs, who, response))

    @get("/{response:str}/input_items", operation_id="list_response_input", opt=READ | RESPONSE_ITEMS)
    async def list_input(
        self,
        text_runs: NamedDependency[TextRuns],
        who: NamedDependency[Principal],
        response: FromPath[str],
        limit: FromQuery[int] = 100,
        order: FromQuery[str] = "desc",
    ) -> dict[str, Any]:
        """List what an answer was asked with, all on one page."""
        del limit
        ended = await _found(text_runs, who, response)
        messages = [one for one in _input(ended.job)["messages"] if one["role"] != "system"]
        items = input_items(ended.job.id.removeprefix("job_"), messages)
        items = items if order == "asc" else items[::-1]
        ends = (
            {"first_id": items[0]["id"], "last_id": items[-1]["id"]} if items else {"first_id": None, "last_id": None}
        )
        return {"object": "list", "data": items, "has_more": False, **ends}

    @post("/{response:str}/cancel", operation_id="cancel_response", status_code=200, opt=CHANGE | ONE_RESPONSE)
    async def cancel(
        self,
        text_runs: NamedDependency[TextRuns],
        stops: NamedDependency[Stops],
        who: NamedDependency[Principal],
        response: FromPath[str],
    ) -> dict[str, Any]:
        """Stop the work on an answer: what was delivered until now is paid for."""
        ended = await _found(text_runs, who, response)
        if ended.job.state not in TERMINAL:
            await stops.stop(who, ended.job.id, IdempotencyKey(who.account))
        return _told(await _found(text_runs, who, response))

    @delete("/{response:str}", operation_id="delete_response", status_code=200, opt=CHANGE | RESPONSE_DELETED)
    async def remove(
        self,
        text_runs: NamedDependency[TextRuns],
        retention: NamedDependency[Retention],
        who: NamedDependency[Principal],
        response: FromPath[str],
    ) -> dict[str, Any]:
        """Remove the content of an answer for good; the job, its price and its receipt stay."""
        ended = await _found(text_runs, who, response)
        await retention.forget(who, ended.job.id)
        return {"id": response, "object": "response", "deleted": True}


async def _lines(run: AttendedRun, answer: ResponseAnswer) -> AsyncIterator[bytes]:
    """The events of an answer; a failure is its last one."""
    told = 0
    yield answer.beginning()
    try:
        async with aclosing(run.text()) as telling:
            async for one in telling:
                match one:
                    case str():
                        yield (b"" if told else answer.text_start()) + answer.text(one)
                        told += len(one)
                    case None:
                        yield KEEP_ALIVE
                    case Broken():
                        raise broken(one)
                    case Ended():
                        ended = succeeded(one)
                        for line in answer.ending(ended, _output(ended), told):
                            yield line
        run.done()
    except AppError as error:
        run.done()
        yield b"data: " + error_body(PATH, error, current_request_id()) + b"\n\n"


async def _earlier(text_runs: TextRuns, who: Principal, response: str | None) -> list[dict[str, Any]]:
    """The conversation up to an earlier answer; its instructions, a system message at its head, are not taken over."""
    if response is None:
        return []
    try:
        ended = await _found(text_runs, who, response)
    except ResponseNotFound as error:
        message = error.message
        raise ResponseNotFound(message, fields=(FieldError("/previous_response_id", message),)) from None
    messages = list(_input(ended.job)["messages"])
    if messages[0]["role"] == "system":
        del messages[0]
    return [*messages, said_by(_output(succeeded(ended)))]


async def _found(text_runs: TextRuns, who: Principal, response: str) -> Ended:
    try:
        ended = await text_runs.found(who, "job_" + response.removeprefix(PREFIX))
    except JobNotFound:
        raise ResponseNotFound from None
    if not response.startswith(PREFIX) or ended.job.kind != "chat" or not _input(ended.job):
        raise ResponseNotFound
    return ended


def _told(ended: Ended) -> dict[str, Any]:
    answer = ResponseAnswer(ended.job, _input(ended.job))
    match ended.job.state:
        case State.SUCCEEDED:
            return answer.whole(ended, _output(ended))
        case State.CANCELED:
            return answer.unfinished("cancelled")
        case State.FAILED | State.EXPIRED:
            refusal = refusal_of(ended)
            return answer.unfinished("failed", {"code": "server_error", "message": refusal.message})
        case State.QUEUED:
            return answer.unfinished("queued")
    return answer.unfinished("in_progress")


def _input(job: JobDetail) -> dict[str, Any]:
    value = msgspec.json.decode(job.input) if isinstance(job.input, msgspec.Raw) else job.input
    return dict(value or {})


def _output(ended: Ended) -> ChatOutput:
    return msgspec.convert(ended.output, ChatOutput)
