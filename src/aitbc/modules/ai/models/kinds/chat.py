"""Chat completions: messages in, an answer out."""

from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta, Struct

from aitbc.modules.ai.models.kinds.kind import FileFacts, InvalidInput, Kind, Measure

MESSAGES_MAX = 256
PROMPT_BYTES_MAX = 512 * 1024
TOKENS_MAX = 131_072
SEED_MAX = 2**53 - 1
"""The largest integer that every JSON reader keeps exact. What a model's server makes of a seed is its own affair."""
BYTES_PER_TOKEN_MAX = 16
"""What one token of an answer may count at most: it bounds the price before the answer is known."""


class Message(Struct, frozen=True, forbid_unknown_fields=True):
    """One turn of the conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    """Who speaks. For example `user`."""
    content: Annotated[str, Meta(max_length=PROMPT_BYTES_MAX)]
    """What they say. For example `Why is the sky blue?`."""


class ChatInput(Struct, frozen=True, forbid_unknown_fields=True):
    """Messages for a chat model, with the settings that OpenAI-compatible servers share."""

    messages: Annotated[list[Message], Meta(min_length=1, max_length=MESSAGES_MAX)]
    """The conversation so far, the oldest message first."""
    model: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    """The model that must answer; left out, any that the miner serves. For example `llama-3-8b`."""
    max_tokens: Annotated[int, Meta(ge=1, le=TOKENS_MAX)] = 512
    """The most tokens that the answer may have. For example `512`."""
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    """How freely words are chosen: 0 takes the likeliest. For example `0.7`."""
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    """Only words of this share of the likelihood are taken. For example `0.9`."""
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    """How much words that were often used are avoided. For example `0.0`."""
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    """How much words that were used are avoided. For example `0.0`."""
    seed: Annotated[int, Meta(ge=-SEED_MAX, le=SEED_MAX)] | None = None
    """With the same number a model that can answers the same. For example `1`."""
    stop: Annotated[list[Annotated[str, Meta(min_length=1, max_length=200)]], Meta(max_length=4)] | None = None
    """Texts at which the answer ends. For example `["END"]`."""


class Said(Struct, frozen=True):
    """The answer."""

    role: Literal["assistant"]
    """Who speaks."""
    content: str
    """The answer. For example `Because blue light is scattered most.`."""


class ChatOutput(Struct, frozen=True):
    """The answer of the model, and why it ended."""

    message: Said
    """The answer."""
    model: str | None = None
    """The model that answered, as its server names it. For example `llama-3-8b`."""
    finish_reason: str | None = None
    """Why it ended, as the model's server says. For example `stop`."""


class Chat(Kind):
    """Metered by the bytes of prompt and answer, the answer bounded by the tokens that were allowed."""

    name = "chat"
    summary = "Answers messages with a language model."
    unit = "byte"
    metering = (
        "One unit for each byte of the messages' contents and of the answer in UTF-8, counted by the platform; "
        f"the answer counts at most {BYTES_PER_TOKEN_MAX} bytes for each token of max_tokens."
    )
    unit_price_units = 20
    input = ChatInput
    output = ChatOutput
    fastest = 2.0 * 1024 * 1024
    streams = True
    miner_may_blame = True  # what a model's server refuses it says in its answer, which the owner is shown

    def measure(self, given: ChatInput, files: Mapping[str, FileFacts], *, run_seconds: int) -> Measure:
        """The prompt's bytes, and the most that the answer can add."""
        prompt = sum(len(message.content.encode()) for message in given.messages)
        if prompt > PROMPT_BYTES_MAX:
            raise InvalidInput(f"The messages have {prompt} bytes; at most {PROMPT_BYTES_MAX} are allowed.")
        answer = BYTES_PER_TOKEN_MAX * given.max_tokens
        expects = {"answer": answer, "max_tokens": given.max_tokens, "prompt": prompt}
        return Measure(units=prompt, units_max=prompt + answer, model=given.model, expects=expects)

    def meter(self, output: ChatOutput, *, input_units: int, expects: Mapping[str, int], seconds: float) -> int:
        """Prompt and answer."""
        return input_units + min(len(output.message.content.encode()), expects["answer"])

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
        """The answer's text."""
        return output.message.content
