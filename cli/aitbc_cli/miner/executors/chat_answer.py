"""What a chat server answers, read into the output of a job: text, calls of tools, likelihoods, further answers."""

from typing import Any

from aitbc_cli.miner.executors.chat_models import public_name
from aitbc_cli.miner.executors.fields import clean_text
from aitbc_cli.miner.executors.work import WorkFailed

REASONING = ("reasoning_content", "reasoning")
"""Where servers put what a model thinks beside its answer."""
CALLS_MAX = 128
CHOICES_MAX = 8


class ToolCalls:
    """The calls of one answer, put together out of their pieces."""

    def __init__(self) -> None:
        self._calls: dict[int, dict[str, str]] = {}
        self.length = 0
        """How many characters came."""

    def add(self, pieces: Any) -> None:
        """The `tool_calls` of a delta. A server that numbers no pieces sends each call whole."""
        for piece in pieces if isinstance(pieces, list) else ():
            if not isinstance(piece, dict):
                continue
            index = piece.get("index")
            at = index if isinstance(index, int) and not isinstance(index, bool) else len(self._calls)
            if at not in self._calls and len(self._calls) >= CALLS_MAX:
                continue
            call = self._calls.setdefault(at, {"id": "", "name": "", "arguments": ""})
            function = piece.get("function")
            function = function if isinstance(function, dict) else {}
            call["id"] = call["id"] or _text(piece.get("id"))
            call["name"] = call["name"] or _text(function.get("name"))
            more = _arguments(function.get("arguments"))
            call["arguments"] += more
            self.length += len(more)

    @property
    def whole(self) -> list[dict[str, Any]]:
        """The calls in their order, those with a name."""
        return [
            {
                "id": (call["id"] or f"call_{at}")[:128],
                "type": "function",
                "function": {"name": call["name"][:128], "arguments": clean_text(call["arguments"])},
            }
            for at, call in sorted(self._calls.items())
            if call["name"]
        ]


class StreamedChoice:
    """One answer of a stream, but for the text of the first, which is reported as it comes."""

    def __init__(self) -> None:
        self.calls = ToolCalls()
        self.texts: list[str] = []
        self.logprobs: list[Any] = []
        self.finish_reason: str | None = None
        self.is_reasoning = False
        """Whether the model wrote more than its answer: then its count of tokens is not that of the answer."""

    def take(self, choice: dict[str, Any]) -> str:
        """One choice of a chunk; returns its text."""
        delta = choice.get("delta")
        text = ""
        if isinstance(delta, dict):
            if isinstance(delta.get("content"), str):
                text = delta["content"]
            self.calls.add(delta.get("tool_calls"))
            self.is_reasoning = self.is_reasoning or any(delta.get(name) for name in REASONING)
        logprobs = choice.get("logprobs")
        if isinstance(logprobs, dict) and isinstance(logprobs.get("content"), list):
            self.logprobs += logprobs["content"]
        if isinstance(choice.get("finish_reason"), str) and choice["finish_reason"]:
            self.finish_reason = choice["finish_reason"]
        return text

    def whole(self, text: str) -> dict[str, Any]:
        """It in the shape of a choice that came whole."""
        message: dict[str, Any] = {"content": text, "tool_calls": self.calls.whole}
        if self.is_reasoning:
            message["reasoning"] = True
        found: dict[str, Any] = {"message": message, "finish_reason": self.finish_reason}
        return found | ({"logprobs": {"content": self.logprobs}} if self.logprobs else {})


def output_of(answer: dict[str, Any], asked_model: str | None, *, likely: int = 0) -> dict[str, Any]:
    """The output of a job out of a whole answer, with up to `likely` other tokens beside each that has its probability.

    Raises `WorkFailed` for an answer without a message.
    """
    choices = answer.get("choices")
    choices = [one for one in choices if isinstance(one, dict)] if isinstance(choices, list) else []
    model = answer.get("model")
    named = asked_model or (clean_text(public_name(model))[:200] if isinstance(model, str) and model else None)
    output = _choice_of(choices[0] if choices else {}, likely) | {"model": named}
    further = [_choice_of(one, likely) for one in sorted(choices[1:CHOICES_MAX], key=_index)]
    return output | ({"choices": further} if further else {})


def _choice_of(choice: dict[str, Any], likely: int) -> dict[str, Any]:
    message = choice.get("message")
    message = message if isinstance(message, dict) else {}
    content, reason = message.get("content"), choice.get("finish_reason")
    calls = ToolCalls()
    calls.add(message.get("tool_calls"))
    if content is None and (calls.whole or (message and isinstance(reason, str))):
        content = ""  # it asks for tools, or it ended without a word: all tokens went into thinking
    if not isinstance(content, str):
        raise WorkFailed("miner", "upstream_unavailable", "The chat server answered without a message.")
    said: dict[str, Any] = {"role": "assistant", "content": clean_text(content)}
    if calls.whole:
        said["tool_calls"] = calls.whole
    found = {"message": said, "finish_reason": clean_text(reason)[:40] if isinstance(reason, str) else None}
    logprobs = choice.get("logprobs")
    if isinstance(logprobs, dict) and isinstance(logprobs.get("content"), list) and logprobs["content"]:
        found["logprobs"] = {"content": [_with_likely(one, likely) for one in _clean(logprobs["content"])]}
    return found


def _with_likely(token: Any, likely: int) -> Any:
    """A token with its probability, and as many others as were asked for."""
    others = token.get("top_logprobs") if isinstance(token, dict) else None
    return {**token, "top_logprobs": others[:likely]} if isinstance(others, list) else token


def is_reasoning(answer: dict[str, Any]) -> bool:
    """Whether the model thought beside its answer."""
    choices = answer.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    return isinstance(message, dict) and any(message.get(name) for name in REASONING)


def _index(choice: dict[str, Any]) -> int:
    index = choice.get("index")
    return index if isinstance(index, int) else CHOICES_MAX


def _text(value: Any) -> str:
    return clean_text(value) if isinstance(value, str) else ""


def _arguments(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _clean(value: Any) -> Any:
    """JSON with each text as this platform takes it: tokens may be halves of characters."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {clean_text(str(name)): _clean(item) for name, item in value.items()}
    return value
