"""Bookings as legacy clients make them: what each command of the older command line sends, and what it reads of the answer."""

import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.legacy.installation import PATIENCE_SECONDS, Installation
from tests.legacy.legacy_miner import LegacyMiner
from tests.legacy.test_gpu_market import listed, shows

MODEL = "llama2"


@pytest.fixture
def coordinator(installation: Installation) -> Iterator[httpx.Client]:
    """The older coordinator, with the key of the account `local`."""
    installation.fund("5")
    with installation.client("coordinator") as client:
        yield client


@pytest.fixture
def stranger(installation: Installation) -> Iterator[httpx.Client]:
    """Somebody else, who has money."""
    account, key = installation.resident("booker")
    installation.fund("5", account)
    with installation.client("coordinator", key) as client:
        yield client


def book(client: httpx.Client, gpu: str, hours: float = 2.0, **changes: Any) -> httpx.Response:
    """What `marketplace gpu book GPU --duration 2 --total-cost 0.5` sends."""
    body = {"gpu_id": gpu, "duration_hours": hours, "total_cost": hours * 0.25}
    return client.post(f"/v1/marketplace/gpu/{gpu}/book", json=body | changes)


def purse(installation: Installation, client: httpx.Client) -> dict[str, Any]:
    """What the account of a client owns."""
    key = client.headers["X-Api-Key"]
    account = installation.ours("GET", "identity/keys/self", key=key)["account"]
    return dict(installation.ours("GET", f"trading/accounts/{account}", key=key))


def test_a_gpu_is_booked_confirmed_and_released_by_its_booker_alone(
    installation: Installation, coordinator: httpx.Client, stranger: httpx.Client
) -> None:
    gpu, held = listed(coordinator), purse(installation, stranger)["held"]
    at = f"/v1/marketplace/gpu/{gpu}"
    assert coordinator.post(f"{at}/confirm", json={"client_id": "me"}).status_code == 409
    answer = book(stranger, gpu, job_id="training-7")
    assert answer.status_code == 201, answer.text
    told = answer.json()
    assert told.keys() == {
        *("booking_id", "gpu_id", "status", "total_cost", "base_price", "dynamic_price", "price_per_hour"),
        *("start_time", "end_time", "pricing_factors", "confidence_score"),
    }
    assert (told["gpu_id"], told["status"], told["total_cost"], told["price_per_hour"]) == (gpu, "booked", 0.5, 0.25)
    assert float(purse(installation, stranger)["held"]) == float(held) + 0.5
    assert book(stranger, gpu).status_code == book(coordinator, gpu).status_code == 409
    details = coordinator.get(at).json()
    assert details["status"] == "booked"
    assert details["current_booking"] == {
        "booking_id": told["booking_id"],
        "duration_hours": 2.0,
        "total_cost": 0.5,
        "start_time": told["start_time"],
        "end_time": told["end_time"],
    }
    booked = coordinator.get("/v1/marketplace/gpu/list", params={"available": "false", "limit": 500}).json()
    assert gpu in {one["id"] for one in booked}
    for path, body in (("confirm", {"client_id": "me"}), ("release", None)):
        assert coordinator.post(f"{at}/{path}", json=body).status_code == 404
    assert coordinator.delete(at).status_code == 409
    confirmed = stranger.post(f"{at}/confirm", json={"client_id": "client-1"})
    assert confirmed.status_code == 200
    assert confirmed.json() == {
        "status": "confirmed",
        "gpu_id": gpu,
        "booking_id": told["booking_id"],
        "client_id": "client-1",
        "message": confirmed.json()["message"],
    }
    own = next(stranger.headers[name] for name in ("x-api-key", "authorization") if name in stranger.headers)
    own = own.removeprefix("Bearer ")  # the existing client sends its key as its name
    assert stranger.post(f"{at}/confirm", json={"client_id": own}).json()["client_id"] == "aitbc_live_********"
    released = stranger.post(f"{at}/release")
    assert (released.status_code, released.json()["status"]) == (200, "released")
    assert 0.49 < released.json()["refund"] <= 0.5
    again = stranger.post(f"{at}/release").json()
    assert (again["status"], again["refund"]) == ("already_available", 0.0)
    details = coordinator.get(at).json()
    assert (details["status"], details["current_booking"]) == ("available", None)
    assert float(purse(installation, stranger)["held"]) == float(held)


