"""Answers in the dialect of Anthropic: whole, and as events."""

from collections.abc import Iterator
from typing import Any

import msgspec

from aitbc.modules.ai.models.kinds.chat import ChatOutput
from aitbc.modules.ai.protocols.anthropic_requests import CreateMessage
from aitbc.modules.ai.protocols.attended import receipt_of
from aitbc.modules.ai.protocols.counted import Tokens, tokens_of
from aitbc.modules.ai.protocols.event_lines import event_line
from aitbc.modules.ai.service.text_runs import Ended

_REASONS = {"length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}


class MessageAnswer:
    """The answer to one request for a message."""

    def __init__(self, asked: CreateMessage, job: str) -> None:
        self._asked = asked
        self._head: dict[str, Any] = {
            "id": f"msg_{job.removeprefix('job_')}",
            "type": "message",
            "role": "assistant",
            "model": asked.model,
        }

    def whole(self, ended: Ended, output: ChatOutput) -> dict[str, Any]:
        """The answer as one object."""
        tokens = self._tokens(ended, output)
        content: list[dict[str, Any]] = []
        if output.message.content:
            content.append({"type": "text", "text": output.message.content})
        content += [
            {
                "type": "tool_use",
                "id": call.id,
                "name": call.function.name,
                "input": _arguments(call.function.arguments),
            }
            for call in output.message.tool_calls
        ]
        return self._head | {
            "content": content,
            "stop_reason": _reason(output),
            "stop_sequence": None,
            "usage": {"input_tokens": tokens.prompt, "output_tokens": tokens.answer},
            "aitbc": _receipt(ended, tokens),
        }

    def beginning(self) -> bytes:
        """The first events: the message, without what it will say."""
        # What the prompt counts is known at the end, and stands in the last event.
        usage = {"input_tokens": 0, "output_tokens": 0}
        message = self._head | {"content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
        return event_line("message_start", {"type": "message_start", "message": message})

    def text_start(self) -> bytes:
        """The text begins."""
        return _block_start(0, {"type": "text", "text": ""})

    def text(self, text: str) -> bytes:
        """More text."""
        return _block_delta(0, {"type": "text_delta", "text": text})

    def ending(self, ended: Ended, output: ChatOutput, told: int) -> Iterator[bytes]:
        """The events after the text that was told, so many characters of it."""
        if rest := output.message.content[told:]:
            yield (b"" if told else self.text_start()) + self.text(rest)
        index = 0
        if output.message.content:
            yield _block_stop(index)
            index += 1
        for call in output.message.tool_calls:
            block = {"type": "tool_use", "id": call.id, "name": call.function.name, "input": {}}
            yield _block_start(index, block)
            yield _block_delta(index, {"type": "input_json_delta", "partial_json": call.function.arguments})
            yield _block_stop(index)
            index += 1
        tokens = self._tokens(ended, output)
        yield event_line(
            "message_delta",
            {
                "type": "message_delta",
                "delta": {"stop_reason": _reason(output), "stop_sequence": None},
                "usage": {"input_tokens": tokens.prompt, "output_tokens": tokens.answer},
                "aitbc": _receipt(ended, tokens),
            },
        )
        yield event_line("message_stop", {"type": "message_stop"})

    def _tokens(self, ended: Ended, output: ChatOutput) -> Tokens:
        calls = [call.function for call in output.message.tool_calls]
        size = len(output.message.content.encode())
        size += sum(len(call.name.encode()) + len(call.arguments.encode()) for call in calls)
        return tokens_of(ended, answer_bytes=size, most=self._asked.max_tokens)


def _reason(output: ChatOutput) -> str:
    if output.message.tool_calls:
        return "tool_use"
    return _REASONS.get(output.finish_reason or "", "end_turn")


def _receipt(ended: Ended, tokens: Tokens) -> dict[str, Any]:
    return receipt_of(ended) | {"tokens": "counted by the model's server" if tokens.is_counted else "at most"}


def _arguments(text: str) -> dict[str, Any]:
    """The arguments of a call; a model may have written what is no object, which is shown as it is."""
    try:
        value = msgspec.json.decode(text or "{}")
    except (msgspec.DecodeError, RecursionError):
        return {"_raw": text}
    return value if isinstance(value, dict) else {"_raw": text}


def _block_start(index: int, block: dict[str, Any]) -> bytes:
    return event_line("content_block_start", {"type": "content_block_start", "index": index, "content_block": block})


def _block_delta(index: int, delta: dict[str, Any]) -> bytes:
    return event_line("content_block_delta", {"type": "content_block_delta", "index": index, "delta": delta})


def _block_stop(index: int) -> bytes:
    return event_line("content_block_stop", {"type": "content_block_stop", "index": index})
