"""Which request this is: an id that follows a call through logs, SQL, events and other processes."""

from contextvars import ContextVar

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request being answered here, or none outside of one."""


def current_request_id() -> str | None:
    """The id of the request being answered in this task."""
    return request_id.get()
