"""Chat completions: messages in, an answer out."""

import base64
import binascii
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from aitbc.kernel.primitives.errors import FieldError
from aitbc.modules.ai.models.kinds.chat_input import (
    BYTES_PER_TOKEN_MAX,
    MESSAGES_MAX,
    PROMPT_BYTES_MAX,
    SEED_MAX,
    TOKENS_MAX,
    ChatInput,
    ImagePart,
    Message,
    TextPart,
    ToolCall,
)
from aitbc.modules.ai.models.kinds.kind import FileFacts, InvalidInput, Kind, Measure, OutputRefused
from aitbc.modules.ai.models.kinds.picture import size_of

__all__ = ["MESSAGES_MAX", "PROMPT_BYTES_MAX", "SEED_MAX", "TOKENS_MAX", "Chat", "ChatInput", "ChatOutput"]

CONTEXT_MIN = 1024
"""Every model takes so many tokens."""
PICTURE_UNITS_MIN = 1024
PIXELS_PER_UNIT = 196
"""Models cut a picture into squares of 28 pixels; each is a token and counts as four bytes of text."""
_DATA_URLS = {"data:image/png;base64": "PNG", "data:image/jpeg;base64": "JPEG"}


class Said(Struct, frozen=True):
    """The answer."""

    role: Literal["assistant"]
    """Who speaks."""
    content: str
    """The answer; empty where the model only asks for tools. For example `Because blue light is scattered most.`."""
    tool_calls: list[ToolCall] = []
    """The tools that it asks for."""


class Choice(Struct, frozen=True):
    """A further answer, where several were asked for."""

    message: Said
    """The answer."""
    finish_reason: str | None = None
    """Why it ended, as the model's server says. For example `stop`."""
    logprobs: dict[str, Any] | None = None
    """How likely its tokens were, where that was asked for."""


class Evaluated(Struct, frozen=True):
    """A token of another miner's answer, as a trusted one evaluates it."""

    start: int
    """At which byte of the answer in UTF-8 it begins. For example `0`."""
    likelihood: Annotated[float, Meta(le=0.01)] | None = None
    """The natural logarithm of how likely it is; null where this model would not cut the text there. For example
    `-0.18`."""
    most: Annotated[float, Meta(le=0.01)] | None = None
    """The same of the likeliest token in its place. For example `-0.18`."""


class ChatOutput(Struct, frozen=True):
    """The answer of the model, and why it ended."""

    message: Said
    """The answer."""
    model: str | None = None
    """The model that answered, as its server names it. For example `llama-3-8b`."""
    finish_reason: str | None = None
    """Why it ended, as the model's server says. For example `stop`."""
    logprobs: dict[str, Any] | None = None
    """How likely its tokens were, where that was asked for."""
    choices: list[Choice] = []
    """The answers after the first, where several were asked for."""
    evaluation: Annotated[list[Evaluated], Meta(max_length=64)] | None = None
    """Of a trusted miner that checked an answer: what it found. Then the message is the one that it checked, or its own
    where that one lies outside the tolerance."""


