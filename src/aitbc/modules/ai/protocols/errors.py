"""What went wrong, as the official clients of OpenAI and Anthropic read it (0059)."""

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import msgspec

from aitbc.kernel.crypto.api_key import without_keys
from aitbc.kernel.database.idempotency import IdempotencyKeyInFlight
from aitbc.kernel.http.dialects import Dialect, ErrorAnswer
from aitbc.kernel.http.problems import problem_headers
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError, Conflict, Invalid, NotDone, NotFound, Unavailable
from aitbc.modules.ai.models.kinds.kind import InvalidInput

PREFIX = "/v1/"
ANTHROPIC_PATH = "/v1/messages"
RETRY_SECONDS = (1, 60)
"""A client sleeps for as long as `Retry-After` says; outside these bounds the official ones do what nobody wants."""
_CLIENT_ERROR = "invalid_request_error"
_OPENAI_TYPES: Mapping[int, str] = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    429: "rate_limit_error",
}
_ANTHROPIC_TYPES: Mapping[int, str] = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}
_encoder = msgspec.json.Encoder(enc_hook=str)


class ModelNotFound(NotFound):
    """No miner serves this model; `GET /v1/models` lists those that are served."""

    code = "model_not_found"


class ParameterRefused(Invalid):
    """This parameter cannot be used here, or not with this value."""

    code = "parameter_refused"


class RequestRefused(Invalid):
    """The model's server refused this request; the message says why."""

    code = "request_refused"


class WorkFailed(Unavailable):
    """No miner could finish this; nothing was charged."""

    code = "work_failed"


class NoMinerInTime(Unavailable):
    """No miner took this in time; nothing was charged."""

    code = "no_miner_in_time"


class AnswerBroken(Unavailable):
    """The miner was lost in the middle of its answer; what was sent until then stands."""

    code = "answer_broken"


class RunCanceled(Conflict):
    """The job of this request was canceled."""

    code = "run_canceled"


class NotOffered(NotDone):
    """No miner offers this kind of work yet."""

    code = "not_offered"


def error_body(path: str, error: AppError, request_id: str | None) -> bytes:
    """The JSON of an error, in the dialect of a path."""
    inner: dict[str, Any]
    if is_anthropic(path):
        kind = _ANTHROPIC_TYPES.get(error.status, "api_error" if error.status >= 500 else _CLIENT_ERROR)
        inner = {"type": kind, "message": _message(error)}
        body: dict[str, Any] = {"type": "error", "error": inner, "request_id": request_id}
    else:
        kind = _OPENAI_TYPES.get(error.status, "server_error" if error.status >= 500 else _CLIENT_ERROR)
        inner = {"message": _message(error), "type": kind, "param": _parameter(error), "code": error.code}
        body = {"error": inner}
    try:
        return without_keys(_encoder.encode(body))
    except (UnicodeEncodeError, msgspec.MsgspecError):
        inner["message"] = type(error).summary()
        return _encoder.encode(body)


def _answer(path: str, error: AppError, request_id: str | None) -> ErrorAnswer:
    headers = {**problem_headers(error), "content-type": "application/json"}
    status = 400 if error.status == Invalid.status else error.status
    if status == Conflict.status and not isinstance(error, IdempotencyKeyInFlight):
        headers["x-should-retry"] = "false"  # the clients repeat any conflict by themselves
    if status == NotDone.status:
        headers["x-should-retry"] = "false"
    if "retry-after" in headers:
        headers["retry-after"] = str(_retry_seconds(headers["retry-after"]))
    if is_anthropic(path):
        headers = anthropic_headers(headers)
        status = 529 if status == Unavailable.status else status
        if request_id is not None:
            headers["request-id"] = request_id
    return ErrorAnswer(status, headers, error_body(path, error, request_id))


def anthropic_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers with those of rate limits as Anthropic names them, and the time at which a limit is renewed."""
    found: dict[str, str] = {}
    for name, value in headers.items():
        prefix, _, rest = name.partition("x-ratelimit-")
        if prefix or not rest:
            found[name] = value
            continue
        word, _, measure = rest.partition("-")
        if word == "reset":
            value = f"{now() + timedelta(seconds=float(value.removesuffix('s'))):%Y-%m-%dT%H:%M:%SZ}"
        found[f"anthropic-ratelimit-{measure}-{word}"] = value
    return found


DIALECT = Dialect(prefix=PREFIX, answer=_answer)


def is_anthropic(path: str) -> bool:
    """Whether a path is one of Anthropic's."""
    return path == ANTHROPIC_PATH or path.startswith(ANTHROPIC_PATH + "/")


def _message(error: AppError) -> str:
    faults = [fault for fault in error.fields if fault.message not in error.message]
    said = "; ".join(f"{_name(error, fault.pointer)}: {fault.message}" for fault in faults)
    return f"{error.message} {said}" if said else error.message


def _parameter(error: AppError) -> str | None:
    return _name(error, error.fields[0].pointer) or None if error.fields else None


def _name(error: AppError, pointer: str) -> str:
    """A pointer as these dialects name a parameter: `messages[0].content`."""
    if isinstance(error, InvalidInput):  # it points into the job, which the request became
        pointer = pointer.removeprefix("/input").replace("/texts", "/input", 1)
    found = ""
    for token in pointer.lstrip("/?").split("/"):
        name = token.replace("~1", "/").replace("~0", "~")
        found += f"[{name}]" if name.isdigit() else f".{name}" if found else name
    return found


def _retry_seconds(text: str) -> int:
    least, most = RETRY_SECONDS
    try:
        return min(max(math.ceil(float(text)), least), most)
    except ValueError:
        return least
