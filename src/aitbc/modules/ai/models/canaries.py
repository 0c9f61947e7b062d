"""Canary jobs: what a miner that is idle is given to do as any payer would, and what its answer must be; pure."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import msgspec
from msgspec import Struct

from aitbc.modules.ai.api import CanaryStep
from aitbc.modules.ai.models.canary_picture import picture_of
from aitbc.modules.ai.models.checks.agreement import COSINE_MIN, cosine
from aitbc.modules.ai.models.fleet import FleetMiner
from aitbc.modules.ai.models.kinds.chat import ChatOutput
from aitbc.modules.ai.models.kinds.command import CommandOutput
from aitbc.modules.ai.models.kinds.embed import EmbedOutput
from aitbc.modules.ai.models.kinds.ocr import OcrOutput
from aitbc.modules.ai.models.kinds.rerank import RerankOutput
from aitbc.modules.ai.models.life import State

SAME, OTHER = "The lighthouse keeper counts the ships.", "Add two spoons of salt and stir."
KINDS: tuple[str, ...] = ("chat", "command", "container", "embed", "ocr", "rerank")
"""The kinds that have a canary. What programs and containers are to answer, the operator says."""
DIGITS = 8
RETRY = timedelta(minutes=10)
"""How soon a kind that failed is tried again."""


class Finding(Struct, frozen=True):
    """What a canary job that has ended says."""

    step: CanaryStep | None
    """None where it passed, or where it was broken off and says nothing."""
    message: str = ""
    is_void: bool = False
    """Whether it says nothing: it was canceled, or the platform failed."""


class Canary(Struct, frozen=True):
    """What a canary job asks for, and what must stand in its answer."""

    input: dict[str, Any]
    expects: str = ""
    """What `ocr` must read, and a program write, without blanks around it; other kinds have rules of their own."""


class Known(Struct, frozen=True):
    """What the operator knows of programs and images: by the words of a command, what it writes for one line."""

    commands: Mapping[str, str] = {}
    containers: Mapping[str, str] = {}


def canary_of(kind: str, miner: FleetMiner, name: str, known: Known) -> Canary | None:
    """The canary of a kind for a miner that takes it, another by each `name`; none where it has nothing to be asked."""
    models = miner.models.get(kind, ())
    drawn = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
    if kind == "ocr":
        digits = f"{drawn % 10**DIGITS:0{DIGITS}}"
        return Canary({"image": base64.b64encode(picture_of(digits)).decode()}, digits)
    if kind in ("command", "container"):
        allowed = miner.programs if kind == "command" else models
        return _program(kind, allowed, known.commands if kind == "command" else known.containers, drawn)
    named = {"model": models[0]} if models else {}
    if kind == "embed":
        return Canary({"texts": [SAME, OTHER, SAME], **named})
    if kind == "rerank":
        return Canary({"query": SAME, "documents": [OTHER, SAME], **named})
    assert kind == "chat"
    return (
        Canary({"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 16, **named}) if named else None
    )


def _program(kind: str, allowed: Sequence[str], known: Mapping[str, str], drawn: int) -> Canary | None:
    """One of the commands that are known, of those that the miner allows."""
    fitting = [(words, told) for line, told in sorted(known.items()) if (words := line.split()) and words[0] in allowed]
    if not fitting:
        return None
    (program, *arguments), told = fitting[drawn % len(fitting)]
    if kind == "command":
        return Canary({"program": program, "arguments": arguments, "stdin": f"{SAME}\n"}, told.strip())
    return Canary({"image": program, "command": arguments, "stdin": f"{SAME}\n"}, told.strip())


def judge(kind: str, state: str, fault: str, output: str | None, last: tuple[str, bool], expects: str = "") -> Finding:
    """What a canary job that ended in this way says about its miner; `last` is the reason of its last attempt, and
    whether that had begun.
    """
    if state == State.SUCCEEDED:
        wrong = _wrong(kind, msgspec.json.decode(output or "null"), expects)
        return Finding("answer", wrong) if wrong else Finding(None)
    if state == State.CANCELED or fault == "platform":
        return Finding(None, is_void=True)
    if state == State.EXPIRED:
        return Finding("taken", "It was online and idle, and did not take the job in time.")
    reason, has_begun = last
    return Finding("finished" if has_begun else "started", f"Its attempt ended: {reason}.")


def _wrong(kind: str, output: Mapping[str, Any], expects: str) -> str:
    """What is wrong with an answer that has the right shape; empty where nothing is."""
    if kind == "ocr":
        read = "".join(msgspec.convert(output, OcrOutput).text.split())
        return "" if expects in read else "It did not read the digits of the picture."
    if kind in ("command", "container"):
        ended = msgspec.convert(output, CommandOutput)
        return "" if (ended.exit_code, ended.stdout.strip()) == (0, expects) else "The program answered something else."
    if kind == "chat":
        said = msgspec.convert(output, ChatOutput).message
        return "" if said.content or said.tool_calls else "The answer is empty."
    if kind == "rerank":
        farther, nearer = msgspec.convert(output, RerankOutput).scores
        return "" if nearer > farther else "The query itself does not fit it better than another text."
    first, other, again = msgspec.convert(output, EmbedOutput).vectors
    if not any(first):
        return "The vector of a text is all zero."
    if cosine(first, again) < COSINE_MIN:
        return "Two vectors of one text differ."
    if cosine(first, other) >= COSINE_MIN:
        return "Two texts of different meaning have one vector."
    return ""
