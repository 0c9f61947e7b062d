"""Metrics: right values, names by the rules, and no time series for arbitrary input."""

import asyncio
import random
import re
import string
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import pytest
from litestar import Litestar, get
from litestar.params import FromPath
from litestar.testing import AsyncTestClient
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from aitbc.kernel.primitives.errors import Forbidden
from aitbc.kernel.primitives.loop_lag import LoopLag
from aitbc.kernel.primitives.version import Build, commit_of
from aitbc.kernel.telemetry.metrics import Metrics, gauge
from aitbc.server.asgi.boundary import Boundary, Limits

BUILD = Build(version="1.2.3", python="3.11.7", commit="0" * 40)


@get("/jobs/{job:str}")
async def read_job(job: FromPath[str]) -> str:
    return job


@get("/broken")
async def broken() -> None:
    raise RuntimeError


async def samples(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = (await metrics.render()).decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def counted(app: Litestar, metrics: Metrics) -> Boundary:
    """The app behind the boundary, which counts its requests."""
    hosts = frozenset({"testserver.local"})
    return Boundary(cast(Any, app), Limits(), hosts, frozenset(), lambda method, path: None, watch=metrics.observe)


def labels(**values: str) -> frozenset[tuple[str, str]]:
    return frozenset(values.items())


async def test_requests_are_counted_by_method_route_and_status() -> None:
    metrics = Metrics(BUILD)
    app = counted(Litestar([read_job, broken]), metrics)
    async with AsyncTestClient(cast(Any, app)) as client:
        for number in range(5):
            await client.get(f"/jobs/{number}")
        await client.post("/jobs/1")
        await client.get("/broken")
    found = await samples(metrics)
    route = {"method": "GET", "route": "/jobs/{job}"}
    assert found["aitbc_http_requests_total", labels(**route, status="200")] == 5
    assert found["aitbc_http_requests_total", labels(method="GET", route="/broken", status="500")] == 1
    assert found["aitbc_http_request_duration_seconds_count", labels(**route)] == 5
    assert found["aitbc_http_request_duration_seconds_bucket", labels(**route, le="+Inf")] == 5
    assert 0 < found["aitbc_http_request_duration_seconds_sum", labels(**route)] < 5
    build = labels(version="1.2.3", python="3.11.7", commit="0" * 40)
    assert found["aitbc_build_info", build] == 1
    assert found["process_resident_memory_bytes", labels()] > 1e6


async def test_a_thousand_foreign_paths_and_methods_make_no_series() -> None:
    metrics = Metrics(BUILD)
    app = counted(Litestar([read_job]), metrics)
    generator = random.Random(1)
    async with AsyncTestClient(cast(Any, app)) as client:
        for _ in range(1000):
            path = "".join(generator.choices(string.ascii_letters + "/%", k=20)).replace("%", "%41")
            await client.get(f"/{path}")
    for number in range(100):
        metrics.observe({"method": f"BREW{number}"}, 404, 0.1)
        metrics.observe({"method": "GET", "path_template": "/jobs/{job}"}, 0, 0.1)
    requests = [key for key in await samples(metrics) if key[0] == "aitbc_http_requests_total"]
    assert len(requests) == 3
    routes = {dict(found)["route"] for _, found in requests}
    assert routes == {"unmatched", "/jobs/{job}"}
    assert {dict(found)["method"] for _, found in requests} == {"GET", "other"}


async def test_modules_count_with_names_that_keep_the_rules() -> None:
    metrics = Metrics(BUILD)
    metrics.counter("aitbc_leases_expired_total", "Leases that ran out.").inc(2)
    metrics.gauge("aitbc_jobs", "Jobs.", ("state", "kind")).labels("queued", "embed").set(7)
    found = await samples(metrics)
    assert found["aitbc_leases_expired_total", labels()] == 2
    assert found["aitbc_jobs", labels(state="queued", kind="embed")] == 7
    assert not [name for name, _ in found if name.endswith("_created")]


@pytest.mark.parametrize(
    ("make", "name", "meaning", "names"),
    [
        ("counter", "aitbc_jobs", "Jobs.", ()),
        ("gauge", "aitbc_jobs_total", "Jobs.", ()),
        ("gauge", "jobs", "Jobs.", ()),
        ("gauge", "aitbc_Jobs", "Jobs.", ()),
        ("gauge", "aitbc_jobs", " ", ()),
        ("gauge", "aitbc_wait_ms", "Wait.", ()),
        ("gauge", "aitbc_load_percent", "Load.", ()),
        ("gauge", "aitbc_jobs_count", "Jobs.", ()),
        ("gauge", "aitbc_jobs", "Jobs.", ("jobId",)),
        ("gauge", "aitbc_jobs", "Jobs.", ("a", "b", "c", "d", "e")),
    ],
)
def test_a_name_against_the_rules_stops_the_start(make: str, name: str, meaning: str, names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="metric"):
        getattr(Metrics(BUILD), make)(name, meaning, names)


async def test_a_collector_is_asked_once_for_scrapes_that_come_together_and_its_answer_is_kept() -> None:
    metrics = Metrics(BUILD)
    asked = 0

    async def heights() -> Iterable[Metric]:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.01)
        family = gauge("aitbc_block_height", "The highest block.")
        family.add_metric([], asked)
        return [family]

    metrics.collector("blocks", heights, cache_seconds=1.0)
    await asyncio.gather(*(metrics.render() for _ in range(20)))
    assert asked == 1
    assert (await samples(metrics))["aitbc_block_height", labels()] == 1
    await asyncio.sleep(1.0)
    assert (await samples(metrics))["aitbc_block_height", labels()] == 2
    with pytest.raises(ValueError, match="already"):
        metrics.collector("blocks", heights)
    with pytest.raises(ValueError, match=r"1\.0 s"):
        metrics.collector("more", heights, cache_seconds=0.5)


