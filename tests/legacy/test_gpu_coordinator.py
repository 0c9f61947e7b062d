"""Older clients of the coordinator: its miners from their registration to their pay, and what their commands read."""

import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.legacy.installation import Installation
from tests.legacy.legacy_miner import LegacyMiner, prompt
from tests.plain_http import UNUSED_TLS

GPU = {"gpu": {"model": "RTX 4090", "memory_gb": 24}}


@pytest.fixture
def coordinator(installation: Installation) -> Iterator[httpx.Client]:
    with installation.client("coordinator") as client:
        yield client


@pytest.fixture
def miner(installation: Installation, coordinator: httpx.Client) -> Iterator[LegacyMiner]:
    made = LegacyMiner(installation, coordinator, **GPU)
    yield made
    coordinator.delete(f"/v1/miners/{made.name}")


def test_the_life_of_an_older_miner(installation: Installation, coordinator: httpx.Client, miner: LegacyMiner) -> None:
    """Registers, beats, polls in vain, gets a job, delivers, is paid, and goes."""
    installation.fund()
    assert miner.registered.json().keys() >= {"status", "session_token"}
    assert miner.post("heartbeat", {"inflight": 0, "status": "ONLINE", "metadata": {"version": "1"}}).status_code == 200
    job = prompt(installation, "Say something.")
    given = miner.gets(job)
    assert given["payload"]["messages"] == [{"role": "user", "content": "Say something."}]
    assert installation.job(job)["state"] == "running"
    working = _mine(coordinator, miner)
    assert (working["status"], working["inflight"], working["concurrency"]) == ("ONLINE", 1, 1)
    assert miner.poll() is None, "a miner with one slot has one job"
    (shown,) = (one for one in miner.post(f"{miner.name}/jobs").json()["jobs"] if one["job_id"] == job)
    assert (shown["job_id"], shown["state"], shown["payment_status"]) == (job, "RUNNING", "escrowed")
    pending = miner.post(f"{miner.name}/earnings").json()
    assert (pending["total_earnings"], pending["pending_earnings"]) == (0.0, 1.0)

    answer = miner.post(f"{job}/result", {"result": {"output": "Something."}, "metrics": {}})
    assert answer.status_code == 200, answer.text
    receipt = answer.json()["receipt"]
    assert receipt["job_id"] == job
    stored = installation.ours("GET", f"trading/receipts/{receipt['receipt_id']}")["receipt"]
    assert receipt["price"] == pytest.approx(float(stored["price"]))
    again = miner.post(f"{job}/result", {"result": {"output": "Something."}, "metrics": {}})
    assert again.status_code == 409
    assert isinstance(again.json()["detail"], str)

    (shown,) = miner.post(f"{miner.name}/jobs", params={"limit": 5, "status": "COMPLETED"}).json()["jobs"]
    assert (shown["receipt_id"], shown["payment_status"]) == (receipt["receipt_id"], "released")
    assert miner.post(f"{miner.name}/jobs", params={"min_reward": 5}).json()["total"] == 0
    rest = miner.post(f"{miner.name}/jobs", params={"status": "COMPLETED", "offset": 1}).json()
    assert (rest["jobs"], rest["total"]) == ([], 1)
    earned = miner.post(f"{miner.name}/earnings").json()
    assert earned["total_earnings"] == pytest.approx(float(stored["earned"]))
    assert [one["job_id"] for one in earned["earnings_history"]] == [job]
    early = miner.post(f"{miner.name}/earnings", params={"to_time": "2020-01-01"}).json()
    assert (early["total_earnings"], early["completed_jobs"], early["earnings_history"]) == (0.0, 0, [])
    told = _mine(coordinator, miner)
    assert (told["jobs_completed"], told["inflight"], told["last_receipt_id"]) == (1, 0, receipt["receipt_id"])
    assert told["average_job_duration_ms"] > 0


def test_a_receipt_of_such_a_miner_verifies_like_any_other(installation: Installation, miner: LegacyMiner) -> None:
    installation.fund()
    job = prompt(installation)
    miner.gets(job)
    receipt = miner.post(f"{job}/result", {"result": {"response": "Hello."}}).json()["receipt"]["receipt_id"]
    told = installation.ours("GET", f"trading/receipts/{receipt}")["receipt"]
    known = installation.ours("GET", f"gpu/miners/{told['miner']}")
    assert (told["miner_key"], known["name"]) == (known["public_key"], miner.name)
    assert installation.ours("POST", "trading/ledger/verify", {})["ok"] is True


