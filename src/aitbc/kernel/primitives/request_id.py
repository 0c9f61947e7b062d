"""The request id: a context variable that follows a call through logs, SQL, events and other processes."""

from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType
from uuid import UUID

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request that this task serves; none outside of a request."""
event_requests: ContextVar[Mapping[UUID, str | None]] = ContextVar("event_requests", default=MappingProxyType({}))
"""By the id of each event that is being delivered, the request that published it; none of those of no request."""


def current_request_id() -> str | None:
    """The id of the request that this task serves; none outside of a request."""
    return request_id.get()
