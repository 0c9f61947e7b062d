"""Tells the server's own refusals from what a proxy on the way to it answers."""

import json
from typing import Any


def own_problem(status: int, content: bytes) -> dict[str, Any] | None:
    """The problem document of a refusal; none where the server did not write it.

    Its type is the entry of its code in the catalogue of errors: no proxy, and no other program, writes that.
    """
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    if (told := _of_protocol(found)) is not None:
        return told
    code = found.get("code")
    is_own = (
        isinstance(code, str)
        and found.get("type") == f"/docs/errors#{code}"
        and found.get("status") == status
        and isinstance(found.get("detail"), str)
    )
    return found if is_own else None


def _of_protocol(found: dict[str, Any]) -> dict[str, Any] | None:
    """A refusal as the public protocols below `/v1` have it: one member, of four."""
    error = found.get("error")
    if len(found) != 1 or not isinstance(error, dict) or error.keys() != {"message", "type", "param", "code"}:
        return None
    if not isinstance(error["message"], str) or not isinstance(error["code"], str):
        return None
    return {"code": error["code"], "detail": error["message"]}


def explained(problem: dict[str, Any]) -> str:
    """What a refusal says, with the fields that are at fault and why."""
    errors = problem.get("errors")
    named = [each for each in errors if isinstance(each, dict)] if isinstance(errors, list) else []
    faults = [f"{str(each.get('pointer', '')).strip('/')}: {each.get('message')}" for each in named]
    return " ".join([str(problem["detail"]), "; ".join(faults)]).strip()