def test_the_orders_are_the_bookings_of_the_caller(coordinator: httpx.Client, stranger: httpx.Client) -> None:
    model, cellar = f"H100-{uuid.uuid4().hex[:6]}", f"cellar-{uuid.uuid4().hex[:6]}"
    shows(coordinator, cellar, model)
    gpu = listed(coordinator, name=model, miner_id=cellar)
    made = book(stranger, gpu, 1.5, job_id="mine").json()
    (found,) = stranger.get("/v1/marketplace/orders", params={"limit": 10, "status": "active"}).json()
    assert found == {
        "order_id": made["booking_id"],
        "gpu_id": gpu,
        "gpu_model": found["gpu_model"],
        "miner_id": cellar,
        "duration_hours": 1.5,
        "total_cost": 0.375,
        "status": "active",
        "created_at": made["start_time"],
        "job_id": "mine",
    }
    assert found["gpu_model"].startswith("H100-")
    assert made["booking_id"] not in {one["order_id"] for one in coordinator.get("/v1/marketplace/orders").json()}
    stranger.post(f"/v1/marketplace/gpu/{gpu}/release")
    assert stranger.get("/v1/marketplace/orders", params={"status": "active"}).json() == []
    (over,) = stranger.get("/v1/marketplace/orders").json()
    assert (over["order_id"], over["status"]) == (made["booking_id"], "cancelled")
    assert stranger.get("/v1/marketplace/orders", params={"status": "nonsense"}).status_code == 422
    assert stranger.get("/v1/marketplace/orders", params={"limit": 0}).status_code == 422


def test_a_purchase_is_a_booking_in_other_words(coordinator: httpx.Client, stranger: httpx.Client) -> None:
    gpu = listed(coordinator)
    body = {"buyer_id": "anything", "gpu_id": gpu, "duration_hours": 0.5, "payment_method": "blockchain"}
    answer = stranger.post("/v1/marketplace/gpu/purchase", json=body)
    assert answer.status_code == 201, answer.text
    told = answer.json()
    expected = {"gpu_id": gpu, "status": "purchased", "total_cost": 0.125, "payment_status": "escrowed", "job_id": None}
    assert {name: told[name] for name in expected} == expected
    assert told["payment_id"].removeprefix("hold_") == told["purchase_id"].removeprefix("book_")
    assert stranger.post("/v1/marketplace/gpu/purchase", json=body).status_code == 409
    refused = stranger.post("/v1/marketplace/gpu/bid", json={"gpu_id": gpu, "bid_amount": 1.0, "duration_hours": 1})
    assert (refused.status_code, refused.json()["code"]) == (501, "gpu_bid_not_done")
    sent = {"from_wallet": "a", "to_wallet": "b", "amount": 1}
    assert stranger.post("/v1/payments/send", json=sent).status_code == 501
    forced = coordinator.delete(f"/v1/marketplace/gpu/{gpu}", params={"force": "true"})
    assert (forced.status_code, forced.json()["status"]) == (200, "deleted")
    (order,) = stranger.get("/v1/marketplace/orders").json()
    assert order["status"] == "cancelled"


