"""Answers in the dialect of OpenAI: whole, and in chunks."""

from collections.abc import Iterator
from typing import Any

from aitbc.kernel.http.event_data import one_line
from aitbc.modules.ai.models.kinds.chat import ChatOutput, Choice
from aitbc.modules.ai.protocols.attended import receipt_of
from aitbc.modules.ai.protocols.counted import Tokens, tokens_of
from aitbc.modules.ai.protocols.event_lines import data_line, encoder
from aitbc.modules.ai.protocols.openai_requests import ChatCompletion
from aitbc.modules.ai.service.text_runs import Ended

_REASONS = frozenset({"stop", "length", "tool_calls", "content_filter"})


class ChatAnswer:
    """The answer to one chat completion."""

    def __init__(self, asked: ChatCompletion, job: str, created: int) -> None:
        self._asked = asked
        self._head = {"id": f"chatcmpl-{job.removeprefix('job_')}", "created": created, "model": asked.model}
        chunk = self._head | {"object": "chat.completion.chunk"}
        self._chunk_head = chunk
        before = encoder.encode(chunk)[:-1] + b',"choices":[{"index":0,"delta":{"content":'
        self._before_text = b"data: " + before
        self._after_text = b'},"logprobs":null,"finish_reason":null}]}\n\n'

    def whole(self, ended: Ended, output: ChatOutput) -> dict[str, Any]:
        """The answer as one object."""
        choices = [_whole_choice(index, choice) for index, choice in enumerate(choices_of(output))]
        return self._head | {
            "object": "chat.completion",
            "choices": choices,
            "usage": usage_of(self._tokens(ended, output)),
            "system_fingerprint": None,
            "aitbc": self._receipt(ended, output),
        }

    def beginning(self) -> bytes:
        """The first chunk: who speaks."""
        return self._chunk(0, {"role": "assistant", "content": ""})

    def text(self, text: str) -> bytes:
        """A chunk with text of the first answer."""
        return self._before_text + one_line(encoder.encode(text)) + self._after_text

    def ending(self, ended: Ended, output: ChatOutput, told: int) -> Iterator[bytes]:
        """The chunks after the text that was told, so many characters of it; the last has what was used."""
        first, *further = choices_of(output)
        if rest := first.message.content[told:]:
            yield self.text(rest)
        receipt = {"aitbc": self._receipt(ended, output)}
        # A client that asked for no usage expects a choice in every chunk, so the last of these carries the receipt.
        of_last = {} if self._asked.has_usage else receipt
        yield from self._end_of(0, first, {} if further else of_last)
        for index, choice in enumerate(further, 1):
            yield self._chunk(index, {"role": "assistant", "content": choice.message.content})
            yield from self._end_of(index, choice, of_last if choice is further[-1] else {})
        if self._asked.has_usage:
            usage = usage_of(self._tokens(ended, output))
            yield data_line(self._chunk_head | receipt | {"choices": [], "usage": usage})

    def _end_of(self, index: int, choice: Choice, more: dict[str, Any]) -> Iterator[bytes]:
        for number, call in enumerate(choice.message.tool_calls):
            function = {"name": call.function.name, "arguments": call.function.arguments}
            said = {"index": number, "id": call.id, "type": "function", "function": function}
            yield self._chunk(index, {"tool_calls": [said]})
        ending = {"index": index, "delta": {}, "logprobs": choice.logprobs, "finish_reason": _reason(choice)}
        yield data_line(self._chunk_head | more | {"choices": [ending]})

    def _chunk(self, index: int, delta: dict[str, Any]) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
        return data_line(self._chunk_head | {"choices": [choice]})

    def _tokens(self, ended: Ended, output: ChatOutput) -> Tokens:
        size = sum(len(choice.message.content.encode()) for choice in choices_of(output))
        calls = [call.function for choice in choices_of(output) for call in choice.message.tool_calls]
        size += sum(len(call.name.encode()) + len(call.arguments.encode()) for call in calls)
        most = int(self._asked.work()["max_tokens"]) * (self._asked.n or 1)
        return tokens_of(ended, answer_bytes=size, most=most)

    def _receipt(self, ended: Ended, output: ChatOutput) -> dict[str, Any]:
        counted = self._tokens(ended, output).is_counted
        return receipt_of(ended) | {"tokens": "counted by the model's server" if counted else "at most"}


def choices_of(output: ChatOutput) -> list[Choice]:
    """All answers of an output."""
    return [Choice(output.message, output.finish_reason, output.logprobs), *output.choices]


def _whole_choice(index: int, choice: Choice) -> dict[str, Any]:
    said = choice.message
    message: dict[str, Any] = {"role": "assistant", "content": said.content, "refusal": None}
    if said.tool_calls:
        message |= {"tool_calls": said.tool_calls, "content": said.content or None}
    return {"index": index, "message": message, "logprobs": choice.logprobs, "finish_reason": _reason(choice)}


def _reason(choice: Choice) -> str:
    """Why an answer ended, in the words that clients know."""
    reason = choice.finish_reason if choice.finish_reason in _REASONS else "stop"
    return "tool_calls" if choice.message.tool_calls and reason == "stop" else str(reason)


def usage_of(tokens: Tokens) -> dict[str, int]:
    """What was used, as OpenAI names it."""
    return {
        "prompt_tokens": tokens.prompt,
        "completion_tokens": tokens.answer,
        "total_tokens": tokens.prompt + tokens.answer,
    }
