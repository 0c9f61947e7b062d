"""Files and batches by OpenAI's own client: each line for itself, at the price of what can wait, once whatever happens."""

import io
import json
from functools import partial
from typing import Any

import httpx
import openai
import pytest

from tests.cli.miner.test_daemon import Market
from tests.modules.ai.protocols.bench import Bench, ask
from tests.scale import only_in_full

EMBEDS, EMBED = True, "wordllama-256"
CHAT = "/v1/chat/completions"
OVER = ("completed", "failed", "expired", "cancelled")
CONTENT = b'{"a": 1}\n\r\n\0\xff' * 5


def settle(bench: Bench) -> None:
    """Wait until no batch of another test goes on: its files would come in between."""
    bench.market.until(lambda: all(batch.status in OVER for batch in bench.openai().batches.list()), 60)


def keep(bench: Bench, content: bytes = CONTENT, **more: Any) -> Any:
    told = {"file": ("kept.jsonl", io.BytesIO(content)), "purpose": "user_data", **more}
    return bench.openai().files.create(**told)


def test_a_file_is_kept_told_given_back_and_deleted(bench: Bench) -> None:
    files = bench.openai().files
    kept = keep(bench)
    assert (kept.object, kept.bytes, kept.filename, kept.purpose) == ("file", len(CONTENT), "kept.jsonl", "user_data")
    assert kept.status == "processed" and kept.expires_at > kept.created_at
    assert files.retrieve(kept.id) == kept and files.wait_for_processing(kept.id) == kept
    assert files.content(kept.id).content == CONTENT
    assert files.delete(kept.id).deleted
    for look in (files.retrieve, files.content, files.delete):
        with pytest.raises(openai.NotFoundError) as gone:
            look(kept.id)
        assert gone.value.code == "file_not_found"
    assert bench.market.ask("/api/v1/identity/keys/self")  # the key works on
    artifact = f"{bench.server.url}/api/v1/ai/artifacts/{kept.aitbc['artifact']}"
    assert httpx.get(artifact, headers={"Authorization": f"Bearer {bench.key}"}).status_code == 404


def test_the_same_content_under_two_names_is_there_until_both_are_deleted(bench: Bench) -> None:
    files = bench.openai().files
    one, other = keep(bench, b"twice"), keep(bench, b"twice", file=("other", io.BytesIO(b"twice")))
    assert one.id != other.id and one.aitbc == other.aitbc
    files.delete(one.id)
    assert files.content(other.id).content == b"twice"
    files.delete(other.id)
    artifact = f"{bench.server.url}/api/v1/ai/artifacts/{other.aitbc['artifact']}"
    assert httpx.get(artifact, headers={"Authorization": f"Bearer {bench.key}"}).status_code == 404


def test_files_are_listed_page_by_page_and_by_purpose(bench: Bench) -> None:
    settle(bench)
    files = bench.openai().files
    made = [keep(bench, f"page {number}".encode()).id for number in range(3)]
    lines = keep(bench, b"{}", purpose="batch").id
    assert [file.id for file in files.list(purpose="user_data", order="asc", limit=2)][-3:] == made
    assert [file.id for file in files.list(limit=1)][:4] == [lines, *made[::-1]]
    assert next(iter(files.list(purpose="batch"))).id == lines
    assert files.list(purpose="vision").data == []
    with pytest.raises(openai.NotFoundError):
        files.list(after="file_x")
    for file in (*made, lines):
        files.delete(file)


def test_a_file_is_kept_for_as_long_as_was_asked(bench: Bench) -> None:
    kept = keep(bench, b"an hour", expires_after={"anchor": "created_at", "seconds": 3600})
    assert abs(kept.expires_at - kept.created_at - 3600) <= 1
    bench.openai().files.delete(kept.id)


