"""The trace context of the W3C: which trace a request belongs to, which span of it goes on, and how that is passed on.

The trace follows from the request id, and spans of jobs and deliveries from their own ids, so that processes and miners
that never spoke of it name the same ones.
"""

import hashlib
import os
import re
from contextvars import ContextVar

current_span: ContextVar[str | None] = ContextVar("current_span", default=None)
"""The span of the request that this task serves, in hexadecimal; none outside of a request, and where nobody traces."""
_TRACE_ID = re.compile(r"(?!0{32})[0-9a-f]{32}\Z")


def trace_id_of(request_id: str) -> str:
    """The trace that a request belongs to: its id where that is one of a trace, else a digest of it."""
    return request_id if _TRACE_ID.match(request_id) else hashlib.sha256(request_id.encode()).hexdigest()[:32]


def span_id_of(thing: str) -> str:
    """The span of a thing with an id of its own: a job, an attempt, a delivery."""
    return hashlib.sha256(thing.encode()).hexdigest()[:16]


def new_span_id() -> str:
    """A random span."""
    return os.urandom(8).hex()


def traceparent_of(request_id: str, span_id: str) -> str:
    """The header `traceparent` for a call that belongs to a request, from one of its spans."""
    return f"00-{trace_id_of(request_id)}-{span_id}-01"
