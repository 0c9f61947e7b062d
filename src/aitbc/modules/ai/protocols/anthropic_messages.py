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
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.errors import AppError
from aitbc.kernel.primitives.request_id import current_request_id
from aitbc.modules.ai.models.kinds.chat import ChatOutput
from aitbc.modules.ai.protocols.anthropic_answers import MessageAnswer
from aitbc.modules.ai.protocols.anthropic_requests import CreateMessage, MessageRequest
from aitbc.modules.ai.protocols.attended import OPT, AnyRequest, begin, broken, measured, routed, succeeded, whole
from aitbc.modules.ai.protocols.errors import ANTHROPIC_PATH, anthropic_headers, error_body
from aitbc.modules.ai.protocols.event_lines import HEADERS, KEEP_ALIVE
from aitbc.modules.ai.protocols.examples import MESSAGE, TOKENS
from aitbc.modules.ai.service.attended_runs import AttendedRun, AttendedRuns
from aitbc.modules.ai.service.auto_models import AutoModels
from aitbc.modules.ai.service.quotes import Quotes
from aitbc.modules.ai.service.text_runs import Broken, Ended


class AnthropicMessages(Controller):
    """Messages."""

    path = ANTHROPIC_PATH
    tags = ("anthropic",)

    @post("/", operation_id="create_message", status_code=200, opt=OPT | MESSAGE)
    async def create(
        self,
        attended_runs: NamedDependency[AttendedRuns],
        auto_models: NamedDependency[AutoModels],
        who: NamedDependency[Principal],
        once: NamedDependency[IdempotencyKey],
        request: AnyRequest,
        data: JSONBody[CreateMessage],
    ) -> Response[Any]:
        """Answer messages with a model; a client that leaves ends the work."""
        data, chosen = await routed(auto_models, data)
        work = ("chat", data.work())
        run = await begin(attended_runs, who, once, request, work, shortens=bool(data.stream))
        answer = MessageAnswer(data, run.job.id)
        headers = anthropic_headers(run.headers) | chosen | {"request-id": current_request_id() or ""}
        if data.stream:
            return Stream(_lines(run, answer), media_type="text/event-stream", headers=headers | HEADERS)
        ended = await whole(run, request)
        return Response(answer.whole(ended, msgspec.convert(ended.output, ChatOutput)), headers=headers)

    @post(
        "/count_tokens",
        operation_id="count_message_tokens",
        status_code=200,
        opt=TOKENS | {"permission": "jobs:create", "idempotency": "natural"},
    )
    async def count_tokens(
        self, quotes: NamedDependency[Quotes], who: NamedDependency[Principal], data: JSONBody[MessageRequest]
    ) -> dict[str, Any]:
        """Say how many tokens a prompt has at most: no miner is asked, and a token is a byte at least."""
        units = await measured(quotes, who, "chat", data.chat() | {"max_tokens": 1})
        return {"input_tokens": units, "aitbc": {"tokens": "at most"}}


async def _lines(run: AttendedRun, answer: MessageAnswer) -> AsyncIterator[bytes]:
    """The events of an answer; a failure is its last one."""
    told = 0
    yield KEEP_ALIVE  # the headers go out at once, however long it takes until somebody answers
    try:
        async with aclosing(run.text()) as telling:
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
        run.done()
    except AppError as error:
        run.done()
        yield b"event: error\ndata: " + error_body(ANTHROPIC_PATH, error, current_request_id()) + b"\n\n"