def test_two_polls_at_once_never_get_one_job(installation: Installation, coordinator: httpx.Client) -> None:
    installation.fund()
    first, second = LegacyMiner(installation, coordinator), LegacyMiner(installation, coordinator)
    job = prompt(installation)
    found = [given["job_id"] for one in (first, second, first, second) if (given := one.poll()) is not None]
    assert found.count(job) == 1
    installation.ours("POST", f"ai/jobs/{job}/cancel", {}, key=installation.local)
    first.leaves()
    second.leaves()


def test_a_result_without_words_is_refused_and_may_be_brought_again(
    installation: Installation, miner: LegacyMiner
) -> None:
    installation.fund()
    job = prompt(installation)
    miner.gets(job)
    assert miner.post(f"{job}/result", {"result": {"tokens": 3}}).status_code == 422
    assert miner.post(f"{job}/result", {"result": {"text": "Here."}}).status_code == 200


def test_a_result_that_says_it_failed_is_a_failure(installation: Installation, miner: LegacyMiner) -> None:
    installation.fund()
    job = prompt(installation)
    miner.gets(job)
    answer = miner.post(f"{job}/result", {"result": {"status": "failed", "output": ""}})
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "receipt": None})
    assert installation.job(job)["attempts"] == 1
    installation.ours("POST", f"ai/jobs/{job}/cancel", {}, key=installation.local)


def test_a_failure_is_noted_with_its_code_and_whose_fault_it_was(
    installation: Installation, miner: LegacyMiner
) -> None:
    installation.fund()
    job = prompt(installation)
    miner.gets(job)
    answer = miner.post(f"{job}/fail", {"error_code": "INVALID_INPUT", "error_message": "no such model", "metrics": {}})
    assert answer.json() == {"status": "ok"}
    done = installation.until(job, "failed")
    assert (done["fault"], done["history"][0]["reason"]) == ("requester", "invalid_input")
    assert miner.post(f"{job}/result", {"result": {"text": "late"}}).status_code == 409


def test_a_miner_that_starts_again_gives_back_what_it_worked_on(installation: Installation, miner: LegacyMiner) -> None:
    installation.fund()
    job = prompt(installation)
    miner.gets(job)
    assert miner.post("register", {"capabilities": GPU}).status_code == 200
    assert installation.job(job)["state"] == "queued"
    assert miner.gets(job)["job_id"] == job
    assert miner.post(f"{job}/result", {"result": {"text": "Now."}}).status_code == 200


def test_the_only_miner_of_an_account_needs_no_name(installation: Installation) -> None:
    account, key = installation.resident("single")
    installation.fund(account=account)
    with installation.client("coordinator", key) as client:
        assert client.post("/v1/miners/poll", json={"max_wait_seconds": 0}).status_code == 404
        body = {"capabilities": {"gpu": {"model": "RTX 3060", "memory": 12}, "compute": {"cuda": "12.0"}}}
        assert client.post("/v1/miners/register", params={"miner_id": "gpu-1"}, json=body).status_code == 200
        assert client.post("/v1/miners/heartbeat", json={}).status_code == 200
        job = prompt(installation, key=key)
        end = time.monotonic() + 40
        while (answer := client.post("/v1/miners/poll", json={"max_wait_seconds": 2})).status_code == 204:
            assert time.monotonic() < end
        assert answer.json()["job_id"] == job
        result = {"status": "completed", "output": "Done.", "execution_time_ms": 5, "miner_id": "gpu-1"}
        metrics = {"compute_time": 1.5, "energy_used": 0.1, "aitbc_earned": 99}
        assert client.post(f"/v1/miners/{job}/result", json={"result": result, "metrics": metrics}).status_code == 200
        assert client.post("/v1/miners/register", params={"miner_id": "gpu-2"}, json={}).status_code == 200
        assert client.post("/v1/miners/poll", json={"max_wait_seconds": 0}).status_code == 400


def test_miners_are_steered_by_those_who_look_after_them(coordinator: httpx.Client, miner: LegacyMiner) -> None:
    path = f"/admin/miners/{miner.name}"
    assert coordinator.get(path).json()["status"] == "ONLINE"
    assert coordinator.post(f"{path}/deactivate").json() == {"miner_id": miner.name, "status": "deactivated"}
    assert coordinator.get(path).json()["status"] == "DRAINING"
    names = [one["miner_id"] for one in coordinator.get("/admin/miners", params={"status": "draining"}).json()]
    assert miner.name in names
    assert coordinator.post(f"{path}/activate").status_code == 200
    assert coordinator.get(path).json()["status"] == "ONLINE"
    assert len(coordinator.get("/admin/miners", params={"limit": 1}).json()) == 1
    assert coordinator.get("/admin/miners/nobody").status_code == 404
    assert coordinator.post("/admin/miners/nobody/activate").status_code == 404


