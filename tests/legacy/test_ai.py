"""Jobs in the legacy dialect: submitted, watched, paid and cancelled as legacy clients do it, under our rules."""

import base64
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from aitbc.modules.ai.models.canary_picture import picture_of
from tests.legacy.installation import Installation

UNKNOWN = "job_00000000000000000000000000"
CHAT = {"payload": {"type": "inference", "prompt": "Say hello.", "model": "small"}, "ttl_seconds": 900}
EMBED = {"task_type": "embedding", "task_data": {"text": "A sentence."}, "payment_amount": 0.05}
Ask = Callable[..., httpx.Response]


@pytest.fixture(autouse=True)
def funded(installation: Installation) -> None:
    installation.fund("1")


def ask(
    installation: Installation, place: str, method: str, path: str, body: Any = None, key: str | None = None
) -> httpx.Response:
    """One request of an legacy client."""
    with installation.client(place, key) as client:
        return client.request(method, path, json=body)


def told(answer: httpx.Response, status: int = 200) -> Any:
    """The body of an answer that must have this status."""
    assert answer.status_code == status, answer.text
    return answer.json()


def test_it_says_that_it_is_there(installation: Installation) -> None:
    assert told(ask(installation, "ai", "GET", "/health")) == {"status": "healthy", "service": "ai-service"}
    assert told(ask(installation, "ai", "GET", "/"))["status"] == "operational"
    assert told(ask(installation, "gateway", "GET", "/ai/health"))["service"] == "ai-service"
    capable = told(ask(installation, "ai", "GET", "/multimodal/health"))["capabilities"]
    assert (capable["text_processing"], capable["audio_processing"]) == (True, False)


def test_how_media_fare_is_told_from_miners_and_finished_jobs(installation: Installation) -> None:
    installation.paid_job("To be timed.")
    with installation.miner():
        for _ in range(600):  # the picture of the fleet is drawn from an event
            found = told(ask(installation, "ai", "GET", "/multimodal/health/deep"))
            if found["modality_tests"]["text"]["status"] == "pass":
                break
            time.sleep(0.05)
    tests = found["modality_tests"]
    assert (tests["text"]["status"], tests["audio"]["status"]) == ("pass", "not offered")
    assert tests["text"]["processing_time"] > 0
    assert tests["image"]["status"] in ("no miner", "no data")
    assert (found["status"], found["overall_health"], tests["text"]["accuracy"]) == ("healthy", "degraded", None)


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize(("body", "kind"), [(CHAT, "inference"), (EMBED, "embed")])
def test_a_job_is_submitted_in_both_spellings_and_cancelled_once(
    installation: Installation, body: Any, kind: str
) -> None:
    job = told(ask(installation, "ai", "POST", "/jobs", body), 201)
    assert (job["task_type"], job["state"], job["payment_status"]) == (kind, "pending", "escrowed")
    assert job["id"] == job["job_id"]
    assert job["client_id"] == installation.account
    assert told(ask(installation, "ai", "GET", f"/jobs/{job['id']}"))["state"] == "pending"
    assert (
        told(ask(installation, "gateway", "GET", f"/ai/jobs/{job['id']}", key=installation.local))["state"] == "pending"
    )
    assert told(ask(installation, "ai", "GET", f"/jobs/{job['id']}/result"), 425)["code"] == "job_not_ready"
    assert told(ask(installation, "ai", "GET", f"/jobs/{job['id']}/payment"))["status"] == "escrowed"
    assert told(ask(installation, "ai", "POST", f"/jobs/{job['id']}/cancel"))["state"] == "canceled"
    assert told(ask(installation, "ai", "POST", f"/jobs/{job['id']}/cancel"), 400)["code"] == "job_already_ended"
    assert told(ask(installation, "ai", "GET", f"/jobs/{job['id']}/payment"))["status"] == "refunded"
    assert told(ask(installation, "ai", "GET", f"/jobs/{job['id']}/result"))["state"] == "canceled"


def test_without_a_price_a_job_offers_what_it_can_cost_at_most(installation: Installation) -> None:
    body = {"task_type": "embed", "task_data": {"texts": ["one", "two"]}}
    job = told(ask(installation, "ai", "POST", "/jobs", body), 201)
    ours = installation.job(job["id"])
    quote = {"kind": "embed", "input": {"texts": ["one", "two"]}, "max_price": "1"}
    assert ours["max_price"] == installation.ours("POST", "ai/quotes", quote, key=installation.local)["price_max"]
    ask(installation, "ai", "POST", f"/jobs/{job['id']}/cancel")


