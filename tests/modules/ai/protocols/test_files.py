"""Files by OpenAI's own client: kept, listed, given back and deleted; and what is refused leaves nothing."""

import io
from typing import Any

import httpx
import openai
import pytest

from tests.cli.miner.test_daemon import Market
from tests.modules.ai.protocols.bench import Bench

CONTENT = b'{"a": 1}\n\r\n\0\xff' * 5


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
    assert bench.openai().files.list().data == []
