"""The GPU market as legacy clients use it: what each command of the older command line sends, and what it reads of the answer."""

import asyncio
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import asyncpg
import httpx
import pytest

from aitbc.kernel.primitives import ids
from tests.legacy.installation import Installation
from tests.legacy.legacy_miner import LegacyMiner

HOLDS = {
    "G01": "gpu offer",
    "G02": "gpu bid",
    "G03": "gpu list",
    "G04": "gpu list of one side",
    "G05": "gpu status",
    "G06": "gpu accept",
    "G07": "gpu match",
    "G08": "gpu cancel",
    "U30": "market gpu register",
    "U31": "market gpu register with all options",
    "U32": "market gpu list",
    "U33": "market gpu list of the available",
    "U34": "market gpu list by price, region and model",
    "O702": "marketplace gpu list",
    "O703": "marketplace gpu details",
    "O704": "marketplace gpu book",
    "O705": "marketplace gpu confirm",
    "O706": "marketplace gpu ollama-task",
    "O707": "marketplace gpu release",
    "O708": "marketplace review",
    "O709": "marketplace reviews",
    "O710": "marketplace gpu unregister",
    "O711": "marketplace orders",
    "O712": "marketplace pricing",
}
"""The rows of the catalogue of older commands; O701 never sends anything."""
MOMENT = "2026-11-24T05:00:00.123456"
ISLAND = {"island_id": "isl-1", "chain_id": "ait-devnet"}
QUERY = {"transaction_type": "gpu_marketplace", "island_id": "isl-1"}


def new(kind: str) -> str:
    """An id as the older command line makes them."""
    return f"gpu_{kind}_{uuid.uuid4().hex[:16]}"


def offer(**changes: Any) -> dict[str, Any]:
    """What `gpu offer 2 0.1 3` sends."""
    body = {
        "type": "gpu_marketplace",
        "action": "offer",
        "offer_id": new("offer"),
        "provider_node_id": "node-p",
        "gpu_count": 2,
        "price_per_gpu": 0.1,
        "duration_hours": 3,
        "total_price": 2 * 0.1 * 3,
        "status": "active",
        "specs": {"model": "RTX 4090", "memory_gb": 24, "region": "eu"},
        "description": "Quiet at night",
        "created_at": MOMENT,
        **ISLAND,
    }
    return body | changes


def bid(**changes: Any) -> dict[str, Any]:
    """What `gpu bid 2 0.2 3` sends."""
    body = {
        "type": "gpu_marketplace",
        "action": "bid",
        "bid_id": new("bid"),
        "bidder_node_id": "node-b",
        "gpu_count": 2,
        "max_price_per_gpu": 0.2,
        "duration_hours": 3,
        "max_total_price": 2 * 0.2 * 3,
        "status": "pending",
        "specs": {"model": "RTX 4090"},
        "created_at": MOMENT,
        **ISLAND,
    }
    return body | changes


def accept(bid_id: str, **changes: Any) -> dict[str, Any]:
    """What `gpu accept` sends."""
    told = {"status": "accepted", "accepted_at": MOMENT, "provider_node_id": "node-p", "bid_id": bid_id}
    return {"type": "gpu_marketplace", "action": "accept", **told, **ISLAND} | changes


def cancel(order_id: str, node: str, **changes: Any) -> dict[str, Any]:
    """What `gpu cancel` sends."""
    told = {"status": "cancelled", "cancelled_at": MOMENT, "node_id": node, "order_id": order_id}
    return {"type": "gpu_marketplace", "action": "cancel", **told, **ISLAND} | changes