def test_an_admin_sees_the_miners_of_everybody_and_others_their_own(
    installation: Installation, miner: LegacyMiner
) -> None:
    _, key = installation.resident("stranger")
    with (
        installation.client("coordinator", key) as stranger,
        installation.client("coordinator", installation.admin) as admin,
    ):
        assert stranger.get("/v1/admin/miners").json() == {"items": []}
        assert miner.name in [one["miner_id"] for one in admin.get("/v1/admin/miners").json()["items"]]
        assert admin.get(f"/admin/miners/{miner.name}").status_code == 200
    assert httpx.get(f"{installation.coordinator}/miners", verify=UNUSED_TLS).status_code == 401


def test_gpus_tell_what_was_read_of_them(
    installation: Installation, coordinator: httpx.Client, miner: LegacyMiner
) -> None:
    found = coordinator.post("/v1/edge-gpu/discover", params={"miner_id": miner.name}).json()
    gpu = found["gpus"][0]["gpu_id"]
    assert (found["registered"], found["edge_optimized"]) == (1, 1)
    reading = {"gpu_id": gpu, "timestamp": "now", "utilization": 12.5, "memory_used": 2048, "temperature": 55}
    assert coordinator.post("/v1/edge-gpu/metrics", json=reading).json() == {"status": "success", "gpu_id": gpu}
    wanted = {"gpu_id": gpu, "utilization": 12.5, "memory_used_mb": 2048, "temperature_c": 55.0}
    assert coordinator.get(f"/v1/edge-gpu/metrics/{gpu}").json() == wanted
    profiles = coordinator.get("/v1/edge-gpu/profiles").json()
    assert profiles["total"] == len(profiles["profiles"])
    assert gpu in [one["gpu_id"] for one in profiles["profiles"]]
    plan = coordinator.post("/v1/edge-gpu/optimize", params={"gpu_id": gpu, "model_name": "llama-7b"}, json={}).json()
    assert (plan["optimized"], plan["precision"]) == (True, "fp16")
    _, key = installation.resident("stranger")
    with installation.client("coordinator", key) as stranger:
        assert stranger.get(f"/v1/edge-gpu/metrics/{gpu}").status_code == 404
        assert stranger.post("/v1/edge-gpu/metrics", json=reading).status_code == 404
    assert coordinator.post("/v1/edge-gpu/metrics", json=reading | {"utilization": 101}).status_code == 422
    assert coordinator.post("/v1/edge-gpu/optimize", params={"gpu_id": gpu}, json={}).status_code == 422
    assert coordinator.post("/v1/edge-gpu/discover").status_code == 422


def test_a_miner_to_try_things_with(installation: Installation) -> None:
    _, key = installation.resident("trying")
    with installation.client("coordinator", key) as client:
        made = [client.post("/v1/admin/debug/create-test-miner").json() for _ in range(2)]
        assert [one["status"] for one in made] == ["created", "updated"]
        assert client.delete(f"/v1/miners/{made[0]['miner_id']}").json()["status"] == "deregistered"
        assert client.delete(f"/v1/miners/{made[0]['miner_id']}").status_code == 404


