"""The explorer in the legacy dialect: what was paid is seen there, whatever door it is asked at, and nothing is invented."""

from typing import Any

import httpx
import pytest

from tests.legacy.installation import Installation

MANY = 3

UNKNOWN_JOB = "job_00000000000000000000000000"


@pytest.fixture(scope="module")
def done(installation: Installation) -> Any:
    """A job that was paid, with its receipt in a block."""
    done = installation.paid_job("what the explorer shows")
    with installation.client("gateway", installation.local) as client:
        for _ in range(100):
            if client.get(f"/api/v1/trading/receipts/{done['receipt']}").json().get("proof"):
                break
    return done


def told(installation: Installation, place: str, path: str, **query: Any) -> Any:
    """What a door answers."""
    with installation.client(place) as client:
        answer = client.get(path, params=query)
    assert answer.status_code == 200, (path, answer.text)
    return answer.json()


def refused(
    installation: Installation, place: str, path: str, method: str = "GET", body: Any = None
) -> tuple[int, str]:
    """How a door refuses."""
    with installation.client(place) as client:
        answer: httpx.Response = client.request(method, path, json=body)
    return answer.status_code, answer.json()["code"]


def test_it_says_that_it_is_there(installation: Installation) -> None:
    assert told(installation, "trading", "/health") == {"status": "healthy", "service": "trading-service"}
    assert told(installation, "trading", "/live")["status"] == "alive"
    assert told(installation, "trading", "/ready")["status"] == "ready"
    assert told(installation, "trading", "/trading/status")["status"] == "operational"
    with installation.client("gateway") as client:
        assert client.get("/trading/health").json()["service"] == "trading-service"


@pytest.mark.parametrize("path", ["/blocks", "/v1/explorer/blocks", "/api/v1/blocks"])
def test_blocks_are_those_of_the_chain(installation: Installation, done: Any, path: str) -> None:
    for _ in range(20):
        page = told(installation, "trading", path, limit=3)
        ours = installation.ours("GET", "trading/blocks?limit=3")["data"]
        if page["blocks"][0]["hash"] == ours[0]["hash"]:  # else a block was sealed in between
            break
    assert [block["hash"] for block in page["blocks"]] == [block["hash"] for block in ours]
    assert page["limit"] == 3
    assert page["total"] == ours[0]["height"] + 1
    for newer, older in zip(page["blocks"], page["blocks"][1:], strict=False):
        assert (newer["parent_hash"], newer["height"]) == (older["hash"], older["height"] + 1)
    if path != "/blocks":
        assert page["chain_id"] == "ait-devnet"
        assert told(installation, "trading", path, chain_id="ait-devnet")["chain_id"] == "ait-devnet"
        assert refused(installation, "trading", f"{path}?chain_id=ait-mainnet") == (404, "chain_not_found")


def test_another_chain_than_ours_is_never_shown_as_ours(installation: Installation, done: Any) -> None:
    transaction = told(installation, "coordinator", "/v1/explorer/transactions", limit=1)["items"][0]["hash"]
    for place, path in (
        ("trading", f"/explorer/transactions/{transaction}"),
        ("coordinator", f"/v1/transactions/{transaction}"),
        ("coordinator", "/v1/explorer/blocks"),
        ("coordinator", f"/rpc/balance/{installation.account}"),
    ):
        assert refused(installation, place, f"{path}?chain_id=ait-mainnet") == (404, "chain_not_found")
        assert told(installation, place, path, chain_id="ait-devnet") == told(installation, place, path)
    away = told(installation, "coordinator", "/v1/sync-status", chain_id="ait-mainnet")
    assert (away["available"], away["height"]) == (False, None)
    assert told(installation, "coordinator", "/v1/status", chain_id="ait-devnet")["available"] is True


@pytest.mark.parametrize(
    ("status", "is_there"),
    [
        ("paid", True),
        ("completed", True),
        ("Succeeded", True),
        ("released", True),
        ("failed", False),
        ("pending", False),
    ],
)
def test_receipts_are_filtered_by_every_word_for_what_was_paid(
    installation: Installation, done: Any, status: str, is_there: bool
) -> None:
    found = told(installation, "trading", "/v1/explorer/receipts", job_id=done["id"], status=status)
    assert len(found["receipts"]) == int(is_there)
    assert refused(installation, "trading", "/v1/explorer/receipts?status=odd")[0] == 422


def test_a_block_has_a_height_and_a_hash(installation: Installation, done: Any) -> None:
    head = told(installation, "trading", "/blocks", limit=1)["blocks"][0]
    assert told(installation, "trading", f"/blocks/{head['height']}") == head
    assert told(installation, "trading", f"/blocks/{head['hash']}") == head
    for unknown in ("999999", "sha256:" + "0" * 64, "nonsense"):
        assert refused(installation, "trading", f"/blocks/{unknown}") == (404, "block_not_found")


