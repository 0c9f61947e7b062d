"""The request id: a context variable that follows a call through logs, SQL, events and other processes."""

from contextvars import ContextVar

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request that this task serves; none outside of a request."""


def current_request_id() -> str | None:
    """The id of the request that this task serves; none outside of a request."""
    return request_id.get()
