"""What went wrong, as the clients of A2A read it: in JSON-RPC, or over plain HTTP."""

from typing import Any

import msgspec
from msgspec import Struct

from aitbc.kernel.crypto.api_key import without_keys
from aitbc.kernel.http.dialects import Dialect, ErrorAnswer
from aitbc.kernel.http.problems import problem_headers
from aitbc.kernel.primitives.errors import (
    AppError,
    Conflict,
    Forbidden,
    Invalid,
    Malformed,
    NotDone,
    NotFound,
    PaymentRequired,
    TooLarge,
    TooMany,
    Unauthenticated,
    Unavailable,
)
from aitbc.modules.hermes.service.commands import AgentRunNotFound, RunOver
from aitbc.modules.hermes.service.push_configs import PushConfigNotFound

PREFIX = "/a2a/"
MEDIA_TYPE = "application/a2a+json"
_encoder = msgspec.json.Encoder(enc_hook=str)


class VersionNotSupported(Invalid):
    """Only version 1 of A2A is spoken here: send the header A2A-Version with 1.0."""

    code = "a2a_version_not_supported"


class ContentNotSupported(Invalid):
    """A message may hold text and data; files by value or by URL are not taken."""

    code = "a2a_content_not_supported"


class OperationNotSupported(Conflict):
    """This task takes no messages in its state."""

    code = "a2a_operation_not_supported"


class MethodUnknown(NotFound):
    """There is no such method."""

    code = "a2a_method_unknown"


class Fault(Struct, frozen=True):
    """An error in A2A's terms."""

    rpc: int
    http: int
    status: str
    reason: str


_FAULTS: tuple[tuple[type[AppError], Fault], ...] = (
    (AgentRunNotFound, Fault(-32001, 404, "NOT_FOUND", "TASK_NOT_FOUND")),
    (PushConfigNotFound, Fault(-32001, 404, "NOT_FOUND", "TASK_NOT_FOUND")),
    (RunOver, Fault(-32002, 400, "FAILED_PRECONDITION", "TASK_NOT_CANCELABLE")),
    (OperationNotSupported, Fault(-32004, 400, "FAILED_PRECONDITION", "UNSUPPORTED_OPERATION")),
    (ContentNotSupported, Fault(-32005, 400, "INVALID_ARGUMENT", "CONTENT_TYPE_NOT_SUPPORTED")),
    (VersionNotSupported, Fault(-32009, 400, "FAILED_PRECONDITION", "VERSION_NOT_SUPPORTED")),
    (MethodUnknown, Fault(-32601, 404, "NOT_FOUND", "METHOD_NOT_FOUND")),
    (Unauthenticated, Fault(-32600, 401, "UNAUTHENTICATED", "UNAUTHENTICATED")),
    (Forbidden, Fault(-32600, 403, "PERMISSION_DENIED", "PERMISSION_DENIED")),
    (PaymentRequired, Fault(-32600, 402, "FAILED_PRECONDITION", "PAYMENT_REQUIRED")),
    (TooMany, Fault(-32600, 429, "RESOURCE_EXHAUSTED", "RESOURCE_EXHAUSTED")),
    (TooLarge, Fault(-32602, 413, "INVALID_ARGUMENT", "INVALID_PARAMS")),
    (Malformed, Fault(-32700, 400, "INVALID_ARGUMENT", "INVALID_REQUEST")),
    (Invalid, Fault(-32602, 400, "INVALID_ARGUMENT", "INVALID_PARAMS")),
    (NotFound, Fault(-32602, 404, "NOT_FOUND", "INVALID_PARAMS")),
    (Conflict, Fault(-32004, 400, "FAILED_PRECONDITION", "UNSUPPORTED_OPERATION")),
    (NotDone, Fault(-32004, 501, "UNIMPLEMENTED", "UNSUPPORTED_OPERATION")),
    (Unavailable, Fault(-32603, 503, "UNAVAILABLE", "INTERNAL_ERROR")),
)
_INTERNAL = Fault(-32603, 500, "INTERNAL", "INTERNAL_ERROR")


def fault_of(error: AppError) -> Fault:
    """What an error is in A2A."""
    return next((fault for kind, fault in _FAULTS if isinstance(error, kind)), _INTERNAL)


def rpc_error(error: AppError) -> dict[str, Any]:
    """An error as JSON-RPC has it."""
    fault = fault_of(error)
    return {"code": fault.rpc, "message": _message(error), "data": [_info(error, fault)]}


def http_error(error: AppError) -> dict[str, Any]:
    """An error as HTTP+JSON has it."""
    fault = fault_of(error)
    details = [_info(error, fault)]
    return {"error": {"code": fault.http, "status": fault.status, "message": _message(error), "details": details}}


def _info(error: AppError, fault: Fault) -> dict[str, Any]:
    return {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": fault.reason,
        "domain": "a2a-protocol.org",
        "metadata": {"code": error.code},
    }


def _message(error: AppError) -> str:
    faults = [f"{one.pointer.lstrip('/')}: {one.message}" for one in error.fields if one.message not in error.message]
    return " ".join([error.message, *faults])


def encoded(value: Any) -> bytes:
    """JSON as it goes out, without any API key in it."""
    return without_keys(_encoder.encode(value))


def is_rpc(path: str) -> bool:
    """Whether a path is that of JSON-RPC: the agent itself, and nothing below it."""
    return "/" not in path.removeprefix(PREFIX)


def _answer(path: str, error: AppError, request_id: str | None) -> ErrorAnswer:
    """The answer to a request that did not come as far as its operation."""
    fault = fault_of(error)
    headers = {**problem_headers(error)}
    if request_id is not None:
        headers.setdefault("x-request-id", request_id)
    if is_rpc(path):
        body: dict[str, Any] = {"jsonrpc": "2.0", "id": None, "error": rpc_error(error)}
        return ErrorAnswer(fault.http, headers | {"content-type": "application/json"}, encoded(body))
    return ErrorAnswer(fault.http, headers | {"content-type": MEDIA_TYPE}, encoded(http_error(error)))


DIALECT = Dialect(prefix=PREFIX, answer=_answer)