async def test_a_collector_that_fails_hangs_or_doubles_a_name_costs_only_its_own_metrics(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aitbc.kernel.telemetry.metrics.COLLECTOR_SECONDS", 0.05)
    metrics = Metrics(BUILD)

    async def failing() -> Iterable[Metric]:
        raise ConnectionError

    async def hanging() -> Iterable[Metric]:
        await asyncio.sleep(60)
        return []

    async def doubling() -> Iterable[Metric]:
        return [gauge("aitbc_twin", "One."), gauge("aitbc_twin", "Two.")]

    for collect in (failing, hanging, doubling):
        metrics.collector(collect.__name__, collect)
    metrics.observe({"method": "GET"}, 200, 0.1)
    found = await samples(metrics)
    assert found["aitbc_collector_up", labels(collector="failing")] == 0
    assert found["aitbc_collector_up", labels(collector="hanging")] == 0
    assert found["aitbc_collector_up", labels(collector="doubling")] == 1
    assert found["aitbc_http_requests_total", labels(method="GET", route="unmatched", status="200")] == 1
    assert (await metrics.render()).count(b"# TYPE aitbc_twin ") == 1


async def test_the_whole_text_keeps_the_rules_of_prometheus() -> None:
    metrics = Metrics(BUILD, loop_lag=LoopLag())
    metrics.observe({"method": "GET", "path_template": '/a"\n\\'}, 200, 0.1)
    metrics.counter("aitbc_bids_total", "Bids.", ("outcome",)).labels('x"\n').inc()
    text = (await metrics.render()).decode()
    assert text.endswith("\n")
    families = list(text_string_to_metric_families(text))
    assert len({family.name for family in families}) == len(families)
    names = set()
    for family in families:
        assert family.documentation, family.name
        assert family.type != "unknown", family.name
        assert re.fullmatch("[a-z][a-z0-9_]*", family.name)
        for sample in family.samples:
            names.add(sample.name)
            assert sample.name.endswith("_total") is (family.type == "counter"), sample.name
            assert all(re.fullmatch("[a-z][a-z0-9_]*", label) for label in sample.labels)
    ours = {name for name in names if name.startswith("aitbc_")}
    assert ours == {
        "aitbc_build_info",
        "aitbc_bids_total",
        "aitbc_event_loop_frozen_seconds_total",
        "aitbc_event_loop_lag_seconds",
        "aitbc_http_requests_total",
        *(f"aitbc_http_request_duration_seconds_{part}" for part in ("bucket", "count", "sum")),
    }


async def test_websockets_are_counted_by_how_they_ended_and_while_they_are_open() -> None:
    metrics = Metrics(BUILD)
    ends = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/broken":
            raise RuntimeError
        if scope["path"] == "/shut":
            raise Forbidden
        scope["path_template"] = "/live/{name}"
        await send({"type": "websocket.accept"})
        await ends.wait()
        await send({"type": "websocket.close", "code": 4000})

    boundary = Boundary(
        app, Limits(), frozenset({"here"}), frozenset(), lambda method, path: None, watch=metrics.observe
    )
    metrics.gauge("aitbc_websockets_open", "WebSockets that are open.").set_function(lambda: boundary.sockets)

    async def nothing(message: Any = None) -> Any:
        return {"type": "websocket.connect"}

    async def opened(path: str) -> None:
        scope = {"type": "websocket", "scheme": "ws", "path": path, "headers": [(b"host", b"here")]}
        await boundary(scope, nothing, nothing)  # type: ignore[arg-type]

    live = [asyncio.create_task(opened(f"/live/{number}")) for number in range(3)]
    await asyncio.sleep(0.01)
    await opened("/shut")
    with pytest.raises(RuntimeError):
        await opened("/broken")
    assert (await samples(metrics))["aitbc_websockets_open", frozenset()] == 3
    ends.set()
    await asyncio.gather(*live)
    found = await samples(metrics)
    assert found["aitbc_websockets_open", frozenset()] == 0
    assert found["aitbc_websockets_total", labels(route="/live/{name}", status="101")] == 3
    assert found["aitbc_websockets_total", labels(route="unmatched", status="403")] == 1
    assert found["aitbc_websockets_total", labels(route="unmatched", status="500")] == 1
    assert not [name for name, _ in found if name == "aitbc_http_requests_total"]


def test_counting_a_request_costs_microseconds() -> None:
    metrics = Metrics(BUILD)
    scope: Any = {"type": "http", "method": "GET", "path_template": "/api/v1/ai/jobs/{job}"}
    costs = []
    for _ in range(7):
        started = time.process_time()
        for _ in range(3000):
            metrics.observe(scope, 200, 0.01)
        costs.append((time.process_time() - started) / 3000 * 1e6)
    assert min(costs) < 4, costs


def test_the_commit_is_read_from_a_checkout_and_unknown_elsewhere(tmp_path: Path) -> None:
    assert commit_of(tmp_path) is None
    git = tmp_path / ".git"
    (git / "refs/heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    assert commit_of(tmp_path) is None
    (git / "packed-refs").write_text(f"# pack-refs\n{'b' * 40} refs/heads/main\n")
    assert commit_of(tmp_path) == "b" * 40
    (git / "refs/heads/main").write_text("a" * 40)
    assert commit_of(tmp_path) == "a" * 40
    (git / "HEAD").write_text("c" * 40)
    assert commit_of(tmp_path) == "c" * 40