def test_the_receipt_of_a_job_is_listed_once_at_every_door(installation: Installation, done: Any) -> None:
    (receipt,) = told(installation, "trading", "/v1/explorer/receipts", job_id=done["id"])["receipts"]
    assert (receipt["receiptId"], receipt["jobId"]) == (done["receipt"], done["id"])
    assert receipt["payload"]["price"] == float(done["price"])
    assert receipt["payload"]["units"] > 0
    assert receipt["payload"]["unit_type"]
    everything = told(installation, "trading", "/receipts", limit=500)
    assert everything["total"] == len(everything["receipts"])
    assert [one for one in everything["receipts"] if one["jobId"] == done["id"]] == [receipt]
    page = told(installation, "coordinator", "/v1/explorer/receipts", job_id=done["id"])
    assert (page["jobId"], page["items"]) == (done["id"], [receipt])
    assert told(installation, "coordinator", "/v1/explorer/receipts", limit=1)["jobId"] == "all"
    assert told(installation, "trading", "/v1/explorer/receipts", job_id=UNKNOWN_JOB)["receipts"] == []
    assert told(installation, "trading", "/v1/explorer/receipts", status="failed")["total"] == 0


def test_a_transaction_is_found_by_the_hash_that_lists_give_it(installation: Installation, done: Any) -> None:
    page = told(installation, "coordinator", "/v1/explorer/transactions", limit=2)
    assert page["next_offset"] == 2
    following = told(installation, "coordinator", "/v1/explorer/transactions", limit=2, offset=2)["items"]
    assert not {one["hash"] for one in page["items"]} & {one["hash"] for one in following}
    transaction = page["items"][0]
    assert {"hash", "block", "from", "to", "value", "status"} <= transaction.keys()
    for place, path in (
        ("trading", "/transactions/"),
        ("trading", "/explorer/transactions/"),
        ("coordinator", "/v1/explorer/transactions/"),
        ("coordinator", "/v1/transactions/"),
    ):
        assert told(installation, place, path + transaction["hash"])["value"] == transaction["value"]
        assert refused(installation, place, path + "txn_00000000000000000000000000") == (404, "transaction_not_found")


def test_the_coordinator_shows_the_same_chain(installation: Installation, done: Any) -> None:
    page = told(installation, "coordinator", "/v1/explorer/blocks", limit=1)
    head = page["items"][0]
    assert {"height", "hash", "timestamp", "txCount", "proposer"} <= head.keys()
    assert page["next_offset"] == 1
    assert told(installation, "coordinator", f"/v1/blocks/{head['height']}") == head
    assert told(installation, "coordinator", f"/v1/blocks/hash/{head['hash']}") == head
    status = told(installation, "coordinator", "/v1/sync-status", chain_id="ait-devnet")
    assert status["available"] is True
    assert status["height"] >= head["height"]
    assert told(installation, "coordinator", "/v1/validators")["validators"][-1]["status"] == "active"
    assert refused(installation, "coordinator", "/v1/state/dump")[0] == 501
    while (height := told(installation, "coordinator", "/v1/blocks", limit=1)["blocks"][0]["height"]) < MANY:
        installation.fund("1")
        installation.sealed(after=height)
    page = told(installation, "coordinator", "/v1/blocks", limit=2, offset=1)
    assert (len(page["blocks"]), page["limit"], page["offset"]) == (2, 2, 1)
    assert page["total"] > page["blocks"][0]["height"] > page["blocks"][1]["height"]
    supply = told(installation, "coordinator", "/v1/supply")
    assert supply["unit"] == "AITBC"
    assert 0 < supply["circulating_supply"] <= supply["total_supply"]
    installation.fund("3")
    assert told(installation, "coordinator", "/v1/supply")["total_supply"] == pytest.approx(supply["total_supply"] + 3)


def test_an_account_is_shown_to_its_owner_and_to_the_operator(installation: Installation, done: Any) -> None:
    ours = installation.ours("GET", f"trading/accounts/{installation.account}")
    for path in ("/v1/accounts/", "/rpc/balance/", "/rpc/getBalance/"):
        found = told(installation, "coordinator", path + installation.account)
        assert (found["balance"], found["currency"]) == (float(ours["owned"]), "AITBC")
        stranger, _ = installation.resident("stranger")
        assert refused(installation, "coordinator", path + stranger)[0] == 404
    (mine,) = told(installation, "coordinator", "/v1/explorer/addresses")["items"]
    assert mine["address"] == installation.account
    assert mine["balance"] == f"{float(ours['owned']):.6f}"
    assert mine["txCount"] == ours["entries"]
    with installation.client("coordinator", installation.admin) as client:
        everybody = client.get("/v1/explorer/addresses", params={"limit": 500}).json()["items"]
    assert installation.account in {one["address"] for one in everybody}


