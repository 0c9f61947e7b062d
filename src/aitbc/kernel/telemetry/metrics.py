"""Prometheus metrics: requests, the process and what modules count, with stable names and few labels."""

import asyncio
import re
import time
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import structlog
from litestar.enums import ScopeType
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Metric,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily

from aitbc.kernel.primitives.loop_lag import LoopLag
from aitbc.kernel.primitives.version import Build

CONTENT_TYPE = "text/plain; version=0.0.4"
UNMATCHED = "unmatched"
"""The `route` label of requests that match no route, so that arbitrary paths create no time series."""
CLIENT_CLOSED_REQUEST = 499
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Bucket boundaries of durations, in seconds; the last one covers long polls."""
CACHE_SECONDS_MIN = 1.0
COLLECTOR_SECONDS = 2.0
"""The timeout of a collector; after it, its metrics are left out of this scrape."""
LABELS_MAX = 4

_NAME = re.compile(r"aitbc_[a-z][a-z0-9]*(_[a-z0-9]+)*")
_LABEL = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_RESERVED = ("_count", "_sum", "_bucket", "_created", "_info")
_NO_BASE_UNITS = ("_ms", "_milliseconds", "_microseconds", "_minutes", "_hours", "_kib", "_mib", "_percent")

log = structlog.get_logger("aitbc.metrics")
disable_created_metrics()  # type: ignore[no-untyped-call]

Collect = Callable[[], Awaitable[Iterable[Metric]]]


class Metrics:
    """The metrics of one process; modules register theirs once, at start."""

    def __init__(self, build: Build, *, loop_lag: LoopLag | None = None) -> None:
        self._registry = CollectorRegistry()
        self._build = build
        self._loop_lag = loop_lag
        self._requests: dict[tuple[str, str, int], int] = {}
        self._durations: dict[tuple[str, str], _Durations] = {}
        self._sockets: dict[tuple[str, int], int] = {}
        self._collectors: dict[str, _Collector] = {}
        ProcessCollector(registry=self._registry)

    # What modules use

    def counter(self, name: str, meaning: str, labels: Sequence[str] = ()) -> Counter:
        """A number that only grows; its name ends in `_total`."""
        return Counter(_checked(name, meaning, labels, ending="_total"), meaning, labels, registry=self._registry)

    def gauge(self, name: str, meaning: str, labels: Sequence[str] = ()) -> Gauge:
        """A number that rises and falls."""
        return Gauge(_checked(name, meaning, labels), meaning, labels, registry=self._registry)

    def collector(self, name: str, collect: Collect, *, cache_seconds: float = 5.0) -> None:
        """Register a function that collects metrics at a scrape, from the database for instance; its result is cached.

        A collector that fails or takes too long loses its own metrics and no others, and shows in `aitbc_collector_up`.
        """
        if name in self._collectors:
            raise ValueError(f"there is a collector {name} already")
        if cache_seconds < CACHE_SECONDS_MIN:
            raise ValueError(f"a collector is asked every {CACHE_SECONDS_MIN} s at most")
        self._collectors[name] = _Collector(name, collect, cache_seconds)

    # What the server uses

    def observe(self, scope: Mapping[str, Any], status: int, seconds: float) -> None:
        """Count one answered request, or one WebSocket that has ended; status 0: its client had disconnected."""
        if scope.get("type") == ScopeType.WEBSOCKET:  # it may last for days, so its duration is not recorded
            ended = (scope.get("path_template") or UNMATCHED, status)
            self._sockets[ended] = self._sockets.get(ended, 0) + 1
            return
        method = scope["method"]
        if method not in METHODS:
            method = "other"
        route = scope.get("path_template") or UNMATCHED
        count = (method, route, status or CLIENT_CLOSED_REQUEST)
        self._requests[count] = self._requests.get(count, 0) + 1
        durations = self._durations.get((method, route))
        if durations is None:
            durations = self._durations[method, route] = _Durations()
        durations.buckets[bisect_left(SECONDS, seconds)] += 1
        durations.sum += seconds

    async def render(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(_Families(await self._families()))

    async def samples(self) -> dict[str, float]:
        """The value of each metric that is no histogram, by name and labels: `aitbc_jobs{state="queued"}`.

        One that has no sample now, such as the count of jobs while there is no job, is 0: `aitbc_jobs{}`.
        """
        found: dict[str, float] = {}
        for family in await self._families():
            if family.type not in ("gauge", "counter"):
                continue
            ending = "_total" if family.type == "counter" else ""
            found |= {_sample_name(one.name, one.labels): float(one.value) for one in family.samples} or {
                f"{family.name}{ending}{{}}": 0.0
            }
        return found

    async def _families(self) -> list[Metric]:
        """All metrics, each name once."""
        collectors = list(self._collectors.values())
        answers = await asyncio.gather(*(collector.metrics() for collector in collectors))
        up = gauge("aitbc_collector_up", "Whether a collector of metrics answered.", ("collector",))
        for collector, answer in zip(collectors, answers, strict=True):
            up.add_metric([collector.name], 0.0 if answer is None else 1.0)
        families: dict[str, Metric] = {}
        ours = (*self._builtin(), *self._registry.collect(), *([up] if collectors else []))
        for metric in (*ours, *(metric for answer in answers for metric in answer or ())):
            if families.setdefault(metric.name, metric) is not metric:
                log.error("metric_duplicate", metric=metric.name)  # Prometheus would reject the whole scrape
        return list(families.values())

    def _builtin(self) -> Iterable[Metric]:
        build = {
            "version": self._build.version,
            "commit": self._build.commit or "unknown",
            "python": self._build.python,
        }
        yield InfoMetricFamily("aitbc_build", "Which build runs here.", value=build)
        if self._loop_lag is not None:
            lag = gauge("aitbc_event_loop_lag_seconds", "By how much the last tick of the event loop was late.")
            lag.add_metric([], self._loop_lag.lag_seconds)
            frozen = counter("aitbc_event_loop_frozen_seconds_total", "Seconds in which the event loop stood still.")
            frozen.add_metric([], self._loop_lag.frozen_seconds_total)
            yield from (lag, frozen)
        requests = CounterMetricFamily(
            "aitbc_http_requests_total", "Requests answered.", labels=("method", "route", "status")
        )
        for (method, route, status), count in sorted(self._requests.items()):
            requests.add_metric([method, route, str(status)], count)
        yield requests
        sockets = CounterMetricFamily(
            "aitbc_websockets_total",
            "WebSockets that have ended; 101 are those that were open.",
            labels=("route", "status"),
        )
        for (route, status), count in sorted(self._sockets.items()):
            sockets.add_metric([route, str(status)], count)
        yield sockets
        durations = HistogramMetricFamily(
            "aitbc_http_request_duration_seconds", "Seconds from a request to its answer.", labels=("method", "route")
        )
        for labels, spread in sorted(self._durations.items()):
            durations.add_metric(labels, spread.cumulative(), spread.sum)
        yield durations


def gauge(name: str, meaning: str, labels: Sequence[str] = ()) -> GaugeMetricFamily:
    """A gauge for a collector, to fill with `add_metric(label values, value)`."""
    return GaugeMetricFamily(_checked(name, meaning, labels), meaning, labels=labels)


def counter(name: str, meaning: str, labels: Sequence[str] = ()) -> CounterMetricFamily:
    """A counter for a collector, to fill with `add_metric(label values, value)`."""
    return CounterMetricFamily(_checked(name, meaning, labels, ending="_total"), meaning, labels=labels)


def _sample_name(name: str, labels: Mapping[str, str]) -> str:
    within = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
    return f"{name}{{{within}}}" if within else name


class _Durations:
    __slots__ = ("buckets", "sum")

    def __init__(self) -> None:
        self.buckets = [0] * (len(SECONDS) + 1)
        self.sum = 0.0

    def cumulative(self) -> list[tuple[str, float]]:
        """Each bucket's upper bound and cumulative count, as the text format needs them."""
        total, found = 0, []
        for bound, count in zip((*SECONDS, float("inf")), self.buckets, strict=True):
            total += count
            found.append((str(bound) if bound <= SECONDS[-1] else "+Inf", float(total)))
        return found