def test_the_whole_way_of_a_paid_job(installation: Installation) -> None:
    job = told(ask(installation, "coordinator", "POST", "/v1/jobs", EMBED), 201)
    assert (job["state"], job["payment_status"]) == ("QUEUED", "escrowed")
    with installation.miner():
        installation.until(job["job_id"], "succeeded")
    done = told(ask(installation, "coordinator", "GET", f"/v1/jobs/{job['job_id']}"))
    assert (done["state"], done["payment_status"], done["error"]) == ("COMPLETED", "released", None)
    assert done["assigned_miner_id"].startswith("mnr_")
    result = told(ask(installation, "ai", "GET", f"/jobs/{job['job_id']}/result"))
    assert result["result"]["vectors"]
    receipt = told(ask(installation, "coordinator", "GET", f"/v1/jobs/{job['job_id']}/receipt"))
    assert receipt == result["receipt"]
    assert receipt["price"] == float(installation.job(job["job_id"])["price"])
    assert told(ask(installation, "coordinator", "GET", f"/v1/jobs/{job['job_id']}/receipts"))["items"] == [receipt]
    payment = told(ask(installation, "coordinator", "GET", f"/v1/payments/{job['payment_id']}"))
    assert (payment["status"], payment["amount"]) == ("released", receipt["price"])
    assert told(ask(installation, "coordinator", "GET", f"/v1/payments/{job['payment_id']}/receipt")) == payment
    release = ask(installation, "coordinator", "POST", f"/v1/payments/{job['payment_id']}/release", {})
    assert told(release)["status"] == "released"
    refund = ask(installation, "coordinator", "POST", f"/v1/payments/{job['payment_id']}/refund", {"reason": "no"})
    assert told(refund, 409)["code"] == "not_refundable"
    assert told(ask(installation, "coordinator", "POST", f"/v1/jobs/{job['job_id']}/cancel"), 409)


def test_a_payment_stands_from_the_submission_and_can_be_taken_back(installation: Installation) -> None:
    job = told(ask(installation, "coordinator", "POST", "/v1/jobs", EMBED), 201)
    pay = {"job_id": job["job_id"], "amount": 0.05, "currency": "AITBC", "payment_method": "aitbc_token"}
    payment = told(ask(installation, "coordinator", "POST", "/v1/payments", pay), 201)
    assert (payment["payment_id"], payment["status"], payment["amount"]) == (job["payment_id"], "escrowed", 0.05)
    more = told(ask(installation, "coordinator", "POST", "/v1/payments", pay | {"amount": 0.75}), 201)
    assert (more["payment_id"], more["status"], more["amount"]) == (job["payment_id"], "escrowed", 0.75)
    assert installation.job(job["job_id"])["max_price"] == "0.75"
    assert ask(installation, "coordinator", "POST", "/v1/payments", pay | {"amount": 1e6}).status_code == 402
    assert installation.ours("POST", "trading/ledger/verify", {})["ok"] is True
    path = f"/v1/payments/{job['payment_id']}"
    assert told(ask(installation, "coordinator", "POST", f"{path}/release", {}), 425)
    for _ in range(2):
        assert (
            told(ask(installation, "coordinator", "POST", f"{path}/refund", {"reason": "no"}))["status"] == "refunded"
        )
    assert told(ask(installation, "coordinator", "GET", f"/v1/jobs/{job['job_id']}"))["state"] == "CANCELED"
    late = told(ask(installation, "coordinator", "POST", "/v1/payments", pay | {"amount": 5}), 409)
    assert late["code"] == "amount_above_held"
    assert installation.ours("POST", "trading/ledger/verify", {})["ok"] is True
    assert told(ask(installation, "coordinator", "GET", f"/v1/jobs/{job['job_id']}/receipt"), 404)
    assert told(ask(installation, "coordinator", "GET", "/v1/payments/hold_00000000000000000000000000"), 404)


