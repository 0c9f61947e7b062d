"""Simple reads go straight to their handlers, and nobody can tell by the answer."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar import Litestar

from aitbc.kernel.application import bounded, litestar
from aitbc.kernel.build import this_build
from aitbc.kernel.db import Target
from aitbc.kernel.metrics import Metrics
from aitbc.kernel.straight import Ways
from tests.house import Caller, Stage, open_house

VARYING = ("x-request-id", "date")
NOBODY = "aitbc_live_000000000000000000000000000000000000000"


def ways_of(stage: Stage) -> tuple[Litestar, Ways]:
    """The application of a stage, and which of its operations go straight."""
    house = stage.house
    app = litestar(house, this_build(), Metrics(this_build()))
    things = {**house.wired.services, "identity": house.identity, "operations": house.operations, "house": house}
    return app, Ways(app, things)


async def both(stage: Stage, monkeypatch: pytest.MonkeyPatch, path: str, **headers: str) -> list[dict[str, Any]]:
    """The answers of the straight way and of the framework's own to the same request."""
    found = []
    for way in ("straight", "framework's"):
        with monkeypatch.context() as patch:
            if way != "straight":
                patch.setattr(Ways, "find", lambda self, path: (None, ""))
            answer = await httpx.AsyncClient(transport=stage.transport, base_url="http://localhost").get(
                path, headers=headers
            )
        body = answer.json() if answer.content else None
        if isinstance(body, dict):
            body.pop("request_id", None)
        kept = {name: value for name, value in answer.headers.items() if name not in VARYING}
        if answer.status_code >= 400:  # the length counts the request id, whose length is the same
            assert answer.headers["x-request-id"] != ""
        found.append({"status": answer.status_code, "body": body, "headers": kept})
    return found


async def a_job(who: Caller) -> str:
    answer = await who.post(
        "/api/v1/ai/jobs", {"kind": "embed", "input": {"texts": ["to be read"]}, "max_price": "0.5"}
    )
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def test_answers_of_both_ways_are_the_same(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_house(target, tmp_path) as stage:
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
            (f"/api/v1/ai/jobs/{job}?full=1", {"authorization": key}, 422),
            (f"/api/v1/ai/jobs/{job}x", {"authorization": key}, 404),
            ("/api/v1/ai/jobs/job_", {"authorization": key}, 404),
            ("/api/v1/ai/jobs/%6Aob", {"authorization": key}, 404),
            ("/api/v1/ai/nothing", {"authorization": key}, 404),
        ]
        for path, headers, status in cases:
            straight, framework = await both(stage, monkeypatch, path, **headers)
            assert straight == framework, path
            assert straight["status"] == status, (path, straight)


async def test_every_straight_operation_answers_an_unknown_name_as_the_framework_would(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_house(target, tmp_path) as stage:
        who = await stage.who()
        _, ways = ways_of(stage)
        assert "/api/v1/ai/jobs/" in ways.named
        paths = [path for path, way in ways.fixed.items() if way is not None]
        paths += [prefix + name for prefix in ways.named for name in ("nobody", "job_00000000000000000000000000")]
        for path in paths:
            straight, framework = await both(stage, monkeypatch, path, authorization=f"Bearer {who.secret}")
            assert straight == framework, path


async def test_a_failure_of_ours_is_told_as_500_and_logged(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_house(target, tmp_path) as stage:
        who = await stage.who(funds="5")
        job = await a_job(who)

        async def broken(*_: Any) -> None:
            raise ValueError("a fault of ours")

        monkeypatch.setattr(type(stage.service("ai")), "job", broken)
        answer = await who.get(f"/api/v1/ai/jobs/{job}")
        assert answer.status_code == 500
        assert "a fault of ours" not in answer.text
        assert answer.json()["code"] == "internal_error"


async def test_metrics_name_the_route_of_a_straight_read_like_any_other(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_house(target, tmp_path) as stage:
        who = await stage.who(funds="5")
        job = await a_job(who)
        metrics = Metrics(this_build())
        app = bounded(litestar(stage.house, this_build(), metrics), stage.house, metrics)
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://localhost")  # type: ignore[arg-type]
        headers = {"authorization": f"Bearer {who.secret}"}
        assert (await client.get(f"/api/v1/ai/jobs/{job}", headers=headers)).status_code == 200
        with monkeypatch.context() as patch:
            patch.setattr(Ways, "find", lambda self, path: (None, ""))
            assert (await client.get(f"/api/v1/ai/jobs/{job}", headers=headers)).status_code == 200
        told = (await metrics.render()).decode()
        assert 'aitbc_http_requests_total{method="GET",route="/api/v1/ai/jobs/{job}",status="200"} 2.0' in told
