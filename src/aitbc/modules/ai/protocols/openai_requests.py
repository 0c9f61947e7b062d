"""What OpenAI's clients send: each parameter by its name, and none that would be dropped in silence."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from aitbc.kernel.primitives.errors import FieldError
from aitbc.modules.ai.models.kinds.chat_input import (
    CHOICES_MAX,
    MESSAGES_MAX,
    SEED_MAX,
    TOKENS_MAX,
    TOOLS_MAX,
    Message,
    NamedTool,
    ResponseFormat,
    Tool,
)
from aitbc.modules.ai.protocols.errors import ParameterRefused

TOKENS_WITHOUT_WISH = 4096
"""The most tokens of an answer whose client names no limit: so much is held for it."""
TEXTS_MAX = 256
ModelName = Annotated[str, Meta(min_length=1, max_length=200)]
Label = Annotated[str, Meta(max_length=512)]
Stop = str | Annotated[list[str], Meta(max_length=4)] | None


class StreamOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """What a stream has beside its answer."""

    include_usage: bool | None = None
    """Whether a last chunk says what was used."""
    include_obfuscation: bool | None = None
    """Asks for padding against listeners; only `false` is taken, for there is none."""


class ChatCompletion(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`POST /v1/chat/completions`."""

    model: ModelName
    messages: Annotated[list[Message], Meta(min_length=1, max_length=MESSAGES_MAX)]
    max_tokens: Annotated[int, Meta(ge=1, le=TOKENS_MAX)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1, le=TOKENS_MAX)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    seed: Annotated[int, Meta(ge=-SEED_MAX, le=SEED_MAX)] | None = None
    stop: Stop = None
    n: Annotated[int, Meta(ge=1, le=CHOICES_MAX)] | None = None
    tools: Annotated[list[Tool], Meta(max_length=TOOLS_MAX)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    logit_bias: dict[str, Annotated[float, Meta(ge=-100, le=100)]] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high"] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    store: bool | None = None
    """Only `false` is taken: answers are kept as jobs, for their retention."""
    modalities: list[str] | None = None
    """Only text is taken."""
    service_tier: Literal["auto", "default"] | None = None
    """There is one tier."""
    user: Label | None = None
    """A label of the client's own; nothing depends on it."""
    safety_identifier: Label | None = None
    """As `user`."""
    prompt_cache_key: Label | None = None
    """As `user`."""
    metadata: Annotated[dict[str, Label], Meta(max_length=16)] | None = None
    """As `user`."""

    def __post_init__(self) -> None:
        refuse_unless(self.store is not True, "store", "Answers cannot be stored under an id of this protocol.")
        refuse_unless(self.modalities in (None, ["text"]), "modalities", "Only text can be answered.")
        refuse_unless(self.stream_options is None or bool(self.stream), "stream_options", "It is for streams only.")
        if self.stream_options is not None:
            name = "stream_options/include_obfuscation"
            refuse_unless(self.stream_options.include_obfuscation is not True, name, "There is no padding.")

    @property
    def has_usage(self) -> bool:
        """Whether a stream ends with what was used."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def work(self) -> dict[str, Any]:
        """The input of a job of kind `chat`."""
        asked = {
            name: value
            for name in _CARRIED
            if (value := getattr(self, name)) is not None and not (name in ("tools", "logit_bias") and not value)
        }
        asked["max_tokens"] = self.max_completion_tokens or self.max_tokens or TOKENS_WITHOUT_WISH
        if self.stop:
            asked["stop"] = [self.stop] if isinstance(self.stop, str) else self.stop
        return dict(msgspec.to_builtins(asked))


_CARRIED = (
    *("model", "messages", "temperature", "top_p", "frequency_penalty", "presence_penalty", "seed", "n", "tools"),
    *("tool_choice", "parallel_tool_calls", "response_format", "logprobs", "top_logprobs", "logit_bias"),
    "reasoning_effort",
)


class EmbeddingRequest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`POST /v1/embeddings`."""

    model: ModelName
    input: str | list[Any]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1, le=8192)] | None = None
    user: Label | None = None
    """A label of the client's own; nothing depends on it."""

    def work(self) -> dict[str, Any]:
        """The input of a job of kind `embed`. Raises `ParameterRefused` for tokens in the place of texts."""
        texts = [self.input] if isinstance(self.input, str) else self.input
        refuse_unless(0 < len(texts) <= TEXTS_MAX, "input", f"It must be 1 to {TEXTS_MAX} texts.")
        are_texts = all(isinstance(text, str) for text in texts)
        refuse_unless(are_texts, "input", "It must be texts: miners have tokenizers of their own.")
        asked: dict[str, Any] = {"texts": texts, "model": self.model}
        return asked | ({} if self.dimensions is None else {"dimensions": self.dimensions})


def refused(name: str, message: str) -> ParameterRefused:
    """The refusal of a parameter by its pointer, without the first slash."""
    return ParameterRefused(f"{name.replace('/', '.')}: {message}", fields=(FieldError(f"/{name}", message),))


def refuse_unless(holds: bool, name: str, message: str) -> None:  # noqa: FBT001 - it reads as a sentence
    """Raises `ParameterRefused` for a parameter that cannot be used as it is."""
    if not holds:
        raise refused(name, message)
