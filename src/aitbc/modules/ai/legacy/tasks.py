"""Legacy task descriptions, free-form as they are, as a kind of work and its input."""

from collections.abc import Callable, Mapping
from typing import Any

from aitbc.kernel.legacy.errors import invalid
from aitbc.kernel.legacy.spellings import first_value
from aitbc.kernel.legacy.task_types import ALIASES, kind_named
from aitbc.kernel.primitives.errors import Invalid
from aitbc.modules.ai.models.kinds.registry import KINDS

Read = Callable[[Mapping[str, Any]], dict[str, Any]]
DEFAULT = "inference"
"""What legacy clients mean when they name no type."""
CHAT_OPTIONS = ("max_tokens", "temperature", "top_p", "frequency_penalty", "presence_penalty", "seed", "stop")


class UnknownTask(Invalid):
    """There is no kind of work for this type of task."""

    code = "unknown_task"


def kind_and_input(task: str | None, data: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The kind of work for a type of task, and its input. Raises `UnknownTask`, `Invalid`."""
    kind = known_kind(task or DEFAULT)
    return kind, READERS[kind](data)


def known_kind(task: str) -> str:
    """The kind of work for a type of task. Raises `UnknownTask`."""
    kind = kind_named(task)
    if kind not in KINDS:
        known = ", ".join(sorted({*KINDS, *ALIASES}))
        raise UnknownTask(f"There is no kind of work for {task[:40]!r}; known are: {known}.")
    return kind


def _embed(data: Mapping[str, Any]) -> dict[str, Any]:
    found = first_value(data, "texts", "text", "input", "prompt", "sentences")
    if found is None:
        raise _missing("texts")
    return _kept({"texts": found if isinstance(found, list) else [found]}, data, ("model", "dimensions"))


def _rerank(data: Mapping[str, Any]) -> dict[str, Any]:
    for name in ("query", "documents"):
        if not data.get(name):
            raise _missing(name)
    return _kept({"query": data["query"], "documents": data["documents"]}, data, ("model",))


def _ocr(data: Mapping[str, Any]) -> dict[str, Any]:
    found = first_value(data, "image", "picture", "image_base64")
    if found is None:
        raise _missing("image")
    return {"image": found}


def _chat(data: Mapping[str, Any]) -> dict[str, Any]:
    options = data.get("parameters")
    data = {**(options if isinstance(options, dict) else {}), **data}
    messages = data.get("messages")
    if messages is None:
        prompt = first_value(data, "prompt", "text", "input", "task")
        if prompt is None:
            raise _missing("prompt")
        messages = [{"role": "user", "content": prompt}]
    return _kept({"messages": messages}, data, ("model", *CHAT_OPTIONS))


def _command(data: Mapping[str, Any]) -> dict[str, Any]:
    if not data.get("program"):
        raise _missing("program")
    return _kept({"program": data["program"]}, data, ("arguments", "stdin"))


def _kept(found: dict[str, Any], data: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return found | {name: data[name] for name in names if data.get(name) is not None}


def _missing(name: str) -> Invalid:
    return invalid(f"/task_data/{name}", "This field is required for a task of this type")


READERS: Mapping[str, Read] = {"embed": _embed, "rerank": _rerank, "ocr": _ocr, "chat": _chat, "command": _command}