def test_lists_are_filtered_and_bare_where_older_clients_want_them_so(installation: Installation) -> None:
    job = told(ask(installation, "ai", "POST", "/jobs", EMBED), 201)
    page = told(ask(installation, "ai", "GET", "/jobs?limit=5&state=pending"))
    assert job["id"] in {one["id"] for one in page["jobs"]}  # what earlier tests began may submit jobs still
    assert page["total"] == len(page["jobs"]) <= page["limit"] == 5
    assert told(ask(installation, "ai", "GET", "/jobs?type=embed&status=running"))["jobs"] == []
    assert told(ask(installation, "ai", "GET", "/jobs?from_time=2999-01-01T00:00:00Z"))["jobs"] == []
    assert told(ask(installation, "ai", "GET", "/jobs?state=odd"), 422)
    assert told(ask(installation, "ai", "GET", "/jobs?from_time=yesterday"), 422)
    assert told(ask(installation, "ai", "GET", "/jobs?limit=0"), 422)
    for path, rows in (("/jobs?", None), ("/v1/jobs?status=QUEUED&", "items"), ("/v1/jobs/history?", "items")):
        for limit in (1, 50):
            answer = told(ask(installation, "coordinator", "GET", f"{path}limit={limit}"))
            found = [one["job_id"] for one in (answer if rows is None else answer[rows])]
            assert len(found) == 1 if limit == 1 else job["id"] in found, path
    ask(installation, "ai", "POST", f"/jobs/{job['id']}/cancel")


def test_states_are_counted_in_the_words_that_clients_count(installation: Installation) -> None:
    done = installation.paid_job("To be counted.")["id"]
    waits = told(ask(installation, "coordinator", "POST", "/v1/jobs", EMBED), 201)["job_id"]
    words = {done: ("COMPLETED", "completed"), waits: ("QUEUED", "pending")}
    for path, rows in (
        ("/jobs?limit=500", None),
        ("/v1/jobs?limit=500", "items"),
        ("/v1/jobs/history?limit=500", "items"),
    ):
        answer = told(ask(installation, "coordinator", "GET", path))
        found = {one["job_id"]: (one["state"], one["status"]) for one in (answer if rows is None else answer[rows])}
        assert {job: found[job] for job in words} == words, path
    ask(installation, "coordinator", "POST", f"/v1/jobs/{waits}/cancel")


def test_whose_a_job_is_and_who_did_it_is_said_everywhere(installation: Installation) -> None:
    ours = installation.paid_job("Whose?")
    account, miner = installation.account, ours["history"][-1]["miner"]
    for place, path, rows, key in (
        ("coordinator", f"/v1/jobs/{ours['id']}", None, None),
        ("coordinator", "/v1/jobs?limit=500", "items", None),
        ("coordinator", "/v1/jobs/history?limit=500", "items", None),
        ("coordinator", "/jobs?limit=500", "", None),
        ("ai", f"/jobs/{ours['id']}", None, None),
        ("ai", "/jobs?limit=500", "jobs", None),
        ("ai", f"/jobs/{ours['id']}", None, installation.admin),
        ("ai", "/admin/jobs?limit=500", "jobs", installation.admin),
        ("ai", f"/admin/jobs/{ours['id']}", None, installation.admin),
    ):
        answer = told(ask(installation, place, "GET", path, key=key))
        found = {one["job_id"]: one for one in ([answer] if rows is None else answer[rows] if rows else answer)}
        shown = found[ours["id"]]
        assert (shown["client_id"], shown["assigned_miner_id"]) == (account, miner), (place, path)


@pytest.mark.parametrize("task", ["inference", "chat", "LLM-inference", "text_generation"])
def test_a_list_by_type_of_task_has_what_was_submitted_as_it(installation: Installation, task: str) -> None:
    sent = CHAT | {"payload": {"type": task, "prompt": "Say hello."}}
    job = told(ask(installation, "ai", "POST", "/jobs", sent), 201)
    assert job["task_type"] == "inference"
    for path in (f"/jobs?type={task}&limit=500", f"/jobs?type={task}&status=pending&limit=500"):
        assert job["id"] in {one["id"] for one in told(ask(installation, "ai", "GET", path))["jobs"]}
    for path in (f"/v1/jobs?job_type={task}&limit=500", f"/v1/jobs/history?job_type={task}&limit=500"):
        items = told(ask(installation, "coordinator", "GET", path))["items"]
        assert {one["job_type"] for one in items if one["job_id"] == job["id"]} == {"inference"}
    assert told(ask(installation, "ai", "GET", "/jobs?type=mining"), 422)["code"] == "unknown_task"
    ask(installation, "ai", "POST", f"/jobs/{job['id']}/cancel")