def test_nobody_else_sees_a_file(bench: Bench) -> None:
    kept = keep(bench, b"mine")
    stranger = bench.openai(api_key=Market(bench.server, bench.market.folder).key)
    assert stranger.files.list().data == []
    for look in (stranger.files.retrieve, stranger.files.content, stranger.files.delete):
        with pytest.raises(openai.NotFoundError):
            look(kept.id)
    with pytest.raises(openai.BadRequestError) as refused:
        stranger.batches.create(input_file_id=kept.id, endpoint="/v1/embeddings", completion_window="24h")
    assert refused.value.param == "input_file_id"
    bench.openai().files.delete(kept.id)


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"purpose": "fine-tune"}, "purpose"),
        ({"expires_after": {"anchor": "now", "seconds": 3600}}, "expires_after.anchor"),
        ({"expires_after": {"anchor": "created_at", "seconds": 1}}, "expires_after.seconds"),
        ({"file": ("empty", io.BytesIO(b""))}, "file"),
        ({"extra_body": {"frobnicate": "1"}}, "frobnicate"),
    ],
)
def test_a_field_that_cannot_be_used_is_named_and_nothing_is_kept(
    bench: Bench, more: dict[str, Any], named: str
) -> None:
    settle(bench)
    before = [file.id for file in bench.openai().files.list()]
    with pytest.raises(openai.BadRequestError) as refused:
        keep(bench, b"refused " + named.encode(), **more)
    assert refused.value.param == named
    assert [file.id for file in bench.openai().files.list()] == before


def form(*parts: tuple[str, str, bytes]) -> bytes:
    """A form as no client writes it: name, further options, content."""
    made = b"".join(
        b'--x\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n' % (name.encode(), more.encode(), content)
        for name, more, content in parts
    )
    return made + b"--x--\r\n"


def test_a_form_in_another_order_is_read_and_one_that_is_none_is_refused(bench: Bench) -> None:
    settle(bench)
    before = [file.id for file in bench.openai().files.list()]

    def send(body: bytes, kind: str = "multipart/form-data; boundary=x") -> httpx.Response:
        headers = {"Authorization": f"Bearer {bench.key}", "content-type": kind}
        return httpx.post(f"{bench.server.url}/v1/files", content=body, headers=headers)

    file, purpose = ("file", '; filename="a"', b"first"), ("purpose", "", b"user_data")
    kept = send(form(file, purpose))
    assert kept.status_code == 200, kept.text
    bench.openai().files.delete(kept.json()["id"])
    for body, status in (
        (form(file), 400),
        (form(purpose), 400),
        (form(file, file, purpose), 400),
        (form(file, purpose, purpose), 400),
        (form(file, ("purpose", "", b"\0")), 400),
        (form(file, ("purpose", "", b"\xff")), 400),
        (form(file, ("purpose", "", b"x" * 5000)), 400),
        (form(purpose, ("file", "", b"no file")), 400),
        (form(file, purpose)[:-9], 400),
        (b"", 400),
        (b"--x", 400),
    ):
        answer = send(body)
        assert answer.status_code == status and answer.json()["error"]["message"], (body, answer.text)
    assert send(form(file, purpose), "application/json").status_code == 415
    assert send(form(file, purpose), "multipart/form-data").status_code == 400
    assert [file.id for file in bench.openai().files.list()] == before


# --- batches ---


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
        chat("left to us", "say four", model="auto:cheap"),
        metadata={"run": "7"},
    )
    assert (batch.object, batch.status, batch.endpoint, batch.metadata) == ("batch", "validating", CHAT, {"run": "7"})
    assert batch.expires_at - batch.created_at == 24 * 3600
    done = ended(bench, batch)
    assert done.status == "completed" and done.completed_at >= done.finalizing_at >= done.in_progress_at
    assert (done.request_counts.total, done.request_counts.completed, done.request_counts.failed) == (11, 3, 8)
    answers, errors = told(bench, done.output_file_id), told(bench, done.error_file_id)
    assert list(answers) == ["one", "three", "left to us"]
    assert answers["left to us"]["response"]["body"]["aitbc"]["model"] == "scripted"
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


@only_in_full
def test_a_server_that_is_killed_again_and_again_does_each_line_once(bench: Bench) -> None:
    settle(bench)
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
