"""Most operations go straight to their handlers, and nobody can tell by the answer."""

import json
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives.version import this_build
from aitbc.kernel.telemetry.metrics import Metrics
from aitbc.server.asgi.fast_path import FastRoute, FastRoutes
from aitbc.server.runtime.application import asgi_app, litestar
from tests.app import Caller, TestApp, running_app
from tests.scale import scaled

VARYING = ("x-request-id", "date")
NOBODY = "aitbc_live_000000000000000000000000000000000000000"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop for this file, so that its tests share an app."""
    return "asyncio"


@pytest.fixture(scope="module")
async def stage(target: Target, tmp_path_factory: pytest.TempPathFactory, anyio_backend: str) -> AsyncIterator[TestApp]:
    """The app of this file."""
    async with running_app(target, tmp_path_factory.mktemp("app")) as stage:
        yield stage


def ways_of(stage: TestApp) -> list[tuple[str, FastRoute]]:
    """Which operations go straight."""
    app = litestar(stage.runtime, this_build(), Metrics(this_build()))
    wired = stage.runtime.wired
    return list(FastRoutes(app, {k: v for module in wired.modules for k, v in wired.offered(module).items()}))


async def both(
    stage: TestApp,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    method: str = "GET",
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """The answers of the straight way and of the framework's own to the same request."""
    found = []
    for way in ("straight", "framework's"):
        with monkeypatch.context() as patch:
            if way != "straight":
                patch.setattr(FastRoutes, "find", lambda self, method, path: (None, ""))
            client = httpx.AsyncClient(transport=stage.transport, base_url="http://localhost")
            answer = await client.request(method, path, content=body, headers=headers)
        told = answer.json() if answer.content else None
        if isinstance(told, dict):
            told.pop("request_id", None)
        kept = {name: value for name, value in answer.headers.items() if name not in VARYING}
        found.append({"status": answer.status_code, "body": told, "headers": kept})
    return found


async def a_job(who: Caller) -> str:
    answer = await who.post(
        "/api/v1/ai/jobs", {"kind": "embed", "input": {"texts": ["to be read"]}, "max_price": "0.5"}
    )
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def test_answers_of_both_ways_are_the_same(stage: TestApp, monkeypatch: pytest.MonkeyPatch) -> None:
    who, other = await stage.who(funds="5"), await stage.who("other")
    weak = await stage.who("weak", scopes=["chain:read"])
    job = await a_job(who)
    key, foreign, poor = (f"Bearer {one.secret}" for one in (who, other, weak))
    cases: list[tuple[str, dict[str, str], int]] = [
        (f"/api/v1/ai/jobs/{job}", {"authorization": key}, 200),
        (f"/api/v1/ai/jobs/{job}", {"x-api-key": who.secret}, 200),
        (f"/api/v1/ai/jobs/{job}", {"authorization": foreign}, 404),
        (f"/api/v1/ai/jobs/{job}", {"authorization": poor}, 403),
        (f"/api/v1/ai/jobs/{job}", {}, 401),
        (f"/api/v1/ai/jobs/{job}", {"authorization": key, "x-api-key": who.secret}, 401),
        (f"/api/v1/ai/jobs/{job}", {"authorization": f"Bearer {NOBODY}"}, 401),
        ("/api/v1/ai/jobs?limit=2&status=queued", {"authorization": key}, 200),
        ("/api/v1/ai/jobs?limit=2&state=queued", {"authorization": key}, 200),
        ("/api/v1/ai/jobs?limit=5000", {"authorization": key}, 422),
        ("/api/v1/ai/jobs?limit=1&limit=2", {"authorization": key}, 422),
        ("/api/v1/ai/jobs?limit=01", {"authorization": key}, 422),
        ("/api/v1/ai/jobs?cursor=x", {"authorization": key}, 422),
        (f"/api/v1/ai/jobs/{job}/wait?seconds=0", {"authorization": key}, 200),
        (f"/api/v1/ai/jobs/{job}?full=1", {"authorization": key}, 422),
        (f"/api/v1/ai/jobs/{job}x", {"authorization": key}, 404),
        ("/api/v1/ai/jobs/job_", {"authorization": key}, 404),
        ("/api/v1/ai/jobs/%6Aob", {"authorization": key}, 404),
        ("/api/v1/ai/nothing", {"authorization": key}, 404),
    ]
    for path, headers, status in cases:
        straight, framework = await both(stage, monkeypatch, path, headers=headers)
        assert straight == framework, path
        assert straight["status"] == status, (path, straight)


