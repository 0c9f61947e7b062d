"""Dialects of errors: a public protocol that a module serves has a form of its own for what goes wrong.

A module states a `Dialect` in its manifest. The boundary notes it in the scope of each request for its paths, so that
everything from the boundary to the handler answers errors in the caller's form.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from litestar import Request, Response
from msgspec import Struct

from aitbc.kernel.http.problems import PROBLEM_TYPE, convert_error, problem, problem_headers
from aitbc.kernel.primitives.errors import AppError
from aitbc.kernel.primitives.request_id import current_request_id

DIALECT = "aitbc.dialect"
"""The key of the `Dialect` in an ASGI scope; without one errors are problem documents."""


class ErrorAnswer(Struct, frozen=True):
    """The answer to a request that failed."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case, the content type among them."""
    body: bytes


class Shown(Struct, frozen=True, kw_only=True):
    """Examples of an operation of a public protocol, by which the reference describes it: `opt["shown"]` of a route."""

    request: Any
    """A body that it takes; none where it takes no JSON."""
    answer: Any
    """The body of an answer; none where it is no JSON."""
    streams: bool
    """Whether it also answers as a stream of events."""


class Dialect(Struct, frozen=True):
    """The paths of a public protocol, and how it says what went wrong."""

    prefix: str
    """The first segment of its paths with a slash at each end: `/v1/`."""
    answer: Callable[[str, AppError, str | None], ErrorAnswer]
    """The answer to an error, by path, error and request id."""


def dialect_at(dialects: Sequence[Dialect], path: str) -> Dialect | None:
    """The dialect of a path; none for the paths of the API itself."""
    path = f"{path}/"
    for dialect in dialects:  # of every request: a generator would cost more than the look
        if path.startswith(dialect.prefix):
            return dialect
    return None


def error_answer(scope: Any, error: AppError, request_id: str | None) -> ErrorAnswer:
    """The answer to an error in the form that the caller of this request understands."""
    dialect: Dialect | None = scope.get(DIALECT)
    if dialect is not None:
        return dialect.answer(scope["path"], error, request_id)
    headers = {**problem_headers(error), "content-type": PROBLEM_TYPE}
    return ErrorAnswer(error.status, headers, problem(error, request_id))


def answer_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """The response for an exception of a handler, or of the framework before it."""
    answer = error_answer(request.scope, convert_error(error, request.scope), current_request_id())
    headers = {name: value for name, value in answer.headers.items() if name != "content-type"}
    return Response(answer.body, status_code=answer.status, headers=headers, media_type=answer.headers["content-type"])
