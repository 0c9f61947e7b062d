"""Every door of the whole application: described, guarded, and closed to those without the right key."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from aitbc.kernel.crypto.api_key import new_key
from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.identity.principal import PUBLIC
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.ids import new_id
from aitbc.kernel.primitives.version import this_build
from aitbc.kernel.telemetry.metrics import Metrics
from aitbc.server.asgi.app_options import handlers
from aitbc.server.config.placement import LEGACY_COORDINATOR_PREFIX, LEGACY_PREFIXES
from aitbc.server.runtime.application import litestar
from tests.app import TestApp, running_app


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop for the whole file, so that its tests share an app."""
    return "asyncio"


@pytest.fixture(scope="module")
async def stage(target: Target, tmp_path_factory: pytest.TempPathFactory, anyio_backend: str) -> AsyncIterator[TestApp]:
    """The running app."""
    async with running_app(target, tmp_path_factory.mktemp("state")) as stage:
        yield stage


async def description(stage: TestApp) -> dict[str, Any]:
    """The OpenAPI document, as a caller gets it."""
    async with stage.client() as client:
        return json.loads((await client.get("/openapi.json")).content)  # type: ignore[no-any-return]


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Path, method and operation of everything that is described."""
    return [(path, method, told) for path, item in document["paths"].items() for method, told in item.items()]


async def test_the_description_is_valid_and_complete(stage: TestApp) -> None:
    document = await description(stage)
    OpenAPIV31SpecValidator(document).validate()
    for path, method, told in operations(document):
        where = f"{method} {path}"
        assert told["operationId"], where
        assert told["summary"], where
        assert told["description"], where
        assert any(int(status) >= 400 for status in told["responses"] if status.isdigit()), where


async def test_every_time_is_described_as_one_and_every_pattern_ends_as_ecma_262_has_it(stage: TestApp) -> None:
    document = await description(stage)
    times = [
        told
        for schema in document["components"]["schemas"].values()
        for name, one in schema.get("properties", {}).items()
        for told in one.get("anyOf", [one])
        if name.endswith("_at") and told.get("type") != "null"
    ]
    assert len(times) > 20
    assert {told.get("format") for told in times} == {"date-time"}
    job = document["paths"]["/api/v1/ai/jobs/{job}"]["get"]["responses"]["200"]["content"]["application/json"]
    assert datetime.fromisoformat(job["example"]["created_at"]).tzinfo is not None
    async with stage.client() as client:
        kinds = (await client.get("/api/v1/ai/kinds")).text
    assert r"\\Z" not in json.dumps(document) + kinds


async def test_every_list_is_an_object_that_can_grow(stage: TestApp) -> None:
    document = await description(stage)
    for path, method, told in operations(document):
        for status, answer in told["responses"].items():
            shape = answer.get("content", {}).get("application/json", {}).get("schema", {})
            assert shape.get("type") != "array", f"{method} {path} answers {status} with a bare list"


async def test_entries_of_one_moment_are_all_found_page_by_page(
    stage: TestApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin, moment = await stage.admin(), now()
    with monkeypatch.context() as still:
        still.setattr("aitbc.kernel.database.unit_of_work.now", lambda: moment)
        for database in (stage.runtime.platform.kernel, stage.runtime.wired.databases["ai"]):
            async with database.unit_of_work() as uow:
                for number in range(4):
                    await uow.audit("acct_a", "key_a", "test.same_moment", f"{database.module} {number}")
    found: list[str] = []
    cursor = None
    while True:
        query = {"limit": 2, "action": "test.same_moment"} | ({"cursor": cursor} if cursor else {})
        page = (await admin.get("/api/v1/operations/audit", **query)).json()
        found += [entry["object"] for entry in page["data"]]
        if not page["has_more"]:
            break
        cursor = page["next_cursor"]
    assert sorted(found) == [f"{module} {number}" for module in ("ai", "kernel") for number in range(4)]


async def test_without_a_key_only_the_open_doors_answer(stage: TestApp) -> None:
    document = await description(stage)
    revoked = await stage.who("revoked")
    await stage.runtime.identity.revoke(revoked.principal, revoked.principal.key)
    expired = await stage.runtime.identity.issue(
        account=revoked.principal.account, kind="admin", name="old", lifetime=timedelta(seconds=-1)
    )
    secrets: list[str | None] = [None, new_key("live"), new_key("live")[:-1], "x", revoked.secret, expired.secret]
    async with stage.client() as client:
        for path, method, told in operations(document):
            if not told.get("security"):
                continue
            concrete = path.replace("{", "").replace("}", "")
            for secret in secrets:
                headers = {"Authorization": f"Bearer {secret}"} if secret else {}
                body: dict[str, Any] = {"json": {}} if method in ("post", "put", "patch") else {}
                answer = await client.request(method, concrete, headers=headers, **body)
                assert answer.status_code == 401, f"{method} {path} with {secret}: {answer.text}"
                form = (
                    "json" if path.startswith("/v1/") else "problem+json"
                )  # as the clients of those protocols read it
                assert answer.headers["content-type"] == f"application/{form}"


OPEN = {
    *("/docs", "/docs/docs.css", "/docs/rapidoc-9.3.8.js", "/docs/errors", "/docs/errors.json", "/openapi.json"),
    *(
        "/healthz",
        "/readyz",
        "/version",
        "/health",
        "/services",
        "/ai",
        "/monitoring",
        "/hermes",
        "/plugin",
        "/.well-known/security.txt",
    ),
    *("/api/v1/ai/kinds", "/api/v1/ai/models", "/api/v1/gpu/enrolments", "/api/v1/trading/chain/keys"),
    "/api/v1/gpu/enrolment-codes",
    *("/a2a/keys", "/a2a/{agent}/.well-known/agent-card.json"),
    *("/api/v1/monitoring/status", "/api/v1/monitoring/push"),
}
"""Whatever anybody may call, described or not; under the older prefixes what only reads may join it."""


async def test_the_router_has_no_other_open_doors_than_these(stage: TestApp) -> None:
    app = litestar(stage.runtime, this_build(), Metrics(this_build()))
    legacy_prefixes = tuple(f"/{prefix}/" for prefix in (*LEGACY_PREFIXES, LEGACY_COORDINATOR_PREFIX))
    found = {
        (path, method)
        for handler, path, methods in handlers(app)
        for method in methods - {"OPTIONS"}
        if handler.opt["permission"] == PUBLIC
    }
    assert {path for path, _ in found if not path.startswith(legacy_prefixes)} == OPEN
    changing = {(path, method) for path, method in found if method != "GET"}
    doors = ("gpu/enrolments", "gpu/enrolment-codes", "monitoring/push")
    assert changing == {(f"/api/v1/{door}", "POST") for door in doors}


async def test_a_key_without_the_scope_is_refused(stage: TestApp) -> None:
    narrow = await stage.who(scopes=("self:read",))
    document = await description(stage)
    for path, method, told in operations(document):
        if not told.get("security") or told["x-permission"] == "self:read":
            continue
        concrete = path.replace("{", "").replace("}", "")
        body: dict[str, Any] = {"json": {}} if method in ("post", "put", "patch") else {}
        answer = await narrow.client.request(method, concrete, headers={"Idempotency-Key": new_id("once")}, **body)
        assert answer.status_code in (403, 415), f"{method} {path}: {answer.status_code} {answer.text}"


async def test_two_authorization_headers_are_refused(stage: TestApp) -> None:
    caller = await stage.who()
    headers = [("Authorization", f"Bearer {caller.secret}")] * 2
    async with stage.client() as client:
        assert (await client.get("/api/v1/identity/keys/self", headers=headers)).status_code in (400, 401)
        assert (await client.get(f"/api/v1/identity/keys/self?key={caller.secret}")).status_code == 401


async def test_accounts_and_keys_over_http(stage: TestApp) -> None:
    admin = await stage.admin()
    made = await admin.post("/api/v1/identity/accounts", {"name": "ann"}, once="one")
    assert made.status_code == 201
    again = await admin.post("/api/v1/identity/accounts", {"name": "ann"}, once="one")
    assert again.json() == made.json()
    assert again.headers["idempotency-replayed"] == "true"
    other = await admin.post("/api/v1/identity/accounts", {"name": "bob"}, once="one")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    key = (await admin.post("/api/v1/identity/keys", {"name": "k", "account": made.json()["id"]})).json()
    async with stage.client(key["secret"]) as client:
        me = (await client.get("/api/v1/identity/keys/self")).json()
        assert (me["account"], me["kind"]) == (made.json()["id"], "live")
        listed = (await client.get("/api/v1/identity/keys")).json()["data"]
        assert [one["id"] for one in listed] == [key["id"]]
        assert "secret" not in listed[0]
        rotated = await client.post(f"/api/v1/identity/keys/{key['id']}/rotate", json={"overlap_seconds": 60})
        assert rotated.json()["secret"] != key["secret"]
        gone = await client.post(f"/api/v1/identity/keys/{key['id']}/revoke")
        assert gone.json()["revoked_at"] is not None
        assert (await client.get("/api/v1/identity/keys/self")).status_code == 401


async def test_the_operator_sees_the_audit_trail_and_the_events(stage: TestApp) -> None:
    admin = await stage.admin()
    caller = await stage.who(funds="1")
    audit = (await admin.get("/api/v1/operations/audit", action="account.create")).json()["data"]
    assert {entry["action"] for entry in audit} == {"account.create"}
    assert (await admin.get("/api/v1/operations/events", status="dead")).json()["data"] == []
    assert (await admin.get("/api/v1/operations/events", module="nothing")).status_code == 422
    assert (await caller.get("/api/v1/operations/audit")).status_code == 403


async def test_health_answers_without_a_key_and_reasons_only_with_one(stage: TestApp) -> None:
    admin = await stage.admin()
    async with stage.client() as client:
        assert (await client.get("/healthz")).json() == {"status": "ok"}
        assert "checks" not in (await client.get("/readyz")).json()
        assert (await client.get("/version")).json()["schema"]["trading"].startswith("trading_")
        assert (await client.get("/metrics")).status_code == 401
        for page in (
            "/docs",
            "/docs/errors",
            "/docs/errors.json",
            "/docs/rapidoc-9.3.8.js",
            "/docs/docs.css",
            "/openapi.json",
        ):
            answer = await client.get(page)
            assert (answer.status_code, answer.headers["content-type"].count("charset") < 2) == (200, True), page
        assert (await client.get("/docs")).headers["content-type"] == "text/html; charset=utf-8"
    assert {check["name"] for check in (await admin.get("/readyz")).json()["checks"]} == {"database", "disk", "signer"}
    figures = (await admin.get("/metrics")).text
    for name in ("aitbc_http_requests_total", "aitbc_ledger_drift 0.0", "aitbc_ledger_holds ", "aitbc_block_height"):
        assert name in figures


async def test_a_stream_ends_within_a_second_of_its_keys_end(stage: TestApp) -> None:
    alice = await stage.who(funds="1")
    body = {"kind": "embed", "input": {"texts": ["x"]}, "max_price": "0.01"}
    job = (await alice.post("/api/v1/ai/jobs", body)).json()["id"]
    following = asyncio.create_task(alice.get(f"/api/v1/ai/jobs/{job}/events"))
    await asyncio.sleep(0.5)
    assert not following.done()
    await stage.runtime.identity.revoke(alice.principal, alice.principal.key)
    answer = await asyncio.wait_for(following, 30)
    assert b"event: " in answer.content


async def test_a_head_is_counted_under_the_route_of_its_get(stage: TestApp) -> None:
    who = await stage.who()
    answer = await who.client.head("/api/v1/ai/jobs/job_x")
    assert (answer.status_code, answer.content) == (404, b"")
    await who.client.head("/nowhere")
    counted = (await (await stage.admin()).get("/metrics")).text
    for route in ("/api/v1/ai/jobs/{job}", "unmatched"):
        assert f'aitbc_http_requests_total{{method="HEAD",route="{route}",status="404"}} 1.0' in counted
