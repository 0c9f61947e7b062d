"""Batches by OpenAI's own client: each line for itself, at the price of what can wait, and once whatever happens."""

import io
import json
from functools import partial
from typing import Any

import openai
import pytest

from tests.modules.ai.protocols.bench import Bench, ask

EMBED = "wordllama-256"
CHAT = "/v1/chat/completions"
OVER = ("completed", "failed", "expired", "cancelled")


def chat(name: str, words: str, **more: Any) -> dict[str, Any]:
    """A line that asks for a chat."""
    return {"custom_id": name, "method": "POST", "url": CHAT, "body": {**ask(words), "max_tokens": 50, **more}}


def begin(bench: Bench, *lines: Any, endpoint: str = CHAT, **more: Any) -> Any:
    """A batch of these lines."""
    client = bench.openai()
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    file = client.files.create(file=("in.jsonl", io.BytesIO(text.encode())), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h", **more)


def ended(bench: Bench, batch: Any) -> Any:
    """A batch once it has ended."""
    retrieve = bench.openai().batches.retrieve
    return bench.market.until(lambda: (now := retrieve(batch.id)).status in OVER and now, 60)


def told(bench: Bench, file: str | None) -> dict[Any, Any]:
    """The lines of a file by their names."""
    assert file is not None
    lines = [json.loads(line) for line in bench.openai().files.content(file).text.splitlines()]
    assert len({line["id"] for line in lines}) == len(lines)
    return {line["custom_id"]: line for line in lines}


def test_each_line_is_answered_and_a_bad_one_fails_alone(bench: Bench) -> None:
    held = bench.money()[1]
    batch = begin(
        bench,
        chat("one", "say one"),
        "",
        "{no json",
        chat("two", "say two", frobnicate=1),
        chat("one", "say one again"),
        chat("get", "say x") | {"method": "GET"},
        chat("away", "say x") | {"url": "/v1/embeddings"},
        chat("stream", "say x", stream=True),
        chat("nobody", "say x", model="served-by-nobody"),
        chat("refused", "refuse too long"),
        chat("three", "say three", n=2),
        metadata={"run": "7"},
    )
    assert (batch.object, batch.status, batch.endpoint, batch.metadata) == ("batch", "validating", CHAT, {"run": "7"})
    assert batch.expires_at - batch.created_at == 24 * 3600
    done = ended(bench, batch)
    assert done.status == "completed" and done.completed_at >= done.finalizing_at >= done.in_progress_at
    assert (done.request_counts.total, done.request_counts.completed, done.request_counts.failed) == (10, 2, 8)
    answers, errors = told(bench, done.output_file_id), told(bench, done.error_file_id)
    assert list(answers) == ["one", "three"]
    body = answers["one"]["response"]["body"]
    assert body["choices"][0]["message"]["content"] == "one " and body["object"] == "chat.completion"
    assert [choice["message"]["content"] for choice in answers["three"]["response"]["body"]["choices"]] == [
        "three "
    ] * 2
    assert {line["response"]["status_code"] for line in answers.values()} == {200}
    refused = {name: line["response"] for name, line in errors.items()}
    assert {name: answer["status_code"] for name, answer in refused.items()} == {
        **dict.fromkeys([None, "two", "one", "get", "away", "stream", "refused"], 400),
        "nobody": 404,
    }
    assert refused["two"]["body"]["error"]["param"] == "frobnicate"
    assert refused["nobody"]["body"]["error"]["code"] == "model_not_found"
    assert "too long" in refused["refused"]["body"]["error"]["message"]
    receipts = [line["response"]["body"]["aitbc"] for line in answers.values()]
    spent = sum(round(float(receipt["price"]) * 10**8) for receipt in receipts)
    assert round(float(done.aitbc["spent"]) * 10**8) == spent > 0
    assert {receipt["unit_price"] for receipt in receipts} == {"0.0000001"}, "half of what it costs at once"
    bench.market.until(lambda: bench.money()[1] == held)


def test_batches_of_embeddings_and_responses(bench: Bench) -> None:
    frame = {"method": "POST", "url": "/v1/embeddings"}
    vectors = begin(
        bench,
        {"custom_id": "a", **frame, "body": {"model": EMBED, "input": ["x", "y"]}},
        {"custom_id": "b", **frame, "body": {"model": EMBED, "input": [1, 2]}},
        endpoint="/v1/embeddings",
    )
    frame["url"] = "/v1/responses"
    body = {"model": "scripted", "input": "say hello"}
    responses = begin(
        bench,
        {"custom_id": "a", **frame, "body": body},
        {"custom_id": "b", **frame, "body": {**body, "previous_response_id": "resp_x"}},
        endpoint="/v1/responses",
    )
    embedded = told(bench, ended(bench, vectors).output_file_id)["a"]["response"]["body"]
    assert [len(one["embedding"]) for one in embedded["data"]] == [256, 256]
    done = ended(bench, responses)
    said = told(bench, done.output_file_id)["a"]["response"]["body"]
    assert said["output"][0]["content"][0]["text"] == "hello " and said["status"] == "completed"
    assert told(bench, done.error_file_id)["b"]["response"]["body"]["error"]["param"] == "previous_response_id"


def test_a_batch_of_nothing_fails_as_a_whole(bench: Bench) -> None:
    done = ended(bench, begin(bench, " ", ""))
    assert done.status == "failed" and done.failed_at and done.output_file_id is None
    assert done.errors.data[0].code == "empty_file"


def test_a_cancelled_batch_has_the_answers_that_were_made(bench: Bench) -> None:
    lines = [chat("now", "say now"), *(chat(f"later {number}", "count 40 0.1") for number in range(30))]
    batch = begin(bench, *lines)
    retrieve = bench.openai().batches.retrieve
    bench.market.until(lambda: retrieve(batch.id).request_counts.completed >= 1)
    cancelling = bench.openai().batches.cancel(batch.id)
    assert cancelling.status == "cancelling" and bench.openai().batches.cancel(batch.id).id == batch.id
    done = ended(bench, batch)
    counts = done.request_counts
    assert done.status == "cancelled" and counts.completed + counts.failed == counts.total == 31
    assert 1 <= counts.completed < 31 and "now" in told(bench, done.output_file_id)
    assert {line["error"]["code"] for line in told(bench, done.error_file_id).values()} == {"batch_cancelled"}
    assert bench.openai().batches.cancel(batch.id).status == "cancelled"
    bench.market.until(lambda: bench.money()[1] == "0")


def test_batches_are_listed_and_their_input_is_kept(bench: Bench) -> None:
    client = bench.openai()
    first, second = begin(bench, chat("a", "count 5 0.1")), begin(bench, chat("b", "say b"))
    assert [batch.id for batch in client.batches.list(limit=1)][:2] == [second.id, first.id]
    with pytest.raises(openai.ConflictError) as refused:
        client.files.delete(first.input_file_id)
    assert refused.value.code == "file_in_use" and refused.value.response.headers["x-should-retry"] == "false"
    ended(bench, first)
    assert client.files.delete(first.input_file_id).deleted
    with pytest.raises(openai.ConflictError):
        client.batches.cancel(first.id)
    with pytest.raises(openai.NotFoundError) as unknown:
        client.batches.retrieve("batch_nothing")
    assert unknown.value.code == "batch_not_found"


def test_what_a_client_repeats_is_the_same_batch(bench: Bench) -> None:
    file = bench.openai().files.create(
        file=("in", io.BytesIO(json.dumps(chat("a", "say a")).encode())), purpose="batch"
    )
    made = [
        bench.openai().batches.create(
            input_file_id=file.id, endpoint=CHAT, completion_window="24h", extra_headers=headers
        )
        for headers in ({}, {"x-stainless-retry-count": "1"}, {"Idempotency-Key": "b"}, {"Idempotency-Key": "b"})
    ]
    assert made[0].id == made[1].id != made[2].id == made[3].id


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"endpoint": "/v1/moderations"}, "endpoint"),
        ({"completion_window": "1h"}, "completion_window"),
        ({"input_file_id": "file_x"}, "input_file_id"),
        ({"metadata": {"": "x"}}, "metadata"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 5}}, "output_expires_after.seconds"),
        ({"extra_body": {"frobnicate": 1}}, "frobnicate"),
    ],
)
def test_a_parameter_that_cannot_be_used_is_named(bench: Bench, more: dict[str, Any], named: str) -> None:
    file = bench.openai().files.create(file=("in", io.BytesIO(b"{}")), purpose="batch")
    asked = {"input_file_id": file.id, "endpoint": CHAT, "completion_window": "24h", **more}
    with pytest.raises(openai.BadRequestError) as refused:
        bench.openai().batches.create(**asked)
    assert refused.value.param == named


