"""Inputs and results of jobs in the legacy dialect.

A prompt out, a free-form result in, read as the kind of work wants it.
"""

from collections.abc import Mapping
from typing import Any

from aitbc.kernel.legacy.errors import invalid
from aitbc.kernel.legacy.spellings import first_text
from aitbc.kernel.legacy.task_types import task_of
from aitbc.kernel.primitives.errors import Invalid
from aitbc.modules.ai.api import Lease

USAGE_MAX = 32
COUNT_MAX = 2**53 - 1
WORD_LENGTH_MAX = 40
ANSWERS = ("response", "output", "text", "content", "completion", "generated_text", "answer")
FAILED = frozenset({"failed", "failure", "error"})


def payload_of(lease: Lease) -> dict[str, Any]:
    """The input of a job, with what legacy miners look for: its type, and for a chat the prompt."""
    payload = dict(lease.input) if isinstance(lease.input, dict) else {"input": lease.input}
    payload["type"] = task_of(lease.kind)
    if lease.kind == "chat":
        payload["prompt"] = _prompt(payload.get("messages") or [])
    return payload


def output_of(kind: str, result: Any) -> Any:
    """What a miner brought, in the shape of this kind of work. Raises `Invalid` where that is not to be found in it."""
    found = result if isinstance(result, dict) else {"output": result}
    if kind == "chat":
        return _answer(found)
    if kind == "embed":
        return _vectors(found)
    inner = found.get("output")
    return inner if isinstance(inner, dict) else found


def usage_of(result: Any, metrics: Mapping[str, Any]) -> dict[str, int]:
    """What the miner counted, as far as those are whole numbers."""
    found = dict(result) if isinstance(result, dict) else {}
    found |= metrics
    counted = {
        name: value
        for name, value in found.items()
        if type(value) is int and 0 <= value <= COUNT_MAX and len(name) <= WORD_LENGTH_MAX
    }
    if "eval_count" in counted:
        counted.setdefault("completion_tokens", counted["eval_count"])
    return dict(list(counted.items())[:USAGE_MAX])


def says_failed(result: Any, *, success: bool | None) -> bool:
    """Whether a result says that there is none."""
    if isinstance(result, dict):
        status = result.get("status")
        if isinstance(status, str) and status.lower() in FAILED:
            return True
        return success is False and not any(result.get(name) for name in ANSWERS)
    return success is False and not result


def _prompt(messages: list[dict[str, Any]]) -> str:
    if len(messages) == 1:
        return str(messages[0]["content"])
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in messages)


def _answer(found: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(found.get("message"), dict):
        return {name: found[name] for name in ("message", "model", "finish_reason") if name in found}
    if isinstance(found.get("output"), dict):
        return _answer(found["output"])
    text = first_text(found, *ANSWERS)
    if text is None:
        raise _missing(f"a text under one of {', '.join(ANSWERS)}")
    answer: dict[str, Any] = {"message": {"role": "assistant", "content": text}}
    if model := first_text(found, "model"):
        answer["model"] = model
    return answer


def _vectors(found: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(found.get("output"), dict):
        return _vectors(found["output"])
    vectors = found.get("vectors") or found.get("embeddings")
    if not isinstance(vectors, list) or not vectors or not isinstance(vectors[0], list):
        raise _missing("vectors")
    model = first_text(found, "model")
    if model is None:
        raise _missing("the model that made them")
    return {"model": model, "dimensions": len(vectors[0]), "vectors": vectors}


def _missing(what: str) -> Invalid:
    return invalid("/result", f"Expected {what}")
