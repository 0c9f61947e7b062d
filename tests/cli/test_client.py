"""The client before servers that fail as they are told: what is repeated, what is not, and how each failure is named."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aitbc_cli import client
from aitbc_cli.client import Api, part
from aitbc_cli.exits import FAILED, NOT_FOUND, REFUSED, TIMED_OUT, UNAVAILABLE, Stop
from aitbc_cli.settings import Where
from tests.cli.tiny_server import Received, Reply, TinyServer, answering, nowhere, problem, silent, told

BUSY = problem(503, "database_unavailable")
GOOD = told({"id": "job_1"})
BROKEN = Reply(200, b'{"id": "job_1"}', breaks=3)


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Repetitions without pauses, in a home without settings."""
    monkeypatch.setattr(client, "PAUSE_SECONDS", 0.0)


def api(url: str, *, key: str | None = "secret", seconds: float | None = 5.0) -> Api:
    """A caller with a key."""
    return Api(Where(url, "flag", key, "flag", None, Path("/nowhere")), seconds=seconds)


def refused(call: Callable[[], Any]) -> Stop:
    """How it ends."""
    with pytest.raises(Stop) as stop:
        call()
    return stop.value


@pytest.mark.parametrize("failure", [BUSY, BROKEN, problem(429, "too_many"), Reply(502, b"<html>")])
def test_reading_is_repeated_until_it_succeeds(failure: Reply) -> None:
    with answering([failure, failure, GOOD]) as server:
        assert api(server.url).get("/x") == {"id": "job_1"}
        assert len(server.asked) == 3


def test_repeating_ends_after_a_few_attempts_with_the_last_reason() -> None:
    with answering(BUSY) as server:
        stop = refused(lambda: api(server.url).get("/x"))
        assert len(server.asked) == client.ATTEMPTS_MAX
    assert (stop.exit_code, stop.code) == (UNAVAILABLE, "database_unavailable")


def test_a_command_is_repeated_only_under_its_key_or_when_it_is_harmless() -> None:
    with answering([BROKEN, GOOD]) as server:
        api(server.url).post("/x", {"a": 1}, once="monday")
        assert [asked.headers["Idempotency-Key"] for asked in server.asked] == ["monday", "monday"]
        assert [asked.json() for asked in server.asked] == [{"a": 1}] * 2
    with answering([BROKEN, GOOD]) as server:
        api(server.url).post("/x", natural=True)
        assert len(server.asked) == 2
    with answering(BROKEN) as server:
        refused(lambda: api(server.url).post("/x", {"a": 1}))
        assert len(server.asked) == 1


def test_a_command_whose_answer_is_lost_tells_how_to_repeat_it() -> None:
    with answering(BROKEN) as server:
        stop = refused(lambda: api(server.url).post("/x", {}, once="monday"))
    assert stop.exit_code == UNAVAILABLE
    assert "--idempotency-key monday" in str(stop.hint)
    assert stop.details["idempotency_key"] == "monday"


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [(404, "job_not_found", NOT_FOUND), (409, "lease_lost", REFUSED), (500, "internal_error", FAILED), (418, "tea", 2)],
)
def test_a_definite_answer_is_not_repeated(status: int, code: str, exit_code: int) -> None:
    with answering(problem(status, code, "so it is")) as server:
        stop = refused(lambda: api(server.url).get("/x"))
        assert len(server.asked) == 1
    assert (stop.exit_code, stop.code, stop.message) == (exit_code, code, "so it is")
    assert stop.details["request_id"] == "req_1"


def test_a_pause_that_the_server_asks_for_is_kept_unless_time_is_short() -> None:
    with answering(problem(503, "busy", "", Retry_After="4")) as server:
        assert refused(lambda: api(server.url, seconds=1).get("/x")).exit_code == UNAVAILABLE
        assert len(server.asked) == 1
    with answering([problem(503, "busy", "", Retry_After="0.2"), GOOD]) as server:
        assert api(server.url).get("/x") == {"id": "job_1"}


def test_time_is_up_whatever_the_server_does(monkeypatch: pytest.MonkeyPatch) -> None:
    with silent() as url:
        stop = refused(lambda: api(url, seconds=0.2).get("/x"))
        assert (stop.exit_code, stop.message) == (TIMED_OUT, "no answer within 0.2 s")
        monkeypatch.setattr(client, "ANSWER_SECONDS", 0.1)
        stop = refused(lambda: api(url, seconds=None).get("/x"))
        assert (stop.exit_code, "0.1 s" in stop.message) == (TIMED_OUT, True)