NAMES = ("nobody", "job_00000000000000000000000000")
BODIES = (None, b"{}", b"[]", b'{"there":"is no such field"}', b"{", b'"text"')


async def test_every_straight_operation_refuses_as_the_framework_would(
    stage: TestApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    who = await stage.who()
    ways = ways_of(stage)
    templates = {(method, way.template) for method, way in ways}
    assert ("GET", "/api/v1/ai/jobs/{job}") in templates
    assert ("POST", "/api/v1/ai/jobs") in templates
    assert ("POST", "/api/v1/gpu/polls") in templates
    assert ("POST", "/api/v1/gpu/leases/{attempt}/result") in templates
    for number, (method, way) in enumerate(ways):
        bodies = scaled([BODIES[number % len(BODIES)]], BODIES)
        names = scaled([NAMES[number % len(NAMES)]], NAMES) if "{" in way.template else NAMES[:1]
        for name in names:
            path = re.sub(r"\{[^}]*\}", name, way.template)
            for body in bodies if method != "GET" else (None,):
                headers = {"authorization": f"Bearer {who.secret}"}
                if body is not None:
                    headers["content-type"] = "application/json"
                straight, framework = await both(stage, monkeypatch, path, method, body, headers)
                if straight["status"] < 300 and framework["status"] == 409:
                    continue  # what is done once: the first of the two did it
                if straight["status"] < 300:
                    assert framework["status"] == straight["status"], (method, path, body)
                    assert framework["headers"].keys() == straight["headers"].keys()
                else:
                    assert straight == framework, (method, path, body)


async def test_commands_are_refused_for_their_keys_alike(stage: TestApp, monkeypatch: pytest.MonkeyPatch) -> None:
    who = await stage.who(funds="5")
    command = {"kind": "embed", "input": {"texts": ["to be repeated"]}, "max_price": "0.5"}
    body = json.dumps(command).encode()
    headers = {"authorization": f"Bearer {who.secret}", "content-type": "application/json"}
    path = "/api/v1/ai/jobs"
    for key in (None, "", "x" * 300):
        given = headers | ({} if key is None else {"idempotency-key": key})
        straight, framework = await both(stage, monkeypatch, path, "POST", body, given)
        assert straight == framework
        assert straight["status"] == 422
    keyed = headers | {"idempotency-key": "one"}
    first, again = await both(stage, monkeypatch, path, "POST", body, keyed)
    assert (first["status"], again["status"]) == (201, 201)
    assert first["body"] == again["body"]
    assert again["headers"].pop("idempotency-replayed") == "true"
    assert first["headers"] == again["headers"]
    other = body.replace(b"repeated", b"something else")
    for answer in await both(stage, monkeypatch, path, "POST", other, keyed):
        assert answer["status"] == 422


async def test_a_failure_of_ours_is_told_as_500_and_logged(stage: TestApp, monkeypatch: pytest.MonkeyPatch) -> None:
    who = await stage.who(funds="5")
    job = await a_job(who)

    async def broken(*_: Any) -> None:
        raise ValueError("a fault of ours")

    monkeypatch.setattr(type(stage.service("ai").jobs), "get", broken)
    answer = await who.get(f"/api/v1/ai/jobs/{job}")
    assert answer.status_code == 500
    assert "a fault of ours" not in answer.text
    assert answer.json()["code"] == "internal_error"


async def test_metrics_name_the_route_of_a_straight_read_like_any_other(
    stage: TestApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    who = await stage.who(funds="5")
    job = await a_job(who)
    metrics = Metrics(this_build())
    app = asgi_app(litestar(stage.runtime, this_build(), metrics), stage.runtime, metrics)
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://localhost")  # type: ignore[arg-type]
    headers = {"authorization": f"Bearer {who.secret}"}
    assert (await client.get(f"/api/v1/ai/jobs/{job}", headers=headers)).status_code == 200
    with monkeypatch.context() as patch:
        patch.setattr(FastRoutes, "find", lambda self, method, path: (None, ""))
        assert (await client.get(f"/api/v1/ai/jobs/{job}", headers=headers)).status_code == 200
    told = (await metrics.render()).decode()
    assert 'aitbc_http_requests_total{method="GET",route="/api/v1/ai/jobs/{job}",status="200"} 2.0' in told
