"""Answers of `/v1/responses`: whole, and as events. What they say is in the job, so an earlier one is told again."""

from collections.abc import Iterator
from itertools import count
from typing import Any

import msgspec

from aitbc.modules.ai.api import Job, JobDetail
from aitbc.modules.ai.models.kinds.chat import ChatOutput
from aitbc.modules.ai.protocols.attended import receipt_of
from aitbc.modules.ai.protocols.counted import tokens_of
from aitbc.modules.ai.protocols.event_lines import event_line
from aitbc.modules.ai.service.text_runs import Ended

PREFIX = "resp_"


class ResponseAnswer:
    """The answer to one request, of which the job and its input are known."""

    def __init__(self, job: Job | JobDetail, work: dict[str, Any], previous: str | None = None) -> None:
        self._suffix = job.id.removeprefix("job_")
        self._work = work
        self._numbers = count()
        first = work["messages"][0]
        self._head: dict[str, Any] = {
            "id": PREFIX + self._suffix,
            "object": "response",
            "created_at": int(job.created_at.timestamp()),
            "model": work.get("model"),
            "error": None,
            "incomplete_details": None,
            "instructions": first["content"] if first["role"] == "system" else None,
            "previous_response_id": previous,
            "max_output_tokens": work["max_tokens"],
            "temperature": work.get("temperature"),
            "top_p": work.get("top_p"),
            "parallel_tool_calls": work.get("parallel_tool_calls", True),
            "tool_choice": _choice(work.get("tool_choice")),
            "tools": [{"type": "function", "strict": None, **tool["function"]} for tool in work.get("tools", ())],
            "metadata": {},
            "store": True,
            "truncation": "disabled",
        }

    def whole(self, ended: Ended, output: ChatOutput) -> dict[str, Any]:
        """The answer as one object."""
        is_cut = output.finish_reason == "length"
        calls = [call.function for call in output.message.tool_calls]
        size = len(output.message.content.encode())
        size += sum(len(call.name.encode()) + len(call.arguments.encode()) for call in calls)
        tokens = tokens_of(ended, answer_bytes=size, most=self._work["max_tokens"])
        usage = {
            "input_tokens": tokens.prompt,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": tokens.answer,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": tokens.prompt + tokens.answer,
        }
        return self._head | {
            "status": "incomplete" if is_cut else "completed",
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "output": self._items(output),
            "usage": usage,
            "aitbc": receipt_of(ended)
            | {"tokens": "counted by the model's server" if tokens.is_counted else "at most"},
        }

    def unfinished(self, status: str, error: dict[str, Any] | None = None) -> dict[str, Any]:
        """The answer while it is made, or that came to nothing."""
        return self._head | {"status": status, "error": error, "output": [], "usage": None}

    # As events

    def beginning(self) -> bytes:
        """The first events, before anybody works on it."""
        return b"".join(
            self._event(f"response.{kind}", {"response": self.unfinished("in_progress")})
            for kind in ("created", "in_progress")
        )

    def text_start(self) -> bytes:
        """The text begins."""
        item = {"type": "message", "id": self._item_id(0), "role": "assistant", "status": "in_progress", "content": []}
        part = {"type": "output_text", "text": "", "annotations": []}
        added = self._event("response.output_item.added", {"output_index": 0, "item": item})
        return added + self._event("response.content_part.added", self._place() | {"part": part})

    def text(self, text: str) -> bytes:
        """More text."""
        return self._event("response.output_text.delta", self._place() | {"delta": text, "logprobs": []})

    def ending(self, ended: Ended, output: ChatOutput, told: int) -> Iterator[bytes]:
        """The events after the text that was told, so many characters of it."""
        if rest := output.message.content[told:]:
            yield (b"" if told else self.text_start()) + self.text(rest)
        for index, item in enumerate(self._items(output)):
            if item["type"] == "message":
                (part,) = item["content"]
                yield self._event("response.output_text.done", self._place() | {"text": part["text"], "logprobs": []})
                yield self._event("response.content_part.done", self._place() | {"part": part})
            else:
                yield from self._call(index, item)
            yield self._event("response.output_item.done", {"output_index": index, "item": item})
        whole = self.whole(ended, output)
        yield self._event(f"response.{whole['status']}", {"response": whole})

    def _call(self, index: int, item: dict[str, Any]) -> Iterator[bytes]:
        place = {"item_id": item["id"], "output_index": index}
        begun = item | {"arguments": "", "status": "in_progress"}
        yield self._event("response.output_item.added", {"output_index": index, "item": begun})
        yield self._event("response.function_call_arguments.delta", place | {"delta": item["arguments"]})
        said = {"arguments": item["arguments"], "name": item["name"]}
        yield self._event("response.function_call_arguments.done", place | said)

    def _items(self, output: ChatOutput) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        if output.message.content or not output.message.tool_calls:
            part = {"type": "output_text", "text": output.message.content, "annotations": [], "logprobs": []}
            item = {"type": "message", "id": self._item_id(0), "role": "assistant", "status": "completed"}
            found.append(item | {"content": [part]})
        for call in output.message.tool_calls:
            found.append(
                {
                    "type": "function_call",
                    "id": self._item_id(len(found)),
                    "call_id": call.id,
                    "name": call.function.name,
                    "arguments": call.function.arguments,
                    "status": "completed",
                }
            )
        return found

    def _item_id(self, index: int) -> str:
        return f"item_{self._suffix}_{index}"

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._item_id(0), "output_index": 0, "content_index": 0}

    def _event(self, kind: str, value: dict[str, Any]) -> bytes:
        return event_line(kind, {"type": kind, "sequence_number": next(self._numbers), **value})


def input_items(suffix: str, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages of a chat as the items that this protocol has for them."""
    found: list[dict[str, Any]] = []
    for message in messages:
        if message["role"] == "tool":
            found.append(_numbered(suffix, found, "function_call_output") | _answered(message))
            continue
        if message.get("content") is not None:
            content = _content(message["role"], message["content"])
            found.append(_numbered(suffix, found, "message") | {"role": message["role"], "content": content})
        for call in message.get("tool_calls", ()):
            said = {"call_id": call["id"], **call["function"]}
            found.append(_numbered(suffix, found, "function_call") | said)
    return found


def said_by(output: ChatOutput) -> dict[str, Any]:
    """What a model said, as a message of the conversation that goes on."""
    calls = {"tool_calls": msgspec.to_builtins(output.message.tool_calls)} if output.message.tool_calls else {}
    content = {"content": output.message.content} if output.message.content or not calls else {}
    return {"role": "assistant", **content, **calls}


def _numbered(suffix: str, found: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    return {"type": kind, "id": f"item_{suffix}_in{len(found)}", "status": "completed"}


def _answered(message: dict[str, Any]) -> dict[str, Any]:
    return {"call_id": message["tool_call_id"], "output": message["content"]}


def _content(role: str, content: Any) -> list[dict[str, Any]]:
    text = "output_text" if role == "assistant" else "input_text"
    more: dict[str, Any] = {"annotations": []} if role == "assistant" else {}
    if isinstance(content, str):
        return [{"type": text, "text": content, **more}]
    return [
        {"type": text, "text": part["text"], **more}
        if part["type"] == "text"
        else {"type": "input_image", "image_url": part["image_url"]["url"], "detail": "auto"}
        for part in content
    ]


def _choice(choice: Any) -> Any:
    return {"type": "function", "name": choice["function"]["name"]} if isinstance(choice, dict) else choice or "auto"