class Chat(Kind):
    """Metered by the bytes of prompt and answer, the answer bounded by the tokens that were allowed."""

    name = "chat"
    summary = "Answers messages with a language model."
    unit = "byte"
    metering = (
        "One unit for each byte of the messages' contents, of the tools and of the answers in UTF-8, and one for each "
        f"{PIXELS_PER_UNIT} pixels of a picture, at least {PICTURE_UNITS_MIN}, counted by the platform; an answer counts "
        f"at most {BYTES_PER_TOKEN_MAX} bytes for each token of max_tokens."
    )
    unit_price_units = 20
    input = ChatInput
    output = ChatOutput
    fastest = 2.0 * 1024 * 1024
    streams = True
    is_evaluated = True
    equality = (
        "A trusted miner finds the tokens of the answer as likely as its miner said, by the mean of the differences, within "
        "the tolerance that was measured for the model."
    )
    miner_may_blame = True  # what a model's server refuses it says in its answer, which the owner is shown

    def measure(self, given: ChatInput, files: Mapping[str, FileFacts], *, run_seconds: int) -> Measure:
        """The prompt's bytes, and the most that the answers can add."""
        text = sum(_units_of(number, message) for number, message in enumerate(given.messages))
        prompt = text + _json_bytes(given.tools) + _json_bytes(given.response_format)
        if prompt > PROMPT_BYTES_MAX:
            raise InvalidInput(f"The messages have {prompt} bytes; at most {PROMPT_BYTES_MAX} are allowed.")
        if given.top_logprobs is not None and not given.logprobs:
            raise _refused("/top_logprobs", "top_logprobs is only for requests with logprobs.")
        if given.tool_choice not in (None, "none", "auto") and not given.tools:
            raise _refused("/tool_choice", "tool_choice is only for requests with tools.")
        choices = given.n or 1
        answer = BYTES_PER_TOKEN_MAX * given.max_tokens * choices
        expects = {"answer": answer, "max_tokens": given.max_tokens * choices, "prompt": prompt, "choices": choices}
        return Measure(
            units=prompt,
            units_max=prompt + answer,
            model=given.model,
            context=_context_of(text),
            pictures=any(_shows(message) for message in given.messages),
            expects=expects,
        )

    def meter(self, output: ChatOutput, *, input_units: int, expects: Mapping[str, int], seconds: float) -> int:
        """Prompt and answers."""
        wanted = expects.get("choices", 1)
        if 1 + len(output.choices) > wanted:
            raise OutputRefused(f"{1 + len(output.choices)} answers where {wanted} were asked for")
        answers = _answer_bytes(output.message) + sum(_answer_bytes(choice.message) for choice in output.choices)
        return input_units + min(answers, expects["answer"])

    def evidence(self, usage: Mapping[str, int], units: int, expects: Mapping[str, int]) -> str | None:
        """Tokens: never more than allowed, and no more than bytes of the answer."""
        pair = self.counts(usage, units, expects)
        if pair is None or pair[0] <= pair[1]:
            return None
        most, answer = expects["max_tokens"], units - expects.get("prompt", 0)
        return f"The miner counted {pair[0]} tokens of at most {most}, the platform an answer of {answer} bytes."

    def counts(self, usage: Mapping[str, int], units: int, expects: Mapping[str, int]) -> tuple[int, int] | None:
        """Tokens of the answer, each of which is a byte at least."""
        counted = usage.get("completion_tokens")
        # A job that was submitted before prompts were noted is held against all its bytes.
        return None if counted is None else (counted, min(expects["max_tokens"], units - expects.get("prompt", 0)))

    def made(self, units: int, expects: Mapping[str, int]) -> int:
        """The answer."""
        return max(units - expects.get("prompt", 0), 0)

    def model_of(self, output: ChatOutput) -> str | None:
        """What the output names."""
        return output.model

    def text_of(self, output: ChatOutput) -> str:
        """The text of the first answer: the one that is streamed."""
        return output.message.content


def _answer_bytes(said: Said) -> int:
    calls = sum(len(call.function.name.encode()) + len(call.function.arguments.encode()) for call in said.tool_calls)
    return len(said.content.encode()) + calls


def _units_of(number: int, message: Message) -> int:
    """What a message counts. Raises `InvalidInput` for what its struct cannot say."""
    at = f"/messages/{number}"
    if message.content is None and not (message.role == "assistant" and message.tool_calls):
        raise _refused(f"{at}/content", "A message has content, unless an assistant asks for tools in it.")
    if message.tool_calls and message.role != "assistant":
        raise _refused(f"{at}/tool_calls", "Only an assistant asks for tools.")
    if (message.tool_call_id is not None) != (message.role == "tool"):
        raise _refused(f"{at}/tool_call_id", "A message of a tool, and no other, names the call that it answers.")
    calls = message.tool_calls or ()
    asked = sum(len(call.function.name.encode()) + len(call.function.arguments.encode()) for call in calls)
    return asked + sum(_content_units(f"{at}/content", message))


def _content_units(at: str, message: Message) -> Iterator[int]:
    if isinstance(message.content, str):
        yield len(message.content.encode())
        return
    for number, part in enumerate(message.content or ()):
        if isinstance(part, TextPart):
            yield len(part.text.encode())
        elif message.role != "user":
            raise _refused(f"{at}/{number}", "Only a user shows pictures.")
        else:
            yield _picture_units(f"{at}/{number}/image_url/url", part)


def _picture_units(at: str, part: ImagePart) -> int:
    head, comma, data = part.image_url.url.partition(",")
    if not comma or head not in _DATA_URLS:
        raise _refused(at, "A picture is a PNG or JPEG file in a data URL, as data:image/png;base64,… .")
    try:
        width, height = size_of(base64.b64decode(data, validate=True))
    except (binascii.Error, ValueError):
        raise _refused(at, f"This is no base64 of a {_DATA_URLS[head]} file.") from None
    return max(PICTURE_UNITS_MIN, width * height // PIXELS_PER_UNIT)


def _shows(message: Message) -> bool:
    return isinstance(message.content, list) and any(isinstance(part, ImagePart) for part in message.content)


def _context_of(units: int) -> int:
    """The least context that so much text can need: in powers of two, as each is a lane of its own, and none for what
    every model takes."""
    tokens = units // BYTES_PER_TOKEN_MAX
    return 0 if tokens < CONTEXT_MIN else 1 << (tokens.bit_length() - 1)


def _json_bytes(value: Any) -> int:
    return 0 if value is None else len(msgspec.json.encode(value))


def _refused(pointer: str, message: str) -> InvalidInput:
    return InvalidInput(f"{message} (at /input{pointer})", fields=(FieldError(f"/input{pointer}", message),))
