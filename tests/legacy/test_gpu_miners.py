"""Older clients of the gpu service on its own port, without a key: their miners, their devices, and whether it is there."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.legacy.installation import Installation
from tests.legacy.legacy_miner import LegacyMiner, prompt

GPU = {"name": "RTX 4090", "memory_gb": 24, "cuda_cores": 16384}


@pytest.fixture
def gpu(installation: Installation) -> Iterator[httpx.Client]:
    with installation.client("gpu") as client:
        yield client


@pytest.fixture
def miner(installation: Installation, gpu: httpx.Client) -> Iterator[LegacyMiner]:
    made = LegacyMiner(installation, gpu, gpu=GPU, price_per_hour=0.05)
    yield made
    made.client.delete(f"/v1/miners/{made.name}")


def test_health_tells_that_it_runs_and_that_its_database_answers(gpu: httpx.Client) -> None:
    for path, status in {
        "/health": "healthy",
        "/ready": "ready",
        "/live": "alive",
        "/gpu/status": "operational",
    }.items():
        answer = gpu.get(path)
        assert (answer.status_code, answer.json()["status"], answer.json()["service"]) == (200, status, "gpu-service")


def test_the_status_counts_miners(gpu: httpx.Client, miner: LegacyMiner) -> None:
    message = gpu.get("/gpu/status").json()["message"]
    assert message.startswith("GPU service is running; ")
    assert int(message.split()[4]) >= 1


def test_the_same_paths_are_on_the_gateway_under_the_prefix(installation: Installation) -> None:
    with installation.client("gateway", installation.local) as client:
        assert client.get("/gpu/health").json()["service"] == "gpu-service"
        assert client.get("/gpu/v1/miners/nobody/gpus").status_code == 404
    with installation.client("gateway") as nobody:
        assert nobody.post("/gpu/v1/miners/register", json={}).status_code == 401


def test_the_catalogue_is_there_from_the_start_and_filtered(gpu: httpx.Client) -> None:
    path = "/v1/marketplace/edge-gpu/profiles"
    wanted = {"profile_id", "name", "architecture", "memory_gb", "cuda_cores", "tensor_cores", "compute_capability"}
    every = gpu.get(path).json()
    assert len(every) == 3
    assert all(wanted | {"typical_use_cases"} <= one.keys() for one in every)
    assert [one["id"] for one in gpu.get(path, params={"architecture": "ampere"}).json()] == ["rtx_3060"]
    assert [one["id"] for one in gpu.get(path, params={"min_memory_gb": 24}).json()] == ["rtx_4090"]
    assert gpu.get(path, params={"edge_optimized": "true"}).json() == []
    assert gpu.get(path, params={"architecture": "hopper"}).status_code == 422
    assert gpu.get(path, params={"min_memory_gb": "much"}).status_code == 422


def test_registering_tells_a_key_of_the_miner_and_counts_its_gpus(
    installation: Installation, miner: LegacyMiner
) -> None:
    told = miner.registered.json()
    assert (told["status"], told["miner_id"], told["gpu_count"]) == ("ok", miner.name, 1)
    own = installation.ours("GET", "gpu/leases", key=told["session_token"])
    assert own == {"leases": []}


def test_registering_again_is_the_same_miner_and_another_account_has_its_own(
    installation: Installation, miner: LegacyMiner
) -> None:
    first = _id_of(miner)
    assert miner.post("register", {"capabilities": {"gpu": GPU}}).status_code == 200
    assert _id_of(miner) == first
    _, stranger = installation.resident("stranger")
    with installation.client("gpu", stranger) as theirs:
        assert theirs.get(f"/v1/miners/{miner.name}/gpus").status_code == 404
        assert theirs.get(f"/v1/miners/{first}/gpus").status_code == 404
        assert theirs.post("/v1/miners/register", json={"miner_id": miner.name}).status_code == 200
        assert theirs.get(f"/v1/miners/{miner.name}/gpus").json() == []
    assert _id_of(miner) == first


def test_a_miner_without_a_name_gets_one(gpu: httpx.Client) -> None:
    name = gpu.post("/v1/miners/register", json={}).json()["miner_id"]
    assert name.startswith("miner_")
    assert gpu.delete(f"/v1/miners/{name}").status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {"miner_id": "two\nlines"},
        {"miner_id": ""},
        {"miner_id": "x" * 101},
        {"miner_id": "m", "concurrency": 0},
        {"miner_id": "m", "concurrency": 65},
        {"miner_id": "m", "capabilities": []},
        {"miner_id": "m", "capabilities": {"gpu": 7}},
        {"miner_id": "m", "capabilities": {"models": ["\x1b[31m"]}},
        {"miner_id": "m", "capabilities": {"price_per_hour": -1}},
        {"miner_id": "m", "capabilities": {"price_per_hour": 1e-9}},
        {"miner_id": "m", "capabilities": {"kinds": ["Not A Word"]}},
        [],
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_refused(gpu: httpx.Client, body: Any) -> None:
    answer = gpu.post("/v1/miners/register", json=body)
    assert answer.status_code == 422, answer.text
    assert isinstance(answer.json()["detail"], str)


def test_a_heartbeat_keeps_a_miner_online_and_its_readings(gpu: httpx.Client, miner: LegacyMiner) -> None:
    body = {"miner_id": miner.name, "status": "active", "current_jobs": 0, "gpu_utilization": 40.0, "memory_used": 6144}
    assert gpu.post("/v1/miners/heartbeat", json=body).json() == {"status": "ok"}
    (one,) = gpu.get(f"/v1/miners/{miner.name}/gpus").json()
    assert (one["status"], one["model"], one["memory_gb"], one["price_per_hour"]) == ("available", "RTX 4090", 24, 0.05)
    read, *_ = gpu.get(f"/v1/marketplace/edge-gpu/metrics/{one['id']}", params={"limit": 5}).json()
    assert (read["gpu_utilization_percent"], read["memory_utilization_percent"]) == (40.0, 25.0)
    assert read["temperature_celsius"] is None
    assert gpu.post("/v1/miners/heartbeat", json=body | {"status": "OFFLINE"}).status_code == 200
    assert gpu.get(f"/v1/miners/{miner.name}/gpus").json()[0]["status"] == "offline"


def test_what_nobody_knows_is_not_found(gpu: httpx.Client) -> None:
    nobody = {"miner_id": "nobody"}
    assert gpu.post("/v1/miners/heartbeat", json=nobody).status_code == 404
    assert gpu.post("/v1/miners/poll", json=nobody).status_code == 404
    assert gpu.get("/v1/miners/nobody/gpus").status_code == 404
    assert gpu.post("/v1/miners/nobody/earnings").status_code == 404
    assert gpu.put("/v1/miners/nobody/capabilities", json={"capabilities": {}}).status_code == 404
    assert gpu.delete("/v1/miners/nobody").status_code == 404
    assert gpu.post("/v1/miners/no-job/result", json={"result": {}}).status_code == 404
    assert gpu.post("/v1/miners/no-job/fail", json={"error": "?"}).status_code == 404
    assert gpu.get("/v1/marketplace/edge-gpu/metrics/no-gpu").status_code == 404
    assert gpu.post("/v1/marketplace/edge-gpu/scan/nobody").status_code == 404
    assert gpu.post("/v1/marketplace/edge-gpu/optimize/inference/no-gpu?model_name=x", json={}).status_code == 404


def test_a_poll_without_work_answers_null(miner: LegacyMiner) -> None:
    answer = miner.post("poll", {"max_wait_seconds": 0})
    while answer.json() is not None:  # what another test left
        miner.post(f"{answer.json()['job_id']}/fail", {"error": "not mine"})
        answer = miner.post("poll", {"max_wait_seconds": 0})
    assert (answer.status_code, answer.text) == (200, "null")


def test_a_scan_and_a_plan_are_worked_out_from_what_the_miner_told(gpu: httpx.Client, miner: LegacyMiner) -> None:
    told = gpu.post(f"/v1/marketplace/edge-gpu/scan/{miner.name}").json()
    assert (told["miner_id"], told["registered"], told["edge_optimized"]) == (miner.name, 1, 1)
    path = f"/v1/marketplace/edge-gpu/optimize/inference/{told['gpus'][0]['id']}"
    plan = gpu.post(path, params={"model_name": "llama-13b"}, json={"batch": 1}).json()
    assert (plan["optimized"], plan["precision"], plan["latency_reduction"]) == (True, "int8", 0.0)
    assert gpu.post(path, params={"model_name": "llama-70b"}, json={}).json()["optimized"] is False
    assert gpu.post(path, json={}).status_code == 422
    assert gpu.post(path, params={"model_name": "llama-7b"}, json=[]).status_code == 422


def test_capabilities_are_kept(gpu: httpx.Client, miner: LegacyMiner) -> None:
    body = {"capabilities": {"gpu": {"model": "RTX 3060", "memory": "12GB"}, "models": ["llama3:8b"]}}
    told = gpu.put(f"/v1/miners/{miner.name}/capabilities", json=body).json()
    assert (told["status"], told["miner_id"], told["capabilities"]["models"]) == ("ok", miner.name, ["llama3:8b"])
    (one,) = gpu.get(f"/v1/miners/{miner.name}/gpus").json()
    assert (one["model"], one["memory_gb"], one["price_per_hour"]) == ("RTX 3060", 12, 0.05)


def test_a_prompt_is_answered_paid_and_receipted_and_a_second_answer_refused(
    installation: Installation, miner: LegacyMiner
) -> None:
    installation.fund()
    job = prompt(installation, "What is two and two?")
    given = miner.gets(job)
    assert (given["payload"]["type"], given["payload"]["prompt"]) == ("inference", "What is two and two?")
    brought = {"result": {"response": "Four.", "model": "by-hand", "eval_count": 2}, "metrics": {"duration_ms": 3}}
    _, stranger = installation.resident("stranger")
    with installation.client("gpu", stranger) as theirs:
        assert theirs.post(f"/v1/miners/{job}/result", json=brought).status_code == 404
    answer = miner.post(f"{job}/result", brought)
    assert (answer.status_code, answer.json()["status"], answer.json()["result"]) == (200, "ok", "accepted")
    assert miner.post(f"{job}/result", brought).status_code == 409
    assert miner.post(f"{job}/fail", {"error": "late"}).status_code == 409
    done = installation.until(job, "succeeded")
    assert done["output"]["message"]["content"] == "Four."
    receipt = installation.ours("GET", f"trading/receipts/{answer.json()['receipt_id']}")["receipt"]
    assert (receipt["job"], receipt["price"]) == (job, done["price"])
    earned = miner.post(f"{miner.name}/earnings").json()
    assert earned["total_earnings"] == pytest.approx(float(receipt["earned"]))
    assert (earned["completed_jobs"], earned["pending_earnings"], earned["currency"]) == (1, 0.0, "AITBC")


def test_a_job_that_is_given_up_goes_on_without_this_miner(installation: Installation, miner: LegacyMiner) -> None:
    installation.fund()
    job = prompt(installation)
    miner.gets(job)
    answer = miner.post(f"{job}/fail", {"error": {"why": "no memory"}})
    assert (answer.status_code, answer.json()["error"]) == (200, "recorded")
    told = installation.job(job)
    assert told["state"] in ("queued", "failed")
    assert "no memory" in told["history"][0]["message"]
    installation.ours("POST", f"ai/jobs/{job}/cancel", {}, key=installation.local)


def test_what_a_removed_miner_works_on_goes_to_others(installation: Installation, gpu: httpx.Client) -> None:
    installation.fund()
    miner = LegacyMiner(installation, gpu)
    job = prompt(installation)
    miner.gets(job)
    answer = gpu.delete(f"/v1/miners/{miner.name}")
    assert (answer.status_code, answer.json()["status"], answer.json()["miner_id"]) == (200, "ok", miner.name)
    assert installation.job(job)["state"] == "queued"
    assert miner.post(f"{job}/result", {"result": {"response": "late"}}).status_code in (404, 409)
    assert miner.post("poll", {"max_wait_seconds": 0}).status_code == 404
    installation.ours("POST", f"ai/jobs/{job}/cancel", {}, key=installation.local)


def _id_of(miner: LegacyMiner) -> str:
    (one,) = miner.client.get(f"/v1/miners/{miner.name}/gpus").json()
    return str(one["id"]).rpartition("-")[0]
