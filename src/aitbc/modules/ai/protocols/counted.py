"""How many tokens an answer took, as these protocols ask: from what the model's server counted, else a bound."""

from typing import NamedTuple

from aitbc.modules.ai.service.text_runs import Ended


class Tokens(NamedTuple):
    """Tokens of a prompt and of what was answered."""

    prompt: int
    answer: int
    is_counted: bool
    """Whether the model's server counted them; else each byte stands for a token, which is the most there can be."""


def tokens_of(ended: Ended, *, answer_bytes: int, most: int) -> Tokens:
    """The tokens of a job of kind `chat` with an answer of so many bytes and at most so many tokens."""
    prompt, answer = ended.usage.get("prompt_tokens"), ended.usage.get("completion_tokens")
    prompt_bytes = max((ended.job.units or 0) - answer_bytes, 0)
    if prompt is None or answer is None:
        return Tokens(prompt_bytes, min(answer_bytes, most), is_counted=False)
    return Tokens(prompt, min(answer, most), is_counted=True)