def test_a_prompt_for_a_booked_gpu_is_answered_by_the_miner_that_it_is_in(
    installation: Installation, coordinator: httpx.Client, stranger: httpx.Client
) -> None:
    miner = LegacyMiner(installation, coordinator, gpu="RTX 4090", gpu_memory_gb=24, supported_models=[MODEL])
    gpu = listed(coordinator, name="RTX 4090", miner_id=miner.name)
    task = {
        "gpu_id": gpu,
        "model": MODEL,
        "prompt": "Why is the sky blue?",
        "parameters": {"temperature": 0.7, "max_tokens": 64},
    }
    assert stranger.post("/v1/tasks/ollama", json=task).status_code == 409
    assert book(stranger, gpu, 1.0).status_code == 201
    assert coordinator.post("/v1/tasks/ollama", json=task).status_code == 409
    answer = stranger.post("/v1/tasks/ollama", json=task)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told.keys() == {"task_id", "status", "submitted_at", "gpu_id", "model", "prompt", "parameters"}
    assert (told["status"], told["gpu_id"], told["parameters"]) == ("submitted", gpu, task["parameters"])
    given = miner.poll(10)
    assert given is not None and given["job_id"] == told["task_id"]
    said = {"result": {"response": "Because.", "model": MODEL, "provider": "ollama"}, "metrics": {"duration_ms": 9}}
    assert miner.post(f"{told['task_id']}/result", said).status_code == 200
    end = time.monotonic() + PATIENCE_SECONDS
    while (found := stranger.get(f"/v1/jobs/{told['task_id']}").json())["state"] != "COMPLETED":
        assert time.monotonic() < end, found
        time.sleep(0.05)
    result = stranger.get(f"/v1/jobs/{told['task_id']}/result").json()
    assert "Because." in str(result["result"])
    assert stranger.post("/v1/tasks/ollama", json=task | {"parameters": {"mirostat": 1}}).status_code == 422
    assert stranger.post(f"/v1/marketplace/gpu/{gpu}/release").json()["status"] == "released"
    assert stranger.post("/v1/tasks/ollama", json=task).status_code == 409
    miner.leaves()


def test_a_gpu_that_no_miner_of_its_owner_shows_is_not_booked(
    coordinator: httpx.Client, stranger: httpx.Client
) -> None:
    unknown = listed(coordinator, miner_id="nobody-known")
    shows(coordinator, name := f"other-{uuid.uuid4().hex[:8]}", "GTX 1660")
    for gpu, code in ((unknown, "gpu_without_miner"), (listed(coordinator, miner_id=name), "gpu_not_shown")):
        refused = book(stranger, gpu, 1.0)
        assert (refused.status_code, refused.json()["code"]) == (409, code)
        assert coordinator.get(f"/v1/marketplace/gpu/{gpu}").json()["status"] == "offline"
        task = {"gpu_id": gpu, "model": MODEL, "prompt": "Hello"}
        assert stranger.post("/v1/tasks/ollama", json=task).json()["code"] == "gpu_not_booked"


def test_of_twenty_that_book_one_gpu_at_once_exactly_one_does(
    coordinator: httpx.Client, stranger: httpx.Client
) -> None:
    gpu = listed(coordinator)
    with ThreadPoolExecutor(20) as pool:
        answers = [one.status_code for one in pool.map(lambda _: book(stranger, gpu, 0.25), range(20))]
    assert sorted(answers) == [201] + [409] * 19
    stranger.post(f"/v1/marketplace/gpu/{gpu}/release")


def test_a_booking_that_makes_no_sense_or_that_nobody_can_pay_is_refused(
    installation: Installation, coordinator: httpx.Client, stranger: httpx.Client
) -> None:
    gpu = listed(coordinator)
    for changes in ({"duration_hours": 0}, {"duration_hours": 8761}, {"duration_hours": -1}, {"total_cost": -1}):
        assert book(stranger, gpu, **changes).status_code == 422
    assert book(stranger, gpu, gpu_id="gpu_other").status_code == 422
    refused = book(stranger, gpu, total_cost=0.49)
    assert (refused.status_code, refused.json()["code"]) == (409, "booking_costs_more")
    assert book(stranger, gpu, 1000.0).status_code == 402
    with installation.client("coordinator", installation.resident("poor")[1]) as poor:
        assert book(poor, gpu).status_code == 402
    for path in ("book", "confirm", "release"):
        body = {"duration_hours": 1.0}
        assert coordinator.post(f"/v1/marketplace/gpu/gpu_1/{path}", json=body).status_code == 404
    assert coordinator.get(f"/v1/marketplace/gpu/{gpu}").json()["status"] == "available"