class _Collector:
    """A registered collector with its cached result; concurrent scrapes share one call."""

    def __init__(self, name: str, collect: Collect, cache_seconds: float) -> None:
        self.name = name
        self._collect = collect
        self._cache_seconds = cache_seconds
        self._lock = asyncio.Lock()
        self._cached: Sequence[Metric] | None = None
        self._collected_at = float("-inf")

    async def metrics(self) -> Sequence[Metric] | None:
        """The metrics, from the cache while it is fresh; none after a failure, which is cached as long."""
        async with self._lock:
            if time.monotonic() - self._collected_at >= self._cache_seconds:
                self._cached = await self._call()
                self._collected_at = time.monotonic()
            return self._cached

    async def _call(self) -> Sequence[Metric] | None:
        try:
            async with asyncio.timeout(COLLECTOR_SECONDS):
                return list(await self._collect())
        except Exception as error:  # noqa: BLE001 - the other metrics are answered all the same
            log.warning("collector_failed", collector=self.name, reason=repr(error))
            return None


class _Families:
    """Collected metric families, as the registry that `generate_latest` expects."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """All families."""
        return self._families


def _checked(name: str, meaning: str, labels: Sequence[str], *, ending: str | None = None) -> str:
    """The name, checked against the rules of Prometheus and ours: prefix, base units, help text, few labels."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"the metric {name} must read aitbc_words_in_lower_case")
    if name.endswith("_total") is not (ending == "_total"):
        raise ValueError(f"the metric {name}: counters, and only they, end in _total")
    if name.removesuffix("_total").endswith((*_RESERVED, *_NO_BASE_UNITS)):
        raise ValueError(f"the metric {name} ends in a reserved word, or in a unit other than seconds, bytes and ratio")
    if not meaning.strip():
        raise ValueError(f"the metric {name} needs a sentence of help")
    if len(labels) > LABELS_MAX or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError(f"the metric {name} may have {LABELS_MAX} labels in lower case")
    return name
