"""Spans for a collector: one for each request that a process answers, sent by OTLP over HTTP (extra `otlp`)."""

import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import requests
import structlog
from google.protobuf.message import DecodeError
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
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
from aitbc.kernel.primitives.trace_context import current_span, new_span_id, trace_id_of
from aitbc.kernel.primitives.version import this_build
from aitbc.kernel.telemetry.metrics import CLIENT_CLOSED_REQUEST, METHODS, UNMATCHED
from aitbc.kernel.telemetry.spans import Span, collect, leave
from aitbc.server.asgi.request_head import trace_parent

QUEUED_MAX = 2048
"""Spans that wait for the collector at most; the oldest are dropped for more."""
BATCH_MAX = 512
EVERY_MILLISECONDS = 1000
EXPORT_SECONDS = 5.0
CLOSE_SECONDS = 2.0
"""How long the end of the process waits for the last spans to be taken."""
SERVER_ERROR = 500
MICROSECOND = timedelta(microseconds=1)
REDIRECTS = range(300, 400)
REASON_LENGTH_MAX = 200

log = structlog.get_logger("aitbc.traces")


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
                OTLPSpanExporter(endpoint, headers=headers, timeout=EXPORT_SECONDS, session=_session()),
                max_queue_size=QUEUED_MAX,
                schedule_delay_millis=EVERY_MILLISECONDS,
                max_export_batch_size=BATCH_MAX,
            )
        )
        self._tracer = self._provider.get_tracer("aitbc", build.version)
        collect(self.record)

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
        self._ids.follow(request, current_span.get())
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

    def record(self, span: Span) -> None:
        """Make a span of what goes on under a request, beside that of the request itself."""
        self._ids.follow(span.request_id, span.id)
        made = self._tracer.start_span(
            span.name,
            _under(trace_id_of(span.request_id), span.parent),
            kind=SpanKind.INTERNAL,
            start_time=_nanoseconds(span.began_at),
            attributes={**span.attributes, "aitbc.request_id": span.request_id},
        )
        if span.failed:
            made.set_status(StatusCode.ERROR)
        made.end(_nanoseconds(span.ended_at))

    def close(self) -> None:
        """Send what is left; blocks for two seconds at most, for the collector may be down."""
        leave(self.record)
        ending = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        ending.start()
        ending.join(CLOSE_SECONDS)


def _session() -> requests.Session:
    """What the exporter sends by: it takes any answer below 400 for a success, and reads none."""
    session = requests.Session()
    session.hooks["response"].append(_look_at)
    return session


def _look_at(response: requests.Response, *_: Any, **_options: Any) -> None:
    """Raise for a redirect, by which nothing was taken, and log what a collector refused of a batch that it took."""
    if response.status_code in REDIRECTS:
        raise requests.HTTPError(f"it redirects to {response.headers.get('Location', 'nowhere')}")
    try:
        refused = ExportTraceServiceResponse.FromString(response.content).partial_success if response.ok else None
    except DecodeError:  # JSON, or a page
        return
    if refused is not None and (refused.rejected_spans or refused.error_message):
        reason = refused.error_message[:REASON_LENGTH_MAX]
        log.warning("spans_refused", count=refused.rejected_spans, reason=reason)


class _TraceIds(RandomIdGenerator):
    """Gives a trace without a parent the id that follows from its request id, and a span the id that was chosen."""

    def __init__(self) -> None:
        self._trace_id, self._span_id = 1, ""

    def follow(self, request_id: str, span_id: str | None) -> None:
        """Say which the next span is, at random without an id: spans are made on one event loop, one by one."""
        self._trace_id, self._span_id = int(trace_id_of(request_id), 16), span_id or new_span_id()

    def generate_trace_id(self) -> int:
        return self._trace_id

    def generate_span_id(self) -> int:
        return int(self._span_id, 16)


def _context_of(headers: Mapping[bytes, bytes]) -> Context:
    """The caller's span, where it named one."""
    parent = trace_parent(headers)
    return Context() if parent is None else _under(*parent)


def _under(trace_id: str, parent: str | None) -> Context:
    """Within a trace, under a span of it that is elsewhere or has ended; none for the root."""
    if parent is None:
        return Context()
    above = SpanContext(int(trace_id, 16), int(parent, 16), is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return set_span_in_context(NonRecordingSpan(above), Context())


def _nanoseconds(at: datetime) -> int:
    return (at - datetime.fromtimestamp(0, UTC)) // MICROSECOND * 1000
