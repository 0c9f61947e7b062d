"""`POST /v1/chat/completions`: whole, or as a stream."""

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any, Protocol

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
from aitbc.modules.ai.protocols.attended import OPT, AnyRequest, begin, broken, routed, succeeded, whole
from aitbc.modules.ai.protocols.errors import error_body
from aitbc.modules.ai.protocols.event_lines import DONE, HEADERS, KEEP_ALIVE
from aitbc.modules.ai.protocols.examples import CHAT
from aitbc.modules.ai.protocols.openai_answers import ChatAnswer
from aitbc.modules.ai.protocols.openai_requests import ChatCompletion
from aitbc.modules.ai.service.attended_runs import AttendedRun, AttendedRuns
from aitbc.modules.ai.service.auto_models import AutoModels
from aitbc.modules.ai.service.text_runs import Broken, Ended

PATH = "/v1/chat/completions"


class OpenAiChat(Controller):
    """Chat completions."""

    path = "/v1"
    tags = ("openai",)

    @post("/chat/completions", operation_id="create_chat_completion", status_code=200, opt=OPT | CHAT)
    async def complete(
        self,
        attended_runs: NamedDependency[AttendedRuns],
        auto_models: NamedDependency[AutoModels],
        who: NamedDependency[Principal],
        once: NamedDependency[IdempotencyKey],
        request: AnyRequest,
        data: JSONBody[ChatCompletion],
    ) -> Response[Any]:
        """Answer messages with a model; a client that leaves ends the work."""
        data, chosen = await routed(auto_models, data)
        work = ("chat", data.work())
        run = await begin(attended_runs, who, once, request, work, shortens=bool(data.stream))
        answer = ChatAnswer(data, run.job.id, int(run.job.created_at.timestamp()))
        if data.stream:
            return Stream(
                stream_lines(run, answer, PATH), media_type="text/event-stream", headers=run.headers | chosen | HEADERS
            )
        ended = await whole(run, request)
        return Response(answer.whole(ended, output_of(ended)), headers=run.headers | chosen)


class Streamed(Protocol):
    """An answer that is told in chunks."""

    def beginning(self) -> bytes:
        """What comes before the first text."""
        ...

    def text(self, text: str) -> bytes:
        """More text."""
        ...

    def ending(self, ended: Ended, output: ChatOutput, told: int) -> Iterator[bytes]:
        """What comes after the text that was told, so many characters of it."""
        ...


async def stream_lines(run: AttendedRun, answer: Streamed, path: str) -> AsyncIterator[bytes]:
    """The stream of an answer; a failure is its last event."""
    told = 0
    yield KEEP_ALIVE  # the headers go out at once, however long it takes until somebody answers
    try:
        async with aclosing(run.text()) as telling:
            async for one in telling:
                match one:
                    case str():
                        yield (b"" if told else answer.beginning()) + answer.text(one)
                        told += len(one)
                    case None:
                        yield KEEP_ALIVE
                    case Broken():
                        raise broken(one)
                    case Ended():
                        ended = succeeded(one)
                        if not told:
                            yield answer.beginning()
                        for line in answer.ending(ended, output_of(ended), told):
                            yield line
                        yield DONE
        run.done()
    except AppError as error:
        run.done()
        yield b"data: " + error_body(path, error, current_request_id()) + b"\n\n"


def output_of(ended: Ended) -> ChatOutput:
    """What a chat answered."""
    return msgspec.convert(ended.output, ChatOutput)
