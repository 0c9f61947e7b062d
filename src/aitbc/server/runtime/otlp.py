"""Spans for a collector: one for each request that a process answers, sent by OTLP over HTTP (extra `otlp`)."""

import hashlib
import re
import threading
from collections.abc import Mapping
from typing import Any

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.request_id import current_request_id
from aitbc.kernel.primitives.secret import Secret
from aitbc.kernel.primitives.version import this_build
from aitbc.kernel.telemetry.metrics import CLIENT_CLOSED_REQUEST, METHODS, UNMATCHED
from aitbc.server.asgi.request_head import trace_parent

QUEUED_MAX = 2048
"""Spans that wait for the collector at most; the oldest are dropped for more."""
BATCH_MAX = 512
EVERY_MILLISECONDS = 1000
EXPORT_SECONDS = 5.0
CLOSE_SECONDS = 2.0
"""How long the end of the process waits for the last spans to be taken."""
SERVER_ERROR = 500
_TRACE_ID = re.compile(r"(?!0{32})[0-9a-f]{32}\Z")


class OtlpTraces:
    """Makes the spans of one process; a thread of the exporter sends them, so that no request ever waits for it."""

    def __init__(self, endpoint: str, authorization: Secret | None, share: float, process: str) -> None:
        build = this_build()
        headers = {} if authorization is None else {"authorization": authorization.reveal()}
        about = {"service.name": "aitbc", "service.instance.id": process, "service.version": build.version}
        self._ids = _TraceIds()
        self._provider = TracerProvider(
            sampler=TraceIdRatioBased(share),
            resource=Resource(about),
            shutdown_on_exit=False,
            id_generator=self._ids,
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(
                OTLPSpanExporter(endpoint, headers=headers, timeout=EXPORT_SECONDS),
                max_queue_size=QUEUED_MAX,
                schedule_delay_millis=EVERY_MILLISECONDS,
                max_export_batch_size=BATCH_MAX,
            )
        )
        self._tracer = self._provider.get_tracer("aitbc", build.version)

    def observe(self, scope: Mapping[str, Any], status: int, seconds: float) -> None:
        """Make the span of a request that was answered; status 0: its client had disconnected.

        Its attributes are the method, the template of its path, the status and the request id: no query, no header, no
        body, and no id of anybody.
        """
        if scope.get("type") != "http":
            return
        end = int(now().timestamp() * 1_000_000) * 1000
        method = scope["method"] if scope["method"] in METHODS else "other"
        route = scope.get("path_template") or UNMATCHED
        request = current_request_id() or ""
        self._ids.trace_id = trace_id_of(request)
        span = self._tracer.start_span(
            f"{method} {route}",
            _context_of(dict(scope["headers"])),
            kind=SpanKind.SERVER,
            start_time=end - int(seconds * 1e9),
            attributes={
                "http.request.method": method,
                "http.route": route,
                "http.response.status_code": status or CLIENT_CLOSED_REQUEST,
                "aitbc.request_id": request,
            },
        )
        if status >= SERVER_ERROR:
            span.set_status(StatusCode.ERROR)
        span.end(end)

    def close(self) -> None:
        """Send what is left; blocks for two seconds at most, for the collector may be down."""
        ending = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        ending.start()
        ending.join(CLOSE_SECONDS)


class _TraceIds(RandomIdGenerator):
    """Gives each trace without a parent the id that follows from its request id, and spans random ones."""

    def __init__(self) -> None:
        self.trace_id = 1
        """Of the request at hand: spans are made on the event loop only, one after the other."""

    def generate_trace_id(self) -> int:
        return self.trace_id


def trace_id_of(request_id: str) -> int:
    """The trace that a request belongs to: its id where that is one of a trace, else a digest of it.

    So all processes that know a request by one id say the same without asking each other.
    """
    text = request_id if _TRACE_ID.match(request_id) else hashlib.sha256(request_id.encode()).hexdigest()[:32]
    return int(text, 16)


def _context_of(headers: Mapping[bytes, bytes]) -> Context:
    """The caller's span, where it named one."""
    parent = trace_parent(headers)
    if parent is None:
        return Context()
    trace, span = (int(part, 16) for part in parent)
    caller = SpanContext(trace, span, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return set_span_in_context(NonRecordingSpan(caller), Context())
