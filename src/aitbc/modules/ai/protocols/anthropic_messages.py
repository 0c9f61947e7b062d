"""`POST /v1/messages`: whole, or as a stream; and `POST /v1/messages/count_tokens`."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import msgspec
from litestar import Controller, Response, post
from litestar.di import NamedDependency
from litestar.params import JSONBody
from litestar.response import Stream

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.http.disconnect import cancel_on_disconnect, disconnect_of
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.errors import AppError
from aitbc.kernel.primitives.request_id import current_request_id
from aitbc.modules.ai.api import Job
from aitbc.modules.ai.models.kinds.chat import ChatOutput
from aitbc.modules.ai.protocols.anthropic_answers import MessageAnswer
from aitbc.modules.ai.protocols.anthropic_requests import CreateMessage, MessageRequest
from aitbc.modules.ai.protocols.attended import OPT, AnyRequest, broken, guarded, measured, submit, succeeded
from aitbc.modules.ai.protocols.errors import ANTHROPIC_PATH, error_body
from aitbc.modules.ai.protocols.event_lines import HEADERS, KEEP_ALIVE
from aitbc.modules.ai.service.quotes import Quotes
from aitbc.modules.ai.service.runs import DisconnectGuard, Runs
from aitbc.modules.ai.service.submissions import Submissions
from aitbc.modules.ai.service.text_runs import Broken, Ended, TextRuns


class AnthropicMessages(Controller):
    """Messages."""

    path = ANTHROPIC_PATH
    include_in_schema = False

    @post("/", status_code=200, opt=OPT)
    async def create(
        self,
        submissions: NamedDependency[Submissions],
        runs: NamedDependency[Runs],
        text_runs: NamedDependency[TextRuns],
        who: NamedDependency[Principal],
        once: NamedDependency[IdempotencyKey],
        request: AnyRequest,
        data: JSONBody[CreateMessage],
    ) -> Response[Any]:
        """Answer messages with a model; a client that leaves ends the work."""
        job = await submit(submissions, who, once, "chat", data.work(), shortens=bool(data.stream))
        guard = guarded(runs, who, job, request)
        answer = MessageAnswer(data, job.id)
        headers = {"x-aitbc-job": job.id, "request-id": current_request_id() or ""}
        if data.stream:
            lines = _lines(text_runs, who, job, answer, guard)
            return Stream(lines, media_type="text/event-stream", headers=headers | HEADERS)
        try:
            cancel_on_disconnect(disconnect_of(request.scope))
            ended = succeeded(await text_runs.end_of(who, job.id))
            return Response(answer.whole(ended, msgspec.convert(ended.output, ChatOutput)), headers=headers)
        finally:
            guard.disarm()

    @post("/count_tokens", status_code=200, opt={"permission": "jobs:create", "idempotency": "natural"})
    async def count_tokens(
        self, quotes: NamedDependency[Quotes], who: NamedDependency[Principal], data: JSONBody[MessageRequest]
    ) -> dict[str, Any]:
        """Say how many tokens a prompt has at most: no miner is asked, and a token is a byte at least."""
        units = await measured(quotes, who, "chat", data.chat() | {"max_tokens": 1})
        return {"input_tokens": units, "aitbc": {"tokens": "at most"}}


async def _lines(
    text_runs: TextRuns, who: Principal, job: Job, answer: MessageAnswer, guard: DisconnectGuard
) -> AsyncIterator[bytes]:
    """The events of an answer; a failure is its last one."""
    told = 0
    yield KEEP_ALIVE  # the headers go out at once, however long it takes until somebody answers
    try:
        async with aclosing(text_runs.text_of(who, job.id)) as telling:
            async for one in telling:
                match one:
                    case str():
                        yield (b"" if told else answer.beginning() + answer.text_start()) + answer.text(one)
                        told += len(one)
                    case None:
                        yield KEEP_ALIVE
                    case Broken():
                        raise broken(one)
                    case Ended():
                        ended = succeeded(one)
                        if not told:
                            yield answer.beginning()
                        for line in answer.ending(ended, msgspec.convert(ended.output, ChatOutput), told):
                            yield line
        guard.disarm()
    except AppError as error:
        guard.disarm()
        yield b"event: error\ndata: " + error_body(ANTHROPIC_PATH, error, current_request_id()) + b"\n\n"