# What the commands of before send, by the numbers of their cases, and which fields of the answer they read. `{m}` is the miner.
MINER_CLI = {"gpu_memory": 16384, "gpu_memory_gb": 16, "models": ["llama2"], "supported_models": ["llama2"]} | {
    "pricing_per_hour": 0.5,
    "price_per_hour": 0.5,
    "gpu": "RTX 4090",
    "gpu_count": 1,
    "cuda_version": "12.0",
}
ITEM = {"miner_id", "status", "inflight", "concurrency", "region", "last_heartbeat"}
ITEM |= {"jobs_completed", "jobs_failed", "average_job_duration_ms"}
SIGN = {"inflight": 0, "status": "ONLINE", "metadata": {"timestamp": "2026-01-01", "version": "1", "system_info": {}}}
CALLS: dict[str, tuple[str, str, str, Any, set[int], set[str]]] = {
    "M01 M02": (
        *("coordinator", "POST", "/v1/miners/register"),
        {"wallet_address": "ait1", "capabilities": MINER_CLI, "concurrency": 1, "region": "eu"},
        {200},
        {"session_token"},
    ),
    "M03": ("coordinator", "POST", "/v1/miners/heartbeat", SIGN, {200}, set()),
    "M04": ("coordinator", "GET", "/v1/admin/miners", None, {200}, {"items"}),
    "M05": ("coordinator", "POST", "/v1/miners/poll", {"max_wait_seconds": 0}, {204, 200}, set()),
    "M07": (
        *("coordinator", "PUT", "/v1/miners/{m}/capabilities"),
        {"capabilities": MINER_CLI, "concurrency": 2, "region": "us", "wallet_address": "ait1"},
        {200},
        set(),
    ),
    "E11": (
        *("coordinator", "POST", "/v1/miners/register?miner_id={m}"),
        {"capabilities": {"gpu": {"model": "x", "memory": "24GB"}, "compute": {"cuda": "12"}}},
        {200},
        set(),
    ),
    "E12 E13": ("coordinator", "POST", "/v1/miners/poll", {"max_wait_seconds": 0}, {204, 200}, set()),
    "K31": ("coordinator", "GET", "/miners", None, {200}, set()),
    "O106": ("coordinator", "GET", "/admin/miners?limit=50&status=online", None, {200}, set()),
    "O107": ("coordinator", "GET", "/admin/miners/{m}", None, {200}, ITEM),
    "O108": ("coordinator", "POST", "/admin/miners/{m}/deactivate", None, {200}, set()),
    "O109": ("coordinator", "POST", "/admin/miners/{m}/activate", None, {200}, set()),
    "O801": (
        *("gpu", "POST", "/v1/miners/register"),
        {"miner_id": "{m}", "capabilities": {"gpu": {"model": "RTX 4090", "memory_gb": 24, "cuda_cores": 16384}}},
        {200},
        {"status", "miner_id", "session_token", "gpu_count"},
    ),
    "O802": ("gpu", "POST", "/v1/miners/heartbeat", SIGN | {"miner_id": "{m}"}, {200}, {"status"}),
    "O803": ("gpu", "GET", "/v1/miners/{m}/gpus", None, {200}, set()),
    "O804 O805 O809 O810": ("coordinator", "POST", "/v1/miners/poll", {"max_wait_seconds": 0}, {204, 200}, set()),
    "O806": (
        *("coordinator", "POST", "/v1/miners/{m}/earnings?miner_id={m}&from_time=2020-01-01&to_time=2099-01-01"),
        None,
        {200},
        {"miner_id", "total_earnings", "pending_earnings", "currency"},
    ),
    "O807": (
        *("coordinator", "PUT", "/v1/miners/{m}/capabilities"),
        {"capabilities": {"gpu": {"model": "RTX 3060"}}},
        {200},
        set(),
    ),
    "O808": (
        *("coordinator", "POST", "/v1/miners/{m}/jobs?limit=10&miner_id={m}&type=chat&min_reward=0.5&status=completed"),
        None,
        {200},
        {"jobs", "total", "limit", "offset", "miner_id"},
    ),
    "O811": ("coordinator", "DELETE", "/v1/miners/{m}", None, {200}, {"status"}),
}
"""The results of M06, E13, O805, O809 and O810 are brought in the tests above and below; E14 never sent anything."""


def test_what_older_commands_send_is_answered_as_they_read_it(installation: Installation) -> None:
    _, key = installation.resident("commands")
    name = f"cli-{uuid.uuid4().hex[:6]}"
    headers = {"X-Miner-ID": name}
    with installation.client("coordinator", key) as coordinator, installation.client("gpu", key) as gpu:
        for case, (place, method, path, body, codes, fields) in CALLS.items():
            if isinstance(body, dict) and "miner_id" in body:
                body |= {"miner_id": name}
            client = coordinator if place == "coordinator" else gpu
            answer = client.request(method, path.replace("{m}", name), json=body, headers=headers)
            assert answer.status_code in codes, (case, answer.text)
            if fields:
                assert fields <= answer.json().keys(), case
            if case == "M04":
                assert all(item.keys() >= ITEM for item in answer.json()["items"])
            if case == "K31":
                assert [one["status"] for one in answer.json()] == ["ONLINE"]
            if case == "O803":
                assert isinstance(answer.json(), list)


@pytest.mark.parametrize(
    "body",
    [
        {"result": "done", "success": True, "metrics": {"duration_ms": 5, "completed_at": "2026-01-01"}},
        {"result": {"output": "done"}, "metrics": {}},
        {
            "result": {"response": "done", "model": "llama2", "provider": "ollama", "eval_count": 4},
            "metrics": {"duration_ms": 5, "eval_count": 4, "eval_duration": 9, "total_duration": 10},
        },
    ],
    ids=("M06", "O805 O810", "O809"),
)
def test_results_as_older_commands_bring_them(installation: Installation, miner: LegacyMiner, body: Any) -> None:
    installation.fund()
    job = prompt(installation)
    miner.gets(job)
    answer = miner.post(f"{job}/result", body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["receipt"] is not None
    assert installation.until(job, "succeeded")["output"]["message"]["content"] == "done"


def _mine(coordinator: httpx.Client, miner: LegacyMiner) -> dict[str, Any]:
    items = coordinator.get("/v1/admin/miners").json()["items"]
    return next(dict(item) for item in items if item["miner_id"] == miner.name)
