"""What OpenAI's clients send to `/v1/completions`, and the chat that it becomes: the prompt is what a user says."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from aitbc.modules.ai.models.kinds.chat_input import CHOICES_MAX, SEED_MAX, TOKENS_MAX
from aitbc.modules.ai.protocols.openai_requests import Label, ModelName, Stop, StreamOptions, refuse_unless

TOKENS_WITHOUT_WISH = 16
"""The most tokens of a completion whose client names no limit, as OpenAI has it."""
LIKELY_MAX = 5


class Completion(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`POST /v1/completions`."""

    model: ModelName
    prompt: str | list[Any]
    max_tokens: Annotated[int, Meta(ge=1, le=TOKENS_MAX)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    seed: Annotated[int, Meta(ge=-SEED_MAX, le=SEED_MAX)] | None = None
    stop: Stop = None
    n: Annotated[int, Meta(ge=1, le=CHOICES_MAX)] | None = None
    best_of: int | None = None
    """Only as many as `n`: all that are made are answered."""
    echo: bool | None = None
    """Whether each completion begins with the prompt."""
    logprobs: Annotated[int, Meta(ge=0, le=LIKELY_MAX)] | None = None
    logit_bias: dict[str, Annotated[float, Meta(ge=-100, le=100)]] | None = None
    suffix: str | None = None
    """Only none."""
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Label | None = None
    """A label of the client's own; nothing depends on it."""

    def __post_init__(self) -> None:
        refuse_unless(isinstance(self.text, str), "prompt", "It must be one text: a request has one prompt, no tokens.")
        refuse_unless(bool(self.text), "prompt", "It must not be empty.")
        refuse_unless(not self.suffix, "suffix", "Nothing can be completed up to a suffix.")
        refuse_unless(self.best_of in (None, self.n or 1), "best_of", "All that are made are answered: it must be n.")
        has_both = bool(self.echo) and self.logprobs is not None
        refuse_unless(not has_both, "echo", "How likely the prompt was is not known; ask for logprobs without echo.")
        refuse_unless(self.stream_options is None or bool(self.stream), "stream_options", "It is for streams only.")
        padding = self.stream_options is not None and self.stream_options.include_obfuscation is True
        refuse_unless(not padding, "stream_options/include_obfuscation", "There is no padding.")

    @property
    def text(self) -> Any:
        """The prompt."""
        return self.prompt[0] if isinstance(self.prompt, list) and len(self.prompt) == 1 else self.prompt

    @property
    def has_usage(self) -> bool:
        """Whether a stream ends with what was used."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def work(self) -> dict[str, Any]:
        """The input of a job of kind `chat`."""
        asked = {name: value for name in _CARRIED if (value := getattr(self, name)) is not None}
        asked |= {"messages": [{"role": "user", "content": self.text}]}
        asked["max_tokens"] = self.max_tokens or TOKENS_WITHOUT_WISH
        if self.stop:
            asked["stop"] = [self.stop] if isinstance(self.stop, str) else self.stop
        if self.logprobs is not None:
            asked |= {"logprobs": True, "top_logprobs": self.logprobs}
        if self.logit_bias:
            asked["logit_bias"] = self.logit_bias
        return dict(msgspec.to_builtins(asked))


_CARRIED = ("model", "temperature", "top_p", "frequency_penalty", "presence_penalty", "seed", "n")