def test_jobs_that_were_paid_are_found_as_paid(installation: Installation) -> None:
    done = installation.paid_job("Paid.")["id"]
    for word in ("paid", "completed", "succeeded", "COMPLETED"):
        found = told(ask(installation, "ai", "GET", f"/jobs?status={word}&limit=500"))["jobs"]
        assert done in {one["id"] for one in found}
    now = installation.job(done)["created_at"]
    around = f"/jobs?limit=500&from_time={now.replace('+00:00', 'Z')}&to_time={now.replace('+00:00', 'Z')}"
    assert [one["id"] for one in told(ask(installation, "ai", "GET", around))["jobs"]] == [done]
    pages = [told(ask(installation, "coordinator", "GET", f"/v1/jobs?limit=1&offset={at}"))["items"] for at in (0, 1)]
    assert pages[0] != pages[1]


def test_what_is_not_there_or_not_ones_own_is_not_found(installation: Installation) -> None:
    _, key = installation.resident("stranger")
    job = installation.submit("mine alone")
    for path in ("", "/result", "/payment"):
        assert ask(installation, "ai", "GET", f"/jobs/{UNKNOWN}{path}").status_code == 404
        assert ask(installation, "ai", "GET", f"/jobs/{job}{path}", key=key).status_code == 404
    assert ask(installation, "coordinator", "GET", f"/v1/jobs/{job}", key=key).status_code == 404
    assert ask(installation, "ai", "POST", f"/jobs/{job}/cancel", key=key).status_code == 404
    ask(installation, "ai", "POST", f"/jobs/{job}/cancel")


def test_a_task_that_nobody_does_is_refused_with_those_that_are(installation: Installation) -> None:
    refused = told(ask(installation, "ai", "POST", "/jobs", {"task_type": "mining", "task_data": {}}), 422)
    assert refused["code"] == "unknown_task"
    assert "embed" in refused["detail"]
    assert ask(installation, "ai", "POST", "/jobs", {"task_type": "embed", "task_data": {}}).status_code == 422
    assert ask(installation, "ai", "POST", "/jobs", EMBED | {"payment_amount": -1}).status_code == 422
    assert ask(installation, "ai", "POST", "/jobs", EMBED | {"payment_amount": 1_000_000}).status_code == 402
    assert ask(installation, "ai", "POST", "/multimodal/benchmark", {"modality": "audio"}).status_code == 501
    measured = told(ask(installation, "ai", "POST", "/multimodal/benchmark", {"modality": "image"}))
    assert (measured["latency_ms"], measured["throughput"], measured["runs"]) == (None, "no data", 0)
    predicted = told(ask(installation, "ai", "POST", "/optimization/predict", {"model": "nobody-has-it"}))
    assert (predicted["expected_performance"], predicted["estimated_accuracy"]) == ("no data", None)
    agents = told(ask(installation, "ai", "GET", "/multimodal/agents", None))
    assert agents["total"] == len(agents["agents"])
    assert {one["id"] for one in agents["agents"]} <= {"embed", "ocr"}
    samplers = told(ask(installation, "ai", "GET", "/optimization/agents", None))
    assert {one["id"] for one in samplers["agents"]} == {"tpe", "random", "qmc"}
    assert ask(installation, "ai", "POST", "/multimodal/process", {"modality": "audio"}).status_code == 501
    for both in ({"image": "iVBORw0KGgo="}, {"text": "what it shows"}):
        assert (
            ask(installation, "ai", "POST", "/multimodal/process", both | {"modality": "multimodal"}).status_code == 422
        )
    picture = base64.b64encode(picture_of("12345678")).decode()
    begun = {"modality": "multimodal", "text": "some digits", "image": picture, "payment_amount": 0.2}
    graph = told(ask(installation, "ai", "POST", "/multimodal/process", begun))["task_id"]
    assert graph.startswith("graph_")
    for path, status in (("nobody/capabilities", 404), ("ocr/capabilities", 200)):
        assert ask(installation, "coordinator", "GET", f"/multimodal/agents/{path}", None).status_code == status
    other = ask(installation, "coordinator", "POST", "/multimodal/agents/embed/process", {"modalities": {"audio": "a"}})
    assert other.status_code == 501
    assert ask(installation, "coordinator", "POST", "/v1/services/blender/render", {}).status_code == 501