def test_what_was_not_uploaded_for_a_batch_is_no_input(bench: Bench) -> None:
    kept = bench.openai().files.create(file=("in", io.BytesIO(b"{}")), purpose="user_data")
    with pytest.raises(openai.BadRequestError, match="user_data, not batch"):
        bench.openai().batches.create(input_file_id=kept.id, endpoint=CHAT, completion_window="24h")


def test_a_server_that_is_killed_again_and_again_does_each_line_once(bench: Bench) -> None:
    bench.market.until(lambda: all(other.status in OVER for other in bench.openai().batches.list()))
    jobs_before = len(_jobs(bench))
    batch = begin(bench, *(chat(f"line {number}", "count 10 0.1") for number in range(40)))
    for _ in range(2):
        seen = bench.openai().batches.retrieve(batch.id).request_counts.completed
        bench.market.until(partial(_has_more, bench, batch.id, seen), 60)
        bench.server.kill()
        bench.server.start()
    done = ended(bench, batch)
    answers = told(bench, done.output_file_id)
    assert done.status == "completed" and len(answers) == done.request_counts.completed == 40
    jobs = [line["response"]["body"]["aitbc"]["job"] for line in answers.values()]
    assert len(set(jobs)) == 40 and len(_jobs(bench)) - jobs_before == 40
    spent = sum(round(float(line["response"]["body"]["aitbc"]["price"]) * 10**8) for line in answers.values())
    assert round(float(done.aitbc["spent"]) * 10**8) == spent
    bench.market.until(lambda: bench.money()[1] == "0", 60)


def _has_more(bench: Bench, batch: str, seen: int) -> bool:
    """Whether more lines of a batch were noted as done."""
    now = bench.openai().batches.retrieve(batch)
    return bool(seen < now.request_counts.completed or now.status in OVER)


def _jobs(bench: Bench) -> list[str]:
    """All jobs of the account."""
    return [job["id"] for job in bench.market.ask("/api/v1/ai/jobs?limit=1000")["data"]]
