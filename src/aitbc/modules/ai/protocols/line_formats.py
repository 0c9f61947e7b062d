"""The requests of a batch as jobs, and its answers, by endpoint: what `service.batches` knows of these protocols."""

from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from aitbc.kernel.http.body import read_body
from aitbc.kernel.primitives.errors import AppError
from aitbc.modules.ai.models.kinds.chat import ChatOutput
from aitbc.modules.ai.protocols.attended import model_not_found, refusal_of
from aitbc.modules.ai.protocols.completion_requests import Completion
from aitbc.modules.ai.protocols.errors import DIALECT
from aitbc.modules.ai.protocols.openai_answers import ChatAnswer
from aitbc.modules.ai.protocols.openai_completions import CompletionAnswer
from aitbc.modules.ai.protocols.openai_embeddings import embedding_answer
from aitbc.modules.ai.protocols.openai_requests import ChatCompletion, EmbeddingRequest, refused
from aitbc.modules.ai.protocols.responses_answers import ResponseAnswer
from aitbc.modules.ai.protocols.responses_requests import ResponseRequest
from aitbc.modules.ai.service.batches.formats import FORMATS, LineWork
from aitbc.modules.ai.service.served_models import UnknownModel
from aitbc.modules.ai.service.text_runs import Ended

Asked = TypeVar("Asked", bound=Struct)


class _Lines:
    """What the formats of all endpoints share."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint

    def refusal(self, ended: Ended) -> AppError:
        """What its client is told of a job that gave nothing."""
        return refusal_of(ended)

    def error(self, error: AppError) -> tuple[int, bytes]:
        """The status and the body of an error."""
        if isinstance(error, UnknownModel):
            error = model_not_found(error)
        answer = DIALECT.answer(self._endpoint, error, None)
        return answer.status, answer.body


class ChatLines(_Lines):
    """Chat completions."""

    def read(self, body: bytes) -> LineWork:
        """The chat that is asked for. Raises `Invalid`, `ParameterRefused`."""
        return LineWork("chat", _whole(body, ChatCompletion).work())

    def answer(self, body: bytes, ended: Ended) -> dict[str, Any]:
        """The chat completion."""
        answer = ChatAnswer(read_body(body, ChatCompletion), ended.job.id, int(ended.job.created_at.timestamp()))
        return answer.whole(ended, msgspec.convert(ended.output, ChatOutput))


class CompletionLines(_Lines):
    """Completions of a text."""

    def read(self, body: bytes) -> LineWork:
        """The chat that is asked for. Raises `Invalid`, `ParameterRefused`."""
        return LineWork("chat", _whole(body, Completion).work())

    def answer(self, body: bytes, ended: Ended) -> dict[str, Any]:
        """The completion."""
        answer = CompletionAnswer(read_body(body, Completion), ended.job.id, int(ended.job.created_at.timestamp()))
        return answer.whole(ended, msgspec.convert(ended.output, ChatOutput))


class ResponseLines(_Lines):
    """Responses."""

    def read(self, body: bytes) -> LineWork:
        """The chat that is asked for. Raises `Invalid`, `ParameterRefused`."""
        asked = _whole(body, ResponseRequest)
        if asked.previous_response_id is not None:
            raise refused("previous_response_id", "A line of a batch follows no earlier answer.")
        return LineWork("chat", asked.work([]))

    def answer(self, body: bytes, ended: Ended) -> dict[str, Any]:
        """The response."""
        work = read_body(body, ResponseRequest).work([])
        return ResponseAnswer(ended.job, work).whole(ended, msgspec.convert(ended.output, ChatOutput))


class EmbeddingLines(_Lines):
    """Embeddings."""

    def read(self, body: bytes) -> LineWork:
        """The vectors that are asked for. Raises `Invalid`, `ParameterRefused`."""
        return LineWork("embed", read_body(body, EmbeddingRequest).work())

    def answer(self, body: bytes, ended: Ended) -> dict[str, Any]:
        """The embeddings."""
        return embedding_answer(read_body(body, EmbeddingRequest), ended)


def _whole(body: bytes, kind: type[Asked]) -> Asked:
    """The request of a line, which gets no stream."""
    asked: Asked = read_body(body, kind)
    if getattr(asked, "stream", None):
        raise refused("stream", "The answers of a batch are in a file.")
    return asked


FORMATS.update(
    {
        "/v1/chat/completions": ChatLines("/v1/chat/completions"),
        "/v1/completions": CompletionLines("/v1/completions"),
        "/v1/responses": ResponseLines("/v1/responses"),
        "/v1/embeddings": EmbeddingLines("/v1/embeddings"),
    }
)