def match(found: dict[str, Any], wanted: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """What `gpu match` sends for an offer and a bid that it read from the list."""
    told = {
        "bid_id": wanted["bid_id"],
        "offer_id": found["offer_id"],
        "bidder_node_id": wanted["bidder_node_id"],
        "provider_node_id": found["provider_node_id"],
        "gpu_count": wanted["gpu_count"],
        "matched_price": found["price_per_gpu"],
        "duration_hours": wanted["duration_hours"],
        "total_price": found["total_price"],
        "status": "matched",
        "matched_at": MOMENT,
    }
    return {"type": "gpu_marketplace", "action": "match", **told, **ISLAND} | changes


@pytest.fixture
def gpu(installation: Installation) -> Iterator[httpx.Client]:
    """The module's own port, without a key."""
    with installation.client("gpu") as client:
        yield client


@pytest.fixture
def coordinator(installation: Installation) -> Iterator[httpx.Client]:
    """The older coordinator, with the key of the account `local`."""
    with installation.client("coordinator") as client:
        yield client


@pytest.fixture
def stranger(installation: Installation) -> Iterator[httpx.Client]:
    """The gpu service for somebody else, on the gateway."""
    account, key = installation.resident("stranger")
    installation.fund("5", account)
    with installation.client("gateway", key) as client:
        client.base_url = client.base_url.join("/gpu/")
        yield client


def send(client: httpx.Client, body: dict[str, Any]) -> str:
    """Post a transaction that must succeed; the id that came back."""
    answer = client.post("/v1/transactions", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "success"
    return str(answer.json()["transaction_id"])


def read(client: httpx.Client, **query: Any) -> list[dict[str, Any]]:
    """The list of transactions, which is a bare list."""
    answer = client.get("/v1/transactions", params=QUERY | query)
    assert answer.status_code == 200, answer.text
    assert isinstance(answer.json(), list)
    return list(answer.json())


def refusal(client: httpx.Client, body: dict[str, Any]) -> int:
    """The status of a transaction that must not succeed; the refusal says in words what it is about."""
    answer = client.post("/v1/transactions", json=body)
    assert answer.status_code >= 400, answer.text
    assert answer.json()["detail"]
    return answer.status_code


def shows(client: httpx.Client, miner: str, model: str) -> None:
    """Register a miner with a GPU, or say that it still is there."""
    told = {"capabilities": {"gpu": model, "gpu_memory_gb": 24}}
    answer = client.post("/v1/miners/register", json=told, headers={"X-Miner-ID": miner})
    assert answer.status_code == 200, answer.text


def listed(client: httpx.Client, **changes: Any) -> str:
    """What `market gpu register` sends; the id of the GPU, which a miner of the caller's shows unless one is named."""
    model = changes.setdefault("name", f"RTX 4090 {uuid.uuid4().hex[:8]}")
    if "miner_id" not in changes:
        changes["miner_id"] = f"shows-{uuid.uuid4().hex[:8]}"
        shows(client, changes["miner_id"], model)
    told = {
        "memory_gb": 24,
        "cuda_cores": 16384,
        "compute_capability": "8.9",
        "price_per_hour": 0.25,
        "description": "In the cellar",
        "registered_at": MOMENT,
    }
    answer = client.post("/v1/marketplace/gpu/register", json={"gpu": told | changes}, headers={"X-Miner-ID": "nobody"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "registered"
    return str(answer.json()["gpu_id"])


def test_an_offer_and_a_bid_are_kept_and_told_as_the_list_reads_them(gpu: httpx.Client) -> None:
    offered, wanted = send(gpu, offer()), send(gpu, bid())
    (found,) = read(gpu, order_id=offered)
    expected = {
        "action": "offer",
        "offer_id": offered,
        "transaction_id": offered,
        "provider_node_id": "node-p",
        "gpu_count": 2,
        "price_per_gpu": 0.1,
        "duration_hours": 3.0,
        "total_price": 0.6,
        "status": "active",
        "specs": {"model": "RTX 4090", "memory_gb": 24, "region": "eu"},
    }
    assert {field: found[field] for field in expected} == expected
    assert isinstance(found["created_at"], str)
    assert found["created_at"] != MOMENT  # when it came to be is not its sender's to say
    (found,) = read(gpu, order_id=wanted)
    expected = {
        "action": "bid",
        "bid_id": wanted,
        "bidder_node_id": "node-b",
        "gpu_count": 2,
        "max_price_per_gpu": 0.2,
        "duration_hours": 3.0,
        "max_total_price": 1.2,
        "status": "pending",
    }
    assert {field: found[field] for field in expected} == expected
    assert found["accepted_at"] is found["cancelled_at"] is None


def test_the_list_holds_what_is_asked_for_and_nothing_of_other_islands(gpu: httpx.Client) -> None:
    offered, wanted = send(gpu, offer(provider_node_id="node-q")), send(gpu, bid())
    ids = {one["id"] for one in read(gpu)}
    assert {offered, wanted} <= ids
    assert {one["action"] for one in read(gpu, action="offer")} == {"offer"}
    assert {one["action"] for one in read(gpu, action="bid")} == {"bid"}
    assert offered in {one["id"] for one in read(gpu, provider_node_id="node-q")}
    assert wanted in {one["id"] for one in read(gpu, status="pending")}
    assert offered not in {one["id"] for one in read(gpu, status="pending")}
    assert read(gpu, island_id="isl-nowhere") == read(gpu, order_id="nothing") == []
    assert read(gpu, transaction_type="trading") == []
    moments = [one["created_at"] for one in read(gpu)]
    assert moments == sorted(moments, reverse=True)


def test_accepting_a_bid_is_told_by_its_status_and_done_once(gpu: httpx.Client, stranger: httpx.Client) -> None:
    wanted = send(gpu, bid())
    assert send(stranger, accept(wanted)) == wanted
    (found,) = read(gpu, order_id=wanted)
    assert (found["status"], found["provider_node_id"]) == ("accepted", "node-p")
    assert found["accepted_at"][:10]
    assert refusal(gpu, accept(wanted, provider_node_id="node-z")) == 409
    assert send(stranger, accept(wanted)) == wanted  # the client sends again what it believes to be lost


def test_cancelling_is_for_whoever_placed_the_order_and_done_once(gpu: httpx.Client, stranger: httpx.Client) -> None:
    for body, node in ((offer(), "node-p"), (bid(), "node-b")):
        order = send(gpu, body)
        assert refusal(stranger, cancel(order, node)) == 404
        assert refusal(gpu, cancel(order, "node-of-another")) == 404
        assert send(gpu, cancel(order, node)) == order
        (found,) = read(gpu, order_id=order)
        assert found["status"] == "cancelled"
        assert found["cancelled_at"]
        assert refusal(gpu, cancel(order, node, cancelled_at="2026-11-25T00:00:00")) == 409
        assert read(stranger, order_id=order) == []


def test_matching_finds_bids_among_the_active_and_takes_each_order_once(gpu: httpx.Client) -> None:
    island = {"island_id": new("island")}
    send(gpu, offer(**island))
    send(gpu, bid(**island))
    found = read(gpu, status="active", **island)
    (offered,) = [one for one in found if one["action"] == "offer"]
    (wanted,) = [one for one in found if one["action"] == "bid"]
    body = match(offered, wanted, **island)
    assert refusal(gpu, body | {"total_price": 0.7}) == 422
    assert refusal(gpu, body | {"matched_price": 0.2}) == 409
    assert refusal(gpu, body | {"offer_id": "nothing"}) == 404
    assert send(gpu, body) == offered["offer_id"]
    for one, other in ((offered, wanted), (wanted, offered)):
        (now,) = read(gpu, order_id=one["id"], **island)
        assert (now["status"], now["matched_order_id"], now["matched_price"]) == ("matched", other["id"], 0.1)
        assert now["matched_total_price"] == 0.6
    assert refusal(gpu, body | {"matched_at": "later"}) == 409
    assert refusal(gpu, cancel(offered["id"], "node-p")) == 409
    assert read(gpu, status="active", **island) == []


def test_of_twenty_that_accept_one_bid_at_once_exactly_one_does(gpu: httpx.Client) -> None:
    wanted = send(gpu, bid())
    with ThreadPoolExecutor(20) as pool:
        bodies = [accept(wanted, provider_node_id=f"node-{i}") for i in range(20)]
        answers = [one.status_code for one in pool.map(lambda body: gpu.post("/v1/transactions", json=body), bodies)]
    assert sorted(answers) == [200] + [409] * 19


def test_of_twenty_that_match_one_offer_at_once_exactly_one_does(gpu: httpx.Client) -> None:
    (offered,) = read(gpu, order_id=send(gpu, offer()))
    bids = [read(gpu, order_id=send(gpu, bid()))[0] for _ in range(20)]
    with ThreadPoolExecutor(20) as pool:
        bodies = [match(offered, one) for one in bids]
        answers = [one.status_code for one in pool.map(lambda body: gpu.post("/v1/transactions", json=body), bodies)]
    assert sorted(answers) == [200] + [409] * 19


def test_the_same_order_again_is_harmless_and_another_under_its_id_is_refused(
    gpu: httpx.Client, stranger: httpx.Client
) -> None:
    body = offer()
    assert send(gpu, body) == send(gpu, body)
    assert len(read(gpu, order_id=body["offer_id"])) == 1
    assert refusal(gpu, body | {"gpu_count": 3, "total_price": None}) == 409
    assert refusal(stranger, body) == 409


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "trading"},
        {"action": "steal"},
        {"total_price": 0.61},
        {"price_per_gpu": -0.1},
        {"price_per_gpu": 0.000000001, "total_price": None},
        {"price_per_gpu": "0.1"},
        {"gpu_count": 0},
        {"gpu_count": 1.5},
        {"duration_hours": 0},
        {"duration_hours": 8761, "total_price": None},
        {"offer_id": "two\nlines"},
        {"specs": {"model": "x" * 101}},
        {"specs": {"notes": "x" * 9000}},
    ],
)
def test_an_offer_that_makes_no_sense_is_refused(gpu: httpx.Client, changes: dict[str, Any]) -> None:
    assert refusal(gpu, offer(**changes)) == 422


def test_an_offer_with_the_least_that_was_ever_asked_for_is_taken_and_named(gpu: httpx.Client) -> None:
    order = send(gpu, {"type": "gpu_marketplace", "action": "offer", "status": "matched", "specs": None})
    answer = gpu.get("/v1/transactions", params={"order_id": order})
    (found,) = answer.json()
    assert (found["status"], found["provider_node_id"], found["model"]) == ("active", "default_miner", "Unknown")


def test_a_registered_gpu_is_listed_among_the_offers(gpu: httpx.Client, coordinator: httpx.Client) -> None:
    model = f"H100 {uuid.uuid4().hex[:8]}"
    made = listed(gpu, name=model, region="eu-west")
    asked: list[dict[str, Any]] = [
        {"action": "offer", "status": "available", "limit": 100},
        {"action": "offer", "status": "all", "price_max": 0.25, "region": "EU-west", "model": model.lower()},
    ]
    for wish in asked:
        answer = gpu.get("/v1/transactions", params=wish)
        (found,) = [one for one in answer.json() if one["id"] == made]
        expected = {"model": model, "memory_gb": 24, "price_per_hour": 0.25, "status": "available", "region": "eu-west"}
        assert {field: found[field] for field in expected} == expected
    assert made not in {one["id"] for one in gpu.get("/v1/transactions", params={"price_max": 0.24}).json()}
    found = coordinator.get(f"/v1/marketplace/gpu/{made}").json()
    assert found["id"] == made
    assert (found["miner_id"].startswith("shows-"), found["hardware"]) == (True, "claimed")
    assert (found["average_rating"], found["total_reviews"]) == (0.0, 0)
    query: dict[str, Any] = {"limit": 20, "available": "true", "model": model, "memory_min": 24, "price_max": 1}
    answer = coordinator.get("/v1/marketplace/gpu/list", params=query)
    assert [one["id"] for one in answer.json()] == [made]
    assert coordinator.get("/v1/marketplace/gpu/list", params=query | {"memory_min": 25}).json() == []


def test_a_gpu_registered_without_words_has_the_older_defaults(gpu: httpx.Client) -> None:
    answer = gpu.post("/v1/marketplace/gpu/register", json={"gpu": {}})
    assert answer.json()["price_per_hour"] == 0.05
    found = gpu.get(f"/v1/marketplace/gpu/{answer.json()['gpu_id']}").json()
    assert (found["model"], found["miner_id"], found["memory_gb"]) == ("Unknown", "default_miner", None)
    assert found["status"] == "offline"


def test_a_gpu_is_offline_while_the_miner_it_is_in_takes_no_work(installation: Installation, gpu: httpx.Client) -> None:
    miner = LegacyMiner(installation, gpu, gpu="RTX 4090", gpu_memory_gb=24)
    made = listed(gpu, name="RTX 4090", miner_id=miner.name)
    assert gpu.get(f"/v1/marketplace/gpu/{made}").json()["status"] == "available"
    assert gpu.delete(f"/v1/miners/{miner.name}").status_code == 200
    assert gpu.get(f"/v1/marketplace/gpu/{made}").json()["status"] == "offline"
    found = gpu.get("/v1/marketplace/gpu/list", params={"available": "false", "limit": 500}).json()
    assert made in {one["id"] for one in found}


def test_only_its_owner_changes_a_gpu_or_takes_it_off_the_market(
    coordinator: httpx.Client, stranger: httpx.Client
) -> None:
    made = listed(coordinator)
    sale = {"seller_id": "me", "gpu_id": made, "listing_price": 0.5}
    assert stranger.delete(f"/v1/marketplace/gpu/{made}").status_code == 404
    assert stranger.post("/v1/marketplace/gpu/sell", json=sale).status_code == 404
    assert coordinator.post("/v1/marketplace/gpu/sell", json=sale).json()["listing_price"] == 0.5
    assert coordinator.get(f"/v1/marketplace/gpu/{made}").json()["price_per_hour"] == 0.5
    answer = coordinator.delete(f"/v1/marketplace/gpu/{made}", params={"force": "true"})
    assert (answer.status_code, answer.json()["status"], answer.json()["gpu_id"]) == (200, "deleted", made)
    assert coordinator.get(f"/v1/marketplace/gpu/{made}").status_code == 404
    assert coordinator.delete(f"/v1/marketplace/gpu/{made}").status_code == 404


def rented(installation: Installation, client: httpx.Client, gpu: str) -> None:
    """A booking of the caller's from two minutes ago until now."""
    booked = client.post(f"/v1/marketplace/gpu/{gpu}/book", json={"gpu_id": gpu, "duration_hours": 1.0})
    assert booked.status_code == 201, booked.text
    earlier = "UPDATE gpu.bookings SET starts_at = starts_at - interval '2 min' WHERE gpu = $1 AND state = 'active'"

    async def move() -> None:
        target = installation.server.database
        connection = await asyncpg.connect(**target.connect_arguments(application="tests", statement_seconds=60))
        await connection.execute(earlier, ids.decode("gpu", gpu))
        await connection.close()

    asyncio.run(move())
    assert client.post(f"/v1/marketplace/gpu/{gpu}/release").json()["status"] == "released"


def test_a_rating_is_the_mean_of_what_others_said_each_once(
    installation: Installation, coordinator: httpx.Client, stranger: httpx.Client
) -> None:
    made = listed(coordinator)
    path = f"/v1/marketplace/gpu/{made}/reviews"
    assert coordinator.post(path, json={"rating": 5, "comment": "Mine"}).status_code == 409
    unused = stranger.post(path, json={"rating": 1, "comment": "Never there"})
    assert (unused.status_code, unused.json()["code"]) == (409, "gpu_not_used")
    rented(installation, stranger, made)
    answer = stranger.post(path, json={"rating": 4, "comment": "Good"})
    assert (answer.status_code, answer.json()["status"], answer.json()["average_rating"]) == (201, "review_added", 4.0)
    assert stranger.post(path, json={"rating": 4, "comment": "Good"}).json() == answer.json()
    assert stranger.post(path, json={"rating": 1, "comment": "Bad"}).status_code == 409
    assert stranger.post(path, json={"rating": 6, "comment": ""}).status_code == 422
    for rating in (5, 5):
        account, key = installation.resident("reviewer")
        installation.fund("5", account)
        with installation.client("coordinator", key) as other:
            rented(installation, other, made)
            assert other.post(path, json={"rating": rating, "comment": ""}).status_code == 201
    found = coordinator.get(path, params={"limit": 2}).json()
    assert (found["gpu_id"], found["average_rating"], found["total_reviews"]) == (made, 4.67, 3)
    assert [one["rating"] for one in found["reviews"]] == [5, 5]
    shown = coordinator.get(f"/v1/marketplace/gpu/{made}").json()
    assert (shown["average_rating"], shown["total_reviews"]) == (4.67, 3)
    assert coordinator.get(path.replace(made, "gpu_1")).status_code == 404


def test_the_pricing_of_a_model_is_what_owners_ask_for_it(coordinator: httpx.Client) -> None:
    model = f"A100-{uuid.uuid4().hex[:8]}"
    dear, cheap = (
        listed(coordinator, name=model, price_per_hour=0.3),
        listed(coordinator, name=model, price_per_hour=0.1),
    )
    found = coordinator.get(f"/v1/marketplace/pricing/{model}").json()
    assert found["static_pricing"] == {
        "min_price": 0.1,
        "max_price": 0.3,
        "average_price": 0.2,
        "available_gpus": 2,
        "total_gpus": 2,
        "recommended_gpu": cheap,
    }
    assert [one["gpu_id"] for one in found["individual_gpu_pricing"]] == [cheap, dear]
    assert found["dynamic_pricing"] is found["market_analysis"] is None
    assert coordinator.get("/v1/marketplace/pricing/nothing-like-it").status_code == 404


def test_nobody_without_a_key_comes_in_by_the_gateway(installation: Installation) -> None:
    with installation.client("gateway") as nobody:
        assert nobody.post("/gpu/v1/transactions", json=offer()).status_code == 401
        assert nobody.get("/gpu/v1/transactions").status_code == 401
        assert nobody.get("/coordinator/v1/marketplace/gpu/list").status_code == 401
