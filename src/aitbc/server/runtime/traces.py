"""Traces: who makes the spans of a process, where the settings name a collector."""

from collections.abc import Mapping
from typing import Any, Protocol

from litestar.types import ASGIApp, Receive, Scope, Send

from aitbc.kernel.primitives.errors import ConfigError
from aitbc.kernel.primitives.trace_context import current_span, new_span_id
from aitbc.server.config.settings import TraceSettings


class Spanned:
    """Gives each request a span of its own, which calls to other processes and what is recorded meanwhile name."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection under its span."""
        token = current_span.set(new_span_id())
        try:
            await self._app(scope, receive, send)
        finally:
            current_span.reset(token)


class Traces(Protocol):
    """Makes the spans of one process."""

    def observe(self, scope: Mapping[str, Any], status: int, seconds: float) -> None:
        """Make the span of a request that was answered; status 0: its client had disconnected."""

    def close(self) -> None:
        """Send what is left; blocks for two seconds at most, for the collector may be down."""


def traces_of(settings: TraceSettings, process: str) -> Traces | None:
    """The traces of this process, or none where no collector is named. Raises `ConfigError` without the extra."""
    if settings.endpoint is None:
        return None
    try:
        from aitbc.server.runtime.otlp import OtlpTraces  # noqa: PLC0415 - it needs an extra
    except ImportError:
        raise ConfigError("traces.endpoint: it needs OpenTelemetry: pip install 'aitbc[otlp]'") from None
    return OtlpTraces(settings.endpoint, settings.authorization, settings.share, process)
