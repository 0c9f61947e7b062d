"""What a legacy miner does with the key of its registration, and what a part of its capabilities leaves as it was."""

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.legacy.installation import Installation
from tests.legacy.legacy_miner import LegacyMiner, prompt
from tests.plain_http import UNUSED_TLS
from tests.scale import scaled

CLIENT_PATIENCE_SECONDS = 5.0
"""When httpx, by which the existing command line asks, gives up."""
FULL = {
    "gpu": {"name": "RTX 4090", "memory_gb": 24, "cuda_version": "12.4", "compute_capability": "8.9"},
    "supported_models": ["llama3:8b"],
    "price_per_hour": 0.05,
}


@pytest.fixture(params=["coordinator", "gpu"])
def client(installation: Installation, request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    with installation.client(request.param) as client:
        yield client


@pytest.fixture
def miner(installation: Installation, client: httpx.Client) -> Iterator[LegacyMiner]:
    made = LegacyMiner(installation, client, **FULL)
    yield made
    client.delete(f"/v1/miners/{made.name}")


def by_token(client: httpx.Client, miner: LegacyMiner) -> httpx.Client:
    """The same place, asked with the miner's own key."""
    token = miner.registered.json()["session_token"]
    return httpx.Client(base_url=client.base_url, headers={"X-Api-Key": token}, timeout=20, verify=UNUSED_TLS)


def test_a_miner_lives_its_whole_life_with_the_token_of_its_registration(
    installation: Installation, client: httpx.Client, miner: LegacyMiner
) -> None:
    installation.fund()
    with by_token(client, miner) as own:
        miner.client, owner = own, miner.client
        assert miner.post("heartbeat", {"inflight": 0}).status_code == 200
        job = prompt(installation, "By token?")
        miner.gets(job)
        assert miner.post("heartbeat", {"inflight": 1}).status_code == 200
        updated = own.put(f"/v1/miners/{miner.name}/capabilities", json={"capabilities": {"price_per_hour": 0.07}})
        assert updated.status_code == 200, updated.text
        assert updated.json()["capabilities"]["price_per_hour"] == 0.07
        assert miner.post(f"{job}/result", {"result": {"output": "Yes."}}).status_code == 200
        assert miner.post(f"{miner.name}/earnings").json()["completed_jobs"] == 1
        miner.client = owner
    assert installation.until(job, "succeeded")["output"]["message"]["content"] == "Yes."


def test_the_token_of_a_miner_is_good_for_this_miner_alone(
    installation: Installation, client: httpx.Client, miner: LegacyMiner
) -> None:
    other = LegacyMiner(installation, client)
    with by_token(client, miner) as own:
        headers = {"X-Miner-ID": other.name}
        for path, body in (("heartbeat", {"inflight": 0}), ("poll", {"max_wait_seconds": 0})):
            assert own.post(f"/v1/miners/{path}", json=body, headers=headers).status_code == 404, path
        assert own.post(f"/v1/miners/{other.name}/earnings").status_code == 404
        assert own.put(f"/v1/miners/{other.name}/capabilities", json={"capabilities": {}}).status_code == 404
        assert own.delete(f"/v1/miners/{miner.name}").status_code == 403
        assert own.post("/v1/miners/register", json={}).status_code == 403
        assert own.post("/v1/miners/poll", json={"max_wait_seconds": 0}).status_code in (200, 204)
    other.leaves()


def test_a_key_that_may_do_neither_is_refused(installation: Installation, client: httpx.Client) -> None:
    wanted = {"name": "reader", "kind": "live", "account": installation.account, "scopes": ["miners:read"]}
    reader = installation.ours("POST", "identity/keys", wanted | {"expires_in_days": 1})["secret"]
    assert client.post("/v1/miners/poll", json={}, headers={"X-Api-Key": reader}).status_code == 403


@pytest.mark.parametrize(
    ("said", "changed"),
    [
        ({"gpu_memory": 16_384, "gpu_memory_gb": 16}, {"memory_mb": 16_384}),
        ({"models": ["mistral:7b"], "supported_models": ["mistral:7b"]}, {}),
        ({"cuda_version": "12.6"}, {"cuda": "12.6"}),
        ({"gpu": {"name": "RTX 4090", "memory": None}}, {}),
        ({"gpu": "RTX 3060"}, {"name": "RTX 3060", "memory_mb": None}),
        ({"price_per_hour": 0.1}, {}),
        ({}, {}),
    ],
    ids=str,
)
def test_what_an_update_says_nothing_of_stays(
    client: httpx.Client, miner: LegacyMiner, said: dict[str, Any], changed: dict[str, Any]
) -> None:
    answer = client.put(f"/v1/miners/{miner.name}/capabilities", json={"capabilities": said})
    assert answer.status_code == 200, answer.text
    known = answer.json()["capabilities"]
    assert known["gpus"] == [{"name": "RTX 4090", "memory_mb": 24_576, "cuda": "12.4"} | changed]
    assert known["models"] == said.get("models", ["llama3:8b"])
    assert known["price_per_hour"] == said.get("price_per_hour", 0.05)
    assert known["gpu_count"] == 1


def test_an_update_at_its_own_port_ends_no_key_of_the_miner(installation: Installation) -> None:
    with installation.client("gpu") as client:
        miner = LegacyMiner(installation, client, **FULL)
        assert client.put(f"/v1/miners/{miner.name}/capabilities", json={"capabilities": {}}).status_code == 200
        with by_token(client, miner) as own:
            assert own.post("/v1/miners/heartbeat", json={"inflight": 0}).status_code == 200
        miner.leaves()


@pytest.mark.parametrize("asked", scaled([{"max_wait_seconds": 30}], [{"max_wait_seconds": 30}, {}]), ids=str)
def test_a_poll_is_answered_before_its_client_gives_up(
    client: httpx.Client, miner: LegacyMiner, asked: dict[str, Any]
) -> None:
    while miner.poll() is not None:  # what others left
        pass
    started = time.monotonic()
    answer = miner.post("poll", asked, timeout=CLIENT_PATIENCE_SECONDS)
    assert answer.status_code in (200, 204)
    assert 2 < time.monotonic() - started < CLIENT_PATIENCE_SECONDS


def test_a_miner_gets_the_type_of_task_that_its_client_sent(
    installation: Installation, client: httpx.Client, miner: LegacyMiner
) -> None:
    installation.fund()
    with installation.client("ai") as requester:
        sent = {"payload": {"type": "inference", "prompt": "Hello"}, "payment_amount": 1}
        job = requester.post("/jobs", json=sent).json()["job_id"]
        payload = miner.gets(job)["payload"]
        assert (payload["type"], payload["prompt"]) == ("inference", "Hello")
        if "jobs" in miner.post(f"{miner.name}/jobs").json():  # the coordinator lists them
            for query in ({"type": "inference"}, {"job_type": "chat"}, {"type": "inference", "status": "running"}):
                shown = miner.post(f"{miner.name}/jobs", params=query).json()["jobs"]
                assert "inference" in {one["job_type"] for one in shown if one["job_id"] == job}
            assert miner.post(f"{miner.name}/jobs", params={"status": "odd"}).status_code == 422
        assert miner.post(f"{job}/result", {"result": {"output": "Hi."}}).status_code == 200
        if miner.post(f"{miner.name}/jobs").status_code == 200:
            paid = miner.post(f"{miner.name}/jobs", params={"status": "paid"}).json()["jobs"]
            assert [one["job_id"] for one in paid] == [job]


def test_how_a_model_fits_is_said_at_every_path_for_it(client: httpx.Client, miner: LegacyMiner) -> None:
    known = client.get("/v1/miners/" + miner.name + "/gpus")
    if known.status_code != 200:  # the coordinator lists GPUs elsewhere
        profiles = client.get("/v1/edge-gpu/profiles").json()["profiles"]
        gpu = next(one["gpu_id"] for one in profiles if one["gpu_model"] == "RTX 4090")
    else:
        gpu = known.json()[0]["id"]
    path = f"/v1/marketplace/edge-gpu/{gpu}/optimize"
    for query, body in (("?model_name=llama-7b", {}), ("", {"model_name": "llama-7b"}), ("", {"model": "llama-7b"})):
        answer = client.post(path + query, json=body)
        assert answer.status_code == 200, answer.text
        assert (answer.json()["precision"], answer.json()["latency_reduction"]) == ("fp16", 0.0)
    assert client.post(path, json={}).status_code == 422
    assert client.post("/v1/marketplace/edge-gpu/none-0/optimize", json={"model": "a-7b"}).status_code == 404
