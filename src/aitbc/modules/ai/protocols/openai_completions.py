"""`POST /v1/completions`: what a chat model answers to a text, whole or as a stream, in the older form."""

from collections.abc import Iterator
from typing import Any

from litestar import Controller, Response, post
from litestar.di import NamedDependency
from litestar.params import JSONBody
from litestar.response import Stream

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.identity.principal import Principal
from aitbc.modules.ai.models.kinds.chat import ChatOutput, Choice
from aitbc.modules.ai.protocols.attended import OPT, AnyRequest, begin, receipt_of, routed, whole
from aitbc.modules.ai.protocols.completion_requests import Completion
from aitbc.modules.ai.protocols.counted import Tokens, tokens_of
from aitbc.modules.ai.protocols.event_lines import HEADERS, data_line
from aitbc.modules.ai.protocols.examples import COMPLETION
from aitbc.modules.ai.protocols.openai_answers import choices_of, usage_of
from aitbc.modules.ai.protocols.openai_chat import output_of, stream_lines
from aitbc.modules.ai.service.attended_runs import AttendedRuns
from aitbc.modules.ai.service.auto_models import AutoModels
from aitbc.modules.ai.service.text_runs import Ended

PATH = "/v1/completions"
_REASONS = ("stop", "length", "content_filter")


class OpenAiCompletions(Controller):
    """Completions."""

    path = "/v1"
    tags = ("openai",)

    @post("/completions", operation_id="create_completion", status_code=200, opt=OPT | COMPLETION)
    async def complete(
        self,
        attended_runs: NamedDependency[AttendedRuns],
        auto_models: NamedDependency[AutoModels],
        who: NamedDependency[Principal],
        once: NamedDependency[IdempotencyKey],
        request: AnyRequest,
        data: JSONBody[Completion],
    ) -> Response[Any]:
        """Answer a text with a model; a client that leaves ends the work."""
        data, chosen = await routed(auto_models, data)
        run = await begin(attended_runs, who, once, request, ("chat", data.work()), shortens=bool(data.stream))
        answer = CompletionAnswer(data, run.job.id, int(run.job.created_at.timestamp()))
        if data.stream:
            lines = stream_lines(run, answer, PATH)
            return Stream(lines, media_type="text/event-stream", headers=run.headers | chosen | HEADERS)
        ended = await whole(run, request)
        return Response(answer.whole(ended, output_of(ended)), headers=run.headers | chosen)


class CompletionAnswer:
    """The answer to one completion."""

    def __init__(self, asked: Completion, job: str, created: int) -> None:
        self._asked = asked
        self._before = asked.text if asked.echo else ""
        self._head = {
            "id": f"cmpl-{job.removeprefix('job_')}",
            "object": "text_completion",
            "created": created,
            "model": asked.model,
        }

    def whole(self, ended: Ended, output: ChatOutput) -> dict[str, Any]:
        """The answer as one object."""
        choices = [
            {
                "text": self._before + choice.message.content,
                "index": index,
                "logprobs": _likelihoods(choice, len(self._before)),
                "finish_reason": _reason(choice),
            }
            for index, choice in enumerate(choices_of(output))
        ]
        usage = usage_of(self._tokens(ended, output))
        return self._head | {"choices": choices, "usage": usage, "aitbc": self._receipt(ended, output)}

    def beginning(self) -> bytes:
        """The prompt, where it is to be told again."""
        return self.text(self._before) if self._before else b""

    def text(self, text: str) -> bytes:
        """A chunk with text of the first completion."""
        return self._chunk(0, text)

    def ending(self, ended: Ended, output: ChatOutput, told: int) -> Iterator[bytes]:
        """The chunks after the text that was told, so many characters of it; the last has what was used."""
        receipt = {"aitbc": self._receipt(ended, output)}
        of_last = {} if self._asked.has_usage else receipt
        first, *further = choices_of(output)
        if rest := first.message.content[told:]:
            yield self.text(rest)
        yield self._end_of(0, first, {} if further else of_last)
        for index, choice in enumerate(further, 1):
            yield self._chunk(index, self._before + choice.message.content)
            yield self._end_of(index, choice, of_last if choice is further[-1] else {})
        if self._asked.has_usage:
            usage = usage_of(self._tokens(ended, output))
            yield data_line(self._head | receipt | {"choices": [], "usage": usage})

    def _chunk(self, index: int, text: str) -> bytes:
        choice = {"text": text, "index": index, "logprobs": None, "finish_reason": None}
        return data_line(self._head | {"choices": [choice]})

    def _end_of(self, index: int, choice: Choice, more: dict[str, Any]) -> bytes:
        likely = _likelihoods(choice, len(self._before))
        ending = {"text": "", "index": index, "logprobs": likely, "finish_reason": _reason(choice)}
        return data_line(self._head | more | {"choices": [ending]})

    def _tokens(self, ended: Ended, output: ChatOutput) -> Tokens:
        size = sum(len(choice.message.content.encode()) for choice in choices_of(output))
        return tokens_of(ended, answer_bytes=size, most=int(self._asked.work()["max_tokens"]) * (self._asked.n or 1))

    def _receipt(self, ended: Ended, output: ChatOutput) -> dict[str, Any]:
        counted = "counted by the model's server" if self._tokens(ended, output).is_counted else "at most"
        return receipt_of(ended) | {"tokens": counted, "prompt": "sent as one message of a user"}


def _reason(choice: Choice) -> str:
    return choice.finish_reason if choice.finish_reason in _REASONS else "stop"


def _likelihoods(choice: Choice, offset: int) -> dict[str, Any] | None:
    """How likely the tokens were, in the older form; none where its model's server told nothing that can be read."""
    told = (choice.logprobs or {}).get("content")
    if not isinstance(told, list) or not all(
        isinstance(one, dict) and isinstance(one.get("token"), str) for one in told
    ):
        return None
    offsets = []
    for one in told:
        offsets.append(offset)
        offset += len(one["token"])
    return {
        "tokens": [one["token"] for one in told],
        "token_logprobs": [one.get("logprob") for one in told],
        "top_logprobs": [_likely(one.get("top_logprobs")) for one in told],
        "text_offset": offsets,
    }


def _likely(told: Any) -> dict[str, Any]:
    several = told if isinstance(told, list) else []
    return {str(one["token"]): one.get("logprob") for one in several if isinstance(one, dict) and "token" in one}