def test_tuning_stands_on_a_study(installation: Installation) -> None:
    assert told(ask(installation, "ai", "POST", "/optimization/tune", {"model": "untuned"}))["status"] == "no data"
    study = {
        "kind": "embed",
        "input": {"texts": ["of {{params.word}}"]},
        "params": {"word": {"type": "choice", "choices": ["tide", "ebb"]}},
        "trials": 2,
        "budget": "0.2",
        "max_price": "0.05",
    }
    wrong = ask(installation, "ai", "POST", "/optimization/tune", {"model": "words", "study": study | {"trials": 0}})
    assert wrong.status_code == 422
    begun = told(ask(installation, "ai", "POST", "/optimization/tune", {"model": "words", "study": study}))
    assert begun["status"] == "tuning"
    again = told(ask(installation, "ai", "POST", "/optimization/tune", {"model": "words"}))
    assert again["tuning_id"] == begun["tuning_id"]
    session = f"/tune/sessions/{begun['tuning_id']}"
    assert told(ask(installation, "coordinator", "GET", session, None))["total_iterations"] == 2
    assert "trials" in told(ask(installation, "coordinator", "GET", f"{session}/results", None))
    assert ask(installation, "coordinator", "GET", "/tune/sessions/t", None).status_code == 404


@pytest.mark.usefixtures("served")
def test_what_a_job_asks_of_its_miner_is_held_or_refused(installation: Installation) -> None:
    wanted = {"gpu": "RTX 4090", "min_vram_gb": 24, "region": "eu", "models": ["small"], "max_price": 0.04}
    job = told(ask(installation, "coordinator", "POST", "/v1/jobs", CHAT | {"constraints": wanted}), 201)
    ours = installation.job(job["job_id"])
    needs = ours["needs"]
    assert (needs["device"], needs["gpu_model"], needs["min_vram_mib"], needs["region"]) == (
        "gpu",
        "RTX 4090",
        24_576,
        "eu",
    )
    assert (needs["model"], ours["max_price"]) == ("small", "0.04")
    ask(installation, "coordinator", "POST", f"/v1/jobs/{job['job_id']}/cancel")
    several = {"cuda": "CUDA 12.4", "models": ["small", "large"], "gpu": "any"}
    job = told(ask(installation, "coordinator", "POST", "/v1/jobs", CHAT | {"constraints": several}), 201)
    needs = installation.job(job["job_id"])["needs"]
    assert (needs["cuda"], needs["models"], needs["device"]) == ("12.4", ["large", "small"], "gpu")
    assert "gpu_model" not in needs
    ask(installation, "coordinator", "POST", f"/v1/jobs/{job['job_id']}/cancel")
    for refused in ({"cuda": "the newest"}, {"mood": "good"}):
        answer = ask(installation, "coordinator", "POST", "/v1/jobs", CHAT | {"constraints": refused})
        assert answer.status_code == 422, refused
    assert ask(installation, "ai", "POST", "/jobs", EMBED | {"payment_currency": "BTC"}).status_code == 422


@pytest.mark.usefixtures("served")
def test_media_and_prompts_become_jobs(installation: Installation) -> None:
    task = told(ask(installation, "ai", "POST", "/multimodal/process", {"modality": "text", "text": "To be embedded."}))
    assert installation.job(task["task_id"])["kind"] == "embed"
    body = {"model": "llama", "prompt": "Hello?", "parameters": {"temperature": 0.5}, "max_tokens": 9}
    body |= {"stop_sequences": ["."]}
    made = told(ask(installation, "coordinator", "POST", "/v1/services/llm/inference", body), 201)
    asked = installation.job(made["task_id"])["input"]
    assert (asked["max_tokens"], asked["temperature"], asked["stop"]) == (9, 0.5, ["."])
    assert (
        ask(installation, "coordinator", "POST", "/v1/services/llm/inference", body | {"top_k": 40}).status_code == 422
    )
    streamed = told(ask(installation, "coordinator", "POST", "/v1/services/llm/stream", body | {"stream": True}))
    assert streamed["service_type"] == "llm_inference"
    for job in (task["task_id"], made["task_id"], streamed["task_id"]):
        ask(installation, "ai", "POST", f"/jobs/{job}/cancel")


