"""Traces: who makes the spans of a process, where the settings name a collector."""

from collections.abc import Mapping
from typing import Any, Protocol

from aitbc.kernel.primitives.errors import ConfigError
from aitbc.server.config.settings import TraceSettings


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