def test_agents_trade_from_the_request_to_the_settlement(installation: Installation) -> None:
    seller, key = installation.resident("seller")
    installation.fund("1")
    offer = {"trade_type": "compute_resources", "title": "An H100", "price": "0.5"}
    sold = offer | {"specifications": {"vram_gb": 80}, "capacity": 2}
    assert installation.ours("POST", "trading/offers", sold, key=key)["state"] == "open"
    asked = {
        "buyer_agent_id": "agent_7",
        "trade_type": "compute_resources",
        "title": "A night",
        "description": "",
        "specifications": {"vram_gb": 80, "free": {"form": 1}},
        "budget_range": {"min": 0.1, "max": 1.0},
        "status": "completed",
    }
    with installation.client("trading") as client:
        made = client.post("/v1/trading/requests", json=asked)
        assert made.status_code == 201 and made.json()["status"] == "open", made.text
        request = made.json()["request_id"]
        match = {
            "type": "trading",
            "action": "match",
            "match_id": "match_1",
            "request_id": request,
            "seller_agent_id": seller,
            "match_score": 3,
        }
        done = client.post("/v1/transactions", json=match).json()
        assert done == {"status": "success", "transaction_id": "match_1", "settlement_id": None}
        assert client.post("/v1/transactions", json=match).json() == done
        (found,) = client.get("/v1/trading/matches", params={"status": "matching"}).json()
        assert found["match_id"] == "match_1" and found["match_score"] >= 60
        agree = {"agreement_id": "agree_1", "match_id": "match_1", "settlement_type": "immediate", "total_price": 0.5}
        assert client.post("/v1/trading/agreements", json=agree | {"total_price": 0.4}).status_code == 422
        assert (
            client.post("/v1/trading/agreements", json=agree | {"settlement_type": "subscription"}).status_code == 422
        )
        agreed = client.post("/v1/trading/agreements", json=agree)
        assert agreed.status_code == 201 and agreed.json()["status"] == "agreed", agreed.text
        assert client.post("/v1/trading/agreements", json=agree).json() == agreed.json()
        settle = {"type": "trading", "action": "settlement", "settlement_id": "settle_1", "agreement_id": "agree_1"}
        settled = client.post("/v1/transactions", json=settle | {"total_amount": 0.5}).json()
        assert settled == {"status": "success", "transaction_id": "agree_1", "settlement_id": "settle_1"}
        assert client.post("/v1/transactions", json=settle).json() == settled
        (line,) = client.get("/v1/transactions", params={"action": "settlement"}).json()
        assert line["platform_fee"] + line["net_amount_seller"] == line["total_amount"] == 0.5
        figures = client.get("/v1/trading/analytics").json()
        assert figures["total_trade_volume"] == 0.5 and figures["completed_trades"] == 1
        assert [one["request_id"] for one in client.get("/v1/trading/requests?buyer_agent_id=agent_7").json()] == [
            request
        ]
        for path, code in (("requests", "trade_request_not_found"), ("matches", "trade_match_not_found")):
            answer = client.get(f"/v1/trading/{path}/nothing")
            assert (answer.status_code, answer.json()["code"]) == (404, code)
        for wrong in ({"type": "trading", "action": "odd"}, {"type": "odd", "action": "match"}, {"action": "request"}):
            assert client.post("/v1/transactions", json=wrong).status_code in (400, 422)
        asked_again = asked | {"request_id": "weekly", "budget_range": {}}
        assert client.post("/v1/trading/requests", json=asked_again).status_code == 201
        weekly = {"type": "trading", "action": "match", "request_id": "weekly", "seller_agent_id": seller}
        match_id = client.post("/v1/transactions", json=weekly).json()["transaction_id"]
        by_time = {"match_id": match_id, "settlement_type": "subscription"}
        for schedule, status in (({"periods": 1, "period_hours": 1}, 422), ({"periods": 2, "period_hours": 168}, 201)):
            answer = client.post("/v1/trading/agreements", json=by_time | {"payment_schedule": schedule})
            assert answer.status_code == status, answer.text
        assert answer.json()["settlement_type"] == "subscription"
    with installation.client("coordinator") as client:
        assert client.get(f"/v1/trading/requests/{request}").json()["status"] == "completed"
        simulated = client.post("/v1/trading/simulate-match", json=asked).json()
        assert (simulated["matches_found"], simulated["best_matches"]) == (0, []), "both places are taken"
        summed = client.get("/v1/trading/agents/agent_7/summary").json()
        recent = summed.pop("recent_activity")
        assert (summed["trade_requests"], summed["agreements"], summed["total_trade_volume"]) == (2, 2, 0.5), summed
        assert summed["success_rate"] == 1.0 and summed["average_match_score"] >= 60
        assert recent == {"requests_last_30d": 2, "matches_last_30d": 2, "agreements_last_30d": 2}
        other = client.get(f"/v1/trading/agents/{seller}/summary").json()
        assert (other["agent_id"], other["agreements"], other["total_trade_volume"]) == (seller, 2, 0.5)


def test_limits_are_limits(installation: Installation) -> None:
    for path in ("/blocks?limit=0", "/receipts?limit=501", "/v1/explorer/blocks?limit=x"):
        assert refused(installation, "trading", path)[0] == 422