def test_nobody_there_is_told_at_once() -> None:
    stop = refused(lambda: api(nowhere()).get("/x"))
    assert (stop.exit_code, stop.code) == (UNAVAILABLE, "refused_connection")
    stop = refused(lambda: api("http://no-such-host.invalid").get("/x"))
    assert stop.exit_code == UNAVAILABLE
    assert "leads nowhere" in stop.message


def test_a_server_that_speaks_no_tls_is_told_and_not_asked_again() -> None:
    with answering(GOOD) as server:
        stop = refused(lambda: api(server.url.replace("http:", "https:")).get("/x"))
        assert server.asked == []
    assert (stop.exit_code, stop.code) == (UNAVAILABLE, "tls_failed")


def test_pages_follow_the_cursor_as_far_as_wanted() -> None:
    def page(asked: Received) -> Reply:
        at = int(asked.path.partition("cursor=")[2] or 0)
        size = int(asked.path.partition("limit=")[2].partition("&")[0])
        rows = [{"n": n} for n in range(at, min(at + size, 450))]
        more = at + size < 450
        return told({"data": rows, "has_more": more, "next_cursor": str(at + size) if more else None})

    with answering(page) as server:
        assert [row["n"] for row in api(server.url).pages("/x", None, kind="embed", status=None)] == list(range(450))
        assert len(server.asked) == 3
        assert "kind=embed" in server.asked[0].path and "status" not in server.asked[0].path
        assert len(list(api(server.url).pages("/x", 7))) == 7


def test_the_key_is_sent_to_the_server_and_nowhere_else() -> None:
    with answering(GOOD) as other, answering(Reply(302, b"", {"Location": other.url})) as server:
        stop = refused(lambda: api(server.url).get("/x"))
        assert server.asked[0].headers["Authorization"] == "Bearer secret"
        assert other.asked == []
    assert stop.code == "not_aitbc"


def test_one_command_has_one_request_id() -> None:
    with answering([BUSY, GOOD, GOOD]) as server:
        one = api(server.url)
        one.get("/x")
        one.post("/y", natural=True)
        assert len({asked.headers["X-Request-ID"] for asked in server.asked}) == 1
        assert one.request_id.startswith("cli-")


def test_an_upload_is_sent_whole_and_again_after_a_failure() -> None:
    content = bytes(range(256)) * 1000
    with answering([BUSY, GOOD]) as server:
        api(server.url).upload("/x", io.BytesIO(content), len(content))
        assert [asked.body for asked in server.asked] == [content, content]


def test_a_stream_comes_in_pieces_and_its_early_end_is_an_error() -> None:
    content = b"line\n" * 50_000
    with answering(Reply(200, content)) as server, api(server.url).stream("/x") as flow:
        assert b"".join(flow.pieces()) == content
    with answering(Reply(200, b"one\ntwo\nthr")) as server, api(server.url).stream("/x") as flow:
        assert list(flow.lines()) == ["one", "two"]
    with answering(Reply(200, content, breaks=100)) as server, api(server.url).stream("/x") as flow:
        assert refused(lambda: b"".join(flow.pieces())).code == "connection_broken"


def test_an_answer_longer_than_anything_sensible_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ANSWER_BYTES_MAX", 1000)
    with answering(Reply(200, b" " * 2000)) as server:
        assert refused(lambda: api(server.url).get("/x")).code == "answer_too_long"


def test_a_missing_field_says_that_this_is_no_such_server() -> None:
    with answering(told({"inner": {"a": 1}})) as server:
        answer = api(server.url).get("/x")
    assert answer["inner"]["a"] == 1
    assert refused(lambda: answer["inner"]["b"]).code == "not_aitbc"


def test_a_proxy_of_the_environment_is_used_but_not_for_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(GOOD) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert api("http://far.example.org").get("/x?y=1") == {"id": "job_1"}
        assert proxy.asked[0].path == "http://far.example.org/x?y=1"
        with answering(GOOD) as near:
            api(near.url).get("/x")
            assert len(near.asked) == 1
        assert len(proxy.asked) == 1


@pytest.mark.parametrize(
    ("text", "safe"),
    [("job_1", "job_1"), ("../x", "..%2Fx"), ("..", "-"), ("", "-"), ("a b?c#d", "a%20b%3Fc%23d"), ("é", "%C3%A9")],
)
def test_a_part_of_a_path_stays_one(text: str, safe: str) -> None:
    assert part(text) == safe


def test_a_server_serves_under_a_path_too() -> None:
    def where(server: TinyServer) -> str:
        return f"{server.url}/aitbc"

    with answering(GOOD) as server:
        api(where(server)).get("/x")
        assert server.asked[0].path == "/aitbc/x"