def test_services_are_the_kinds_of_work_and_their_schemas_say_what_they_take(installation: Installation) -> None:
    with installation.miner():
        found = {one["type"]: one for one in told(ask(installation, "coordinator", "GET", "/v1/services"))["services"]}
    assert found.keys() == {"llm_inference", "text_embedding", "ocr", "command"}
    assert found["ocr"].keys() == {"type", "name", "description", "models", "constraints"}
    for service, field in (("llm_inference", "prompt"), ("text_embedding", "texts"), ("ocr", "image")):
        schema = told(ask(installation, "coordinator", "GET", f"/v1/services/{service}/schema"))
        assert schema["service_type"] == service
        assert schema["schema"]["type"] == "object"
        assert field in schema["schema"]["properties"]
        assert field in schema["schema"]["required"]
    made = told(ask(installation, "coordinator", "POST", "/v1/services/text_embedding", {"texts": ["One."]}), 201)
    assert installation.job(made["job_id"])["kind"] == "embed"
    ask(installation, "ai", "POST", f"/jobs/{made['job_id']}/cancel")
    for service, status in (("whisper", 501), ("blender", 501), ("mining", 404)):
        assert ask(installation, "coordinator", "GET", f"/v1/services/{service}/schema").status_code == status
        assert ask(installation, "coordinator", "POST", f"/v1/services/{service}", {}).status_code == status
    assert (
        ask(installation, "coordinator", "POST", "/v1/services/text_embedding", {"texts": ["a"], "x": 1}).status_code
        == 422
    )
    assert ask(installation, "coordinator", "POST", "/v1/services/whisper/transcribe", {}).status_code == 501


def test_what_the_coordinator_passed_on_to_the_ai_service_is_answered_as_that_did(installation: Installation) -> None:
    at = "/v1/multi-modal-rl"
    assert told(ask(installation, "coordinator", "GET", f"{at}/health"))["status"] == "healthy"
    job = told(ask(installation, "coordinator", "POST", f"{at}/jobs", EMBED), 201)["job_id"]
    assert told(ask(installation, "coordinator", "GET", f"{at}/jobs/{job}"))["state"] == "pending"
    assert job in {one["id"] for one in told(ask(installation, "coordinator", "GET", f"{at}/jobs?limit=500"))["jobs"]}
    assert ask(installation, "coordinator", "GET", f"{at}/jobs/{job}/result").status_code == 425
    assert told(ask(installation, "coordinator", "POST", f"{at}/jobs/{job}/cancel"))["state"] == "canceled"


def test_proofs_are_refused_rather_than_made_up(installation: Installation) -> None:
    assert ask(installation, "coordinator", "GET", "/v1/ml-zk/circuits").status_code == 501
    for path in ("prove/training", "verify/training", "prove/modular", "verify/inference", "fhe/inference"):
        assert ask(installation, "coordinator", "POST", f"/v1/ml-zk/{path}", {}).status_code == 501


def test_the_operator_sees_orders_and_ends_everybodys_jobs(installation: Installation) -> None:
    first, second = installation.submit("first"), installation.submit("second")
    assert ask(installation, "ai", "GET", "/admin/jobs").status_code == 403
    page = told(ask(installation, "ai", "GET", "/admin/jobs?limit=50&status=pending", key=installation.admin))
    assert {first, second} <= {job["id"] for job in page["jobs"]}
    assert told(ask(installation, "ai", "GET", f"/admin/jobs/{first}", key=installation.admin))["id"] == first
    ahead = installation.ours("GET", f"ai/jobs/{second}/explain")["position"]
    moved = ask(
        installation,
        "ai",
        "POST",
        f"/admin/jobs/{second}/prioritize",
        {"reason": "a demonstration"},
        key=installation.admin,
    )
    assert told(moved)["id"] == second
    assert installation.ours("GET", f"ai/jobs/{second}/explain")["position"] == 1 < ahead
    assert any(
        entry["action"] == "job.put_first" for entry in installation.ours("GET", "operations/audit?limit=20")["data"]
    )
    for job in (first, second):
        assert (
            told(ask(installation, "ai", "DELETE", f"/admin/jobs/{job}", key=installation.admin))["state"] == "canceled"
        )
        assert ask(installation, "ai", "DELETE", f"/admin/jobs/{job}", key=installation.admin).status_code == 400
    again = ask(
        installation, "ai", "POST", f"/admin/jobs/{second}/prioritize", {"reason": "late"}, key=installation.admin
    )
    assert again.status_code == 409
