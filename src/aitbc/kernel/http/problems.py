"""Error responses: one form for everything that goes wrong (RFC 9457, problem details)."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec
import structlog
from litestar.exceptions import (
    HTTPException,
    MethodNotAllowedException,
    NotFoundException,
    ValidationException,
)
from msgspec import Struct

from aitbc.kernel.crypto.api_key import without_keys
from aitbc.kernel.database.sql_errors import translate
from aitbc.kernel.primitives.errors import (
    AppError,
    FieldError,
    Forbidden,
    Invalid,
    Malformed,
    NotDone,
    NotFound,
    TooLarge,
    TooMany,
    Unauthenticated,
    Unavailable,
)
from aitbc.kernel.primitives.ids import MalformedId
from aitbc.kernel.primitives.request_errors import MethodNotAllowed, UnsupportedMedia

PROBLEM_TYPE = "application/problem+json"
ERRORS_PAGE = "/docs/errors"
FAULTS_MAX = 20
"""How many faults of one request are listed in one answer."""
MESSAGE_LENGTH_MAX = 200

log = structlog.get_logger("aitbc.http")
_MISSING = re.compile(r"Missing required (\w+) parameter '([^']{1,64})'")
_BY_STATUS: Mapping[int, type[AppError]] = {
    400: Malformed,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    413: TooLarge,
    415: UnsupportedMedia,
    422: Invalid,
    429: TooMany,
    503: Unavailable,
}


class Problem(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What went wrong with a request. `code` is stable and meant for programs, `detail` for people."""

    type: str
    """Where the catalogue explains this code. For example `/docs/errors#job_not_found`."""
    title: str
    """What the code means, in one sentence. For example `There is no such job.`."""
    status: int
    """The HTTP status. For example `404`."""
    code: str
    """The stable name of the error, from docs/errors.md. For example `job_not_found`."""
    detail: str
    """What happened this time, for people. For example `There is no such job.`."""
    request_id: str | None = None
    """Quote this when you ask for help; the server's log knows it."""
    retryable: bool
    """The same request may succeed later; with an Idempotency-Key it is safe to repeat."""
    docs: str
    """The same place as `type`. For example `/docs/errors#job_not_found`."""
    errors: tuple[FieldError, ...] = ()
    """What is wrong, field by field: JSON pointers into the body, `?name` for the query."""
    details: dict[str, Any] = {}
    """More about it, by name, as far as the code has more to say."""


_encoder = msgspec.json.Encoder(enc_hook=str)


def problem(error: AppError, request_id: str | None) -> bytes:
    """The problem document of an error, as JSON."""
    page = f"{ERRORS_PAGE}#{error.code}"
    body = Problem(
        type=page,
        title=_title(type(error)),
        status=error.status,
        code=error.code,
        detail=error.message,
        request_id=request_id,
        retryable=is_retryable(type(error)),
        docs=page,
        errors=error.fields[:FAULTS_MAX],
        details=error.details,
    )
    try:
        return without_keys(_encoder.encode(body))
    except (
        UnicodeEncodeError,
        msgspec.MsgspecError,
    ):  # a detail that JSON cannot encode must not hide the error itself
        return _encoder.encode(msgspec.structs.replace(body, detail=_title(type(error)), errors=(), details={}))


def problem_headers(error: AppError) -> dict[str, str]:
    """The response headers of an error, names in lower case."""
    headers = {name.lower(): value for name, value in error.headers.items()}
    if error.status == Unauthenticated.status:
        headers.setdefault("www-authenticate", "Bearer")
    return headers


def is_retryable(kind: type[AppError]) -> bool:
    """Whether the same request may succeed a little later."""
    return kind.status in (408, 429, 503) or bool(getattr(kind, "retryable", False))


def _title(kind: type[AppError]) -> str:
    return "Something went wrong on our side." if kind is AppError else kind.summary()


def convert_error(error: Exception, scope: Any) -> AppError:
    """The `AppError` to answer for any exception; one that is our fault is logged."""
    refusal = as_app_error(error)
    if refusal.status >= 500 and not isinstance(refusal, (NotDone, Unavailable)):
        log.error("request_failed", exc_info=error, path=scope.get("path"), method=scope.get("method"))
    return refusal


def as_app_error(error: Exception) -> AppError:
    """The `AppError` for any exception; nothing of an unexpected one is shown to the caller."""
    match error:
        case AppError():
            return error
        case ValidationException():
            return _from_validation(error)
        case MethodNotAllowedException():
            return MethodNotAllowed(headers={"Allow": with_head((error.headers or {}).get("allow", ""))})
        case NotFoundException():
            return NotFound("There is nothing at this path.")
        case HTTPException() if error.status_code < 500 or error.status_code == 503:
            return _BY_STATUS.get(error.status_code, Malformed)()
        case MalformedId():
            return NotFound()
    return translate(error) or AppError("Something went wrong on our side; the log knows more under this request id.")


def with_head(allow: str) -> str:
    """The methods of an `Allow` header, with HEAD where GET is among them."""
    methods = {method.strip() for method in allow.split(",") if method.strip()}
    return ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))


def _from_validation(error: ValidationException) -> AppError:
    """The error for a parameter that the framework itself found missing, or could not convert."""
    if found := _MISSING.search(error.detail):
        prefix = "?" if found[1] == "query" else f"{found[1]} "
        return Invalid(fields=(FieldError(prefix + found[2], "This parameter is required"),))
    extra = error.extra if isinstance(error.extra, list) else []
    if any(item.get("source") == "path" for item in extra):
        return NotFound()
    fields = []
    for item in extra:
        key, message = str(item.get("key", "")), str(item.get("message", ""))[:MESSAGE_LENGTH_MAX]
        body = item.get("source") == "body"
        fields.append(
            FieldError("", "A JSON body is required") if body and key == "data" else FieldError(f"?{key}", message)
        )
    return Invalid(fields=tuple(fields))
