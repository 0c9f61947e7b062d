"""Canary jobs: what a miner that is idle is given to do as any payer would, and what its answer must be; pure."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import msgspec
from msgspec import Struct

from aitbc.modules.ai.api import CanaryStep
from aitbc.modules.ai.models.checks.agreement import COSINE_MIN, cosine
from aitbc.modules.ai.models.kinds.chat import ChatOutput
from aitbc.modules.ai.models.kinds.embed import EmbedOutput
from aitbc.modules.ai.models.life import State

SAME, OTHER = "The lighthouse keeper counts the ships.", "Add two spoons of salt and stir."
KINDS: tuple[str, ...] = ("chat", "embed")
"""The kinds that have a canary: `ocr` needs a file, and what programs and containers answer nobody knows beforehand."""
RETRY = timedelta(minutes=10)
"""How soon a kind that failed is tried again."""


class Finding(Struct, frozen=True):
    """What a canary job that has ended says."""

    step: CanaryStep | None
    """None where it passed, or where it was broken off and says nothing."""
    message: str = ""
    is_void: bool = False
    """Whether it says nothing: it was canceled, or the platform failed."""


def input_of(kind: str, model: str | None) -> dict[str, Any]:
    """What a canary of a kind asks for."""
    named = {} if model is None else {"model": model}
    if kind == "embed":
        return {"texts": [SAME, OTHER, SAME], **named}
    assert kind == "chat"
    return {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 16, **named}


def judge(kind: str, state: str, fault: str, output: str | None, last: tuple[str, bool]) -> Finding:
    """What a canary job that ended in this way says about its miner; `last` is the reason of its last attempt, and
    whether that had begun.
    """
    if state == State.SUCCEEDED:
        wrong = _wrong(kind, msgspec.json.decode(output or "null"))
        return Finding("answer", wrong) if wrong else Finding(None)
    if state == State.CANCELED or fault == "platform":
        return Finding(None, is_void=True)
    if state == State.EXPIRED:
        return Finding("taken", "It was online and idle, and did not take the job in time.")
    reason, has_begun = last
    return Finding("finished" if has_begun else "started", f"Its attempt ended: {reason}.")


def _wrong(kind: str, output: Mapping[str, Any]) -> str:
    """What is wrong with an answer that has the right shape; empty where nothing is."""
    if kind == "chat":
        said = msgspec.convert(output, ChatOutput).message
        return "" if said.content or said.tool_calls else "The answer is empty."
    first, other, again = msgspec.convert(output, EmbedOutput).vectors
    if not any(first):
        return "The vector of a text is all zero."
    if cosine(first, again) < COSINE_MIN:
        return "Two vectors of one text differ."
    if cosine(first, other) >= COSINE_MIN:
        return "Two texts of different meaning have one vector."
    return ""
