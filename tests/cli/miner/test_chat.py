"""Chat through a server that speaks the OpenAI protocol, well and badly."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from aitbc.modules.ai.models.kinds.registry import KINDS
from aitbc_cli.miner.executors.pool import ExecutorPool, Outcome, Work

ASK = {"messages": [{"role": "user", "content": "Say hello."}]}
ANSWER = {
    "model": "tiny-chat",
    "choices": [{"message": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
}


class Upstream(ThreadingHTTPServer):
    """A chat server that answers what a test tells it to, and remembers what it was asked."""

    daemon_threads = True
    status = 200
    body = b""
    headers: dict[str, str]
    drip_seconds = 0.0
    is_streamless = False
    """Whether it refuses to stream."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.answer(ANSWER)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(
        self, body: Any, *, status: int = 200, headers: dict[str, str] | None = None, drip_seconds: float = 0.0
    ) -> None:
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.status, self.headers, self.drip_seconds = status, headers or {}, drip_seconds


class Handler(BaseHTTPRequestHandler):
    server: Upstream

    def do_GET(self) -> None:
        self.send({"data": [{"id": "tiny-chat"}, {"id": "other"}]} if self.path == "/v1/models" else {})

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        asked = json.loads(self.rfile.read(length))
        self.server.requests.append((self.path, dict(self.headers), asked))
        if self.server.is_streamless and asked["stream"]:
            self.send_response(400)
            self.end_headers()
            self.wfile.write(b'{"error": {"message": "no streams here"}}')
            return
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            if not self.server.drip_seconds:
                self.wfile.write(self.server.body)
                return
            for byte in self.server.body:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                time.sleep(self.server.drip_seconds)
        except OSError:
            pass

    def send(self, body: Any) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Quiet."""


Do = Callable[..., Outcome]


@pytest.fixture(scope="module")
def running() -> Iterator[Upstream]:
    server = Upstream()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def upstream(running: Upstream) -> Upstream:
    running.requests.clear()
    running.is_streamless = False
    running.answer(ANSWER)
    return running


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "key"
    path.write_text("sk-local-123\n")
    path.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def pool(running: Upstream, open_pool: Callable[..., ExecutorPool], key_file: Path) -> ExecutorPool:
    options = {"base_url": running.url, "api_key_file": str(key_file), "models": ["tiny-chat"], "answer_bytes": 100_000}
    return open_pool({"chat": options})


@pytest.fixture(scope="module")
def do(runner: asyncio.Runner, pool: ExecutorPool, make_work: Callable[..., Work]) -> Do:
    def done(value: Any, seconds: float = 10.0, told: list[str] | None = None) -> Outcome:
        work = make_work("chat", value, seconds=seconds)
        texts = told if told is not None else []
        return runner.run(pool.run(work, on_progress=lambda progress: texts.append(progress.text)))

    return done


def reason_of(outcome: Outcome) -> tuple[str, str] | None:
    return (outcome.error.fault, outcome.error.reason) if outcome.error else None


def test_messages_are_forwarded_and_the_answer_comes_back_with_its_usage(do: Do, upstream: Upstream) -> None:
    outcome = do({**ASK, "max_tokens": 20, "temperature": 0.5, "seed": 7, "stop": ["END"]})
    assert outcome.error is None
    assert outcome.output == {
        "message": {"role": "assistant", "content": "Hello."},
        "model": "tiny-chat",
        "finish_reason": "stop",
    }
    assert {**outcome.usage, "milliseconds": 0} == {
        "prompt_tokens": 9,
        "completion_tokens": 2,
        "tokens": 11,
        "milliseconds": 0,
    }
    [(path, headers, body)] = upstream.requests
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer sk-local-123"
    assert body == {
        **ASK,
        "model": "tiny-chat",
        "max_tokens": 20,
        "temperature": 0.5,
        "seed": 7,
        "stop": ["END"],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


STREAM = {"Content-Type": "text/event-stream; charset=utf-8"}


def chunks(*deltas: Any, finish: str | None = "stop", usage: Any = None, done: bool = True) -> bytes:
    """A stream of the protocol."""
    told: list[Any] = [{"choices": [{"delta": delta, "finish_reason": None}]} for delta in deltas]
    told.append({"model": "tiny-chat", "choices": [{"delta": {}, "finish_reason": finish}]})
    told.append({"choices": [], "usage": usage})
    lines = [f"data: {json.dumps(one)}\r\n\r\n" for one in told] + (["data: [DONE]\n\n"] if done else [])
    return "".join([": a comment\n\n", *lines]).encode()


def test_an_answer_that_is_streamed_is_told_as_it_comes(do: Do, upstream: Upstream) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
    deltas = [{"role": "assistant", "content": ""}, {"content": "Hel"}, {"content": None}, {"content": "lo ö"}]
    upstream.answer(chunks(*deltas, usage=usage), headers=STREAM, drip_seconds=0.001)
    told: list[str] = []
    outcome = do(ASK, told=told)
    assert outcome.output == {
        "message": {"role": "assistant", "content": "Hello ö"},
        "model": "tiny-chat",
        "finish_reason": "stop",
    }
    assert [text for text in told if text] == ["Hel", "lo ö"]
    assert (outcome.usage["completion_tokens"], outcome.usage["tokens"]) == (3, 12)


def test_a_character_that_comes_in_halves_is_told_whole(do: Do, upstream: Upstream) -> None:
    body = chunks({"content": "a\ud83d"}, {"content": "\ude00b\0"}, {"content": "\ud83d"})
    upstream.answer(body, headers=STREAM, drip_seconds=0.001)
    told: list[str] = []
    outcome = do(ASK, told=told)
    assert outcome.output is not None
    assert "".join(told) == outcome.output["message"]["content"] == "a\U0001f600b\ufffd\ufffd"


@pytest.mark.parametrize(
    "body",
    [
        chunks({"content": "Hel"}, finish=None, done=False),
        b"data: {not json\n\n",
        b"data: []\n\n",
        b'data: {"error": {"message": "out of memory"}}\n\n',
        b"",
        b"data: " + b" " * 1_100_000,
    ],
)
def test_a_stream_that_breaks_off_is_the_fault_of_the_miner(do: Do, upstream: Upstream, body: bytes) -> None:
    upstream.answer(body, headers=STREAM)
    assert reason_of(do(ASK)) == ("miner", "upstream_unavailable")


def test_a_stream_over_the_limit_is_not_read_to_its_end(do: Do, upstream: Upstream) -> None:
    upstream.answer(chunks(*({"content": "x" * 50_000} for _ in range(5))), headers=STREAM)
    assert reason_of(do(ASK)) == ("miner", "output_too_large")


def test_what_a_model_thought_is_not_counted_for_its_answer(do: Do, upstream: Upstream) -> None:
    usage = {"completion_tokens": 500}
    upstream.answer(chunks({"reasoning_content": "Hm."}, {"content": "Yes."}, usage=usage), headers=STREAM)
    assert "completion_tokens" not in do(ASK).usage
    usage["completion_tokens_details"] = {"reasoning_tokens": 498}  # type: ignore[assignment]
    upstream.answer(chunks({"reasoning_content": "Hm."}, {"content": "Yes."}, usage=usage), headers=STREAM)
    assert do(ASK).usage["completion_tokens"] == 2


def test_a_server_that_cannot_stream_is_asked_for_a_whole_answer(
    runner: asyncio.Runner, open_pool: Callable[..., ExecutorPool], make_work: Callable[..., Work], upstream: Upstream
) -> None:
    upstream.is_streamless = True
    pool = open_pool({"chat": {"base_url": upstream.url}})
    for asked in (2, 4):  # it may be another server by the next time
        told: list[str] = []
        progress = lambda report: told.append(report.text)  # noqa: B023, E731
        outcome = runner.run(pool.run(make_work("chat", ASK), on_progress=progress))
        assert outcome.error is None
        assert "".join(told) == "Hello."
        assert len(upstream.requests) == asked
    assert [body["stream"] for _, _, body in upstream.requests] == [True, False, True, False]


def test_start_asks_the_server_for_its_models(runner: asyncio.Runner, pool: ExecutorPool, upstream: Upstream) -> None:
    status = runner.run(pool.check("chat"))
    assert status.usable
    assert status.detail == {"models": ["tiny-chat"], "missing": []}


def test_text_that_no_json_of_ours_may_hold_is_replaced(do: Do, upstream: Upstream) -> None:
    message = {"role": "assistant", "content": "a\0b\ud800c"}
    upstream.answer({"choices": [{"message": message, "finish_reason": None}], "usage": {"total_tokens": -5}})
    outcome = do(ASK)
    assert outcome.output is not None
    assert outcome.output["message"]["content"] == "a\ufffdb\ufffdc"
    assert outcome.output["model"] == "tiny-chat"
    assert set(outcome.usage) == {"milliseconds"}


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_request_is_the_fault_of_the_requester(do: Do, upstream: Upstream, status: int) -> None:
    upstream.answer({"error": {"message": "too\nmany words"}}, status=status)
    outcome = do(ASK)
    assert reason_of(outcome) == ("requester", "invalid_input")
    assert outcome.error is not None and "too many words" in outcome.error.message


@pytest.mark.parametrize("status", [204, 302, 401, 429, 500, 503])
def test_any_other_status_is_the_fault_of_the_miner(do: Do, upstream: Upstream, status: int) -> None:
    upstream.answer(b"", status=status, headers={"Location": "/elsewhere"})
    assert reason_of(do(ASK)) == ("miner", "upstream_unavailable")
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"[" * 50_000,
        {},
        {"choices": []},
        {"choices": [1]},
        {"choices": [{"message": {"content": 5}}]},
    ],
)
def test_an_answer_that_is_none_is_the_fault_of_the_miner(do: Do, upstream: Upstream, body: Any) -> None:
    upstream.answer(body)
    assert reason_of(do(ASK)) == ("miner", "upstream_unavailable")


def test_an_answer_over_the_limit_is_not_read_to_its_end(do: Do, upstream: Upstream) -> None:
    upstream.answer(b" " * 5_000_000)
    assert reason_of(do(ASK)) == ("miner", "output_too_large")


def test_a_server_that_sends_a_byte_at_a_time_does_not_keep_the_slot(do: Do, upstream: Upstream) -> None:
    upstream.answer(ANSWER, drip_seconds=0.4)
    started = time.monotonic()
    assert reason_of(do(ASK, seconds=0.5)) == ("miner", "timed_out")
    assert time.monotonic() - started < 20  # the whole answer would take longer


def test_a_server_that_is_down_is_the_fault_of_the_miner(
    runner: asyncio.Runner, open_pool: Callable[..., ExecutorPool], make_work: Callable[..., Work]
) -> None:
    with socket.socket() as reserved:
        # Bound and not listening: nobody else can take the port, and a connection is refused.
        reserved.bind(("127.0.0.1", 0))
        pool = open_pool({"chat": {"base_url": f"http://127.0.0.1:{reserved.getsockname()[1]}/v1"}})
        status = runner.run(pool.check("chat"))
        assert (status.usable, status.reason) == (False, "upstream_unavailable")
        outcome = runner.run(pool.run(make_work("chat", ASK), on_progress=lambda _: None))
        assert reason_of(outcome) == ("miner", "upstream_unavailable")


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        {"messages": []},
    ],
)
def test_a_malformed_input_is_refused_and_forwarded_to_nobody(do: Do, upstream: Upstream, value: Any) -> None:
    assert reason_of(do(value)) == ("requester", "invalid_input")
    assert upstream.requests == []


@pytest.mark.parametrize(
    "options",
    [
        {"stop": []},
        {"stop": ["x" * 200] * 4},
        {"seed": -1},
        {"seed": 2**40},
        {"seed": 2**53 - 1},
        {"max_tokens": 131_072, "temperature": 2.0, "top_p": 0.0, "frequency_penalty": -2.0, "presence_penalty": 2.0},
        {"messages": [{"role": "developer", "content": ""}, {"role": "assistant", "content": "x" * 500_000}]},
        {"model": None, "max_tokens": 1, "stop": None, "seed": None},
    ],
)
def test_whatever_a_job_may_ask_for_is_forwarded(do: Do, upstream: Upstream, options: dict[str, Any]) -> None:
    KINDS["chat"].read(ASK | options)  # the server takes it
    assert do(ASK | options).error is None
    ((_, _, asked),) = upstream.requests
    assert {name: asked[name] for name in options if options[name] not in (None, [])} == {
        name: value for name, value in options.items() if value not in (None, [])
    }
    assert asked.get("stop") != []


def test_a_field_of_a_newer_server_is_nobodys_fault(do: Do, upstream: Upstream) -> None:
    assert reason_of(do(ASK | {"voices": []})) == ("platform", "unsupported_input")
    assert upstream.requests == []


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "ftp://127.0.0.1",
        "127.0.0.1:11434",
        "http://user:pass@127.0.0.1",
        "http://127.0.0.1/?key=1",
        5,
        "http://h:99999",
    ],
)
def test_a_bad_address_makes_the_kind_unusable(
    runner: asyncio.Runner, open_pool: Callable[..., ExecutorPool], base_url: Any
) -> None:
    status = runner.run(open_pool({"chat": {"base_url": base_url}}).check("chat"))
    assert (status.usable, status.reason) == (False, "executor_unavailable")
    assert "base_url" in status.message


def test_a_key_file_that_others_can_read_makes_the_kind_unusable(
    runner: asyncio.Runner, open_pool: Callable[..., ExecutorPool], tmp_path: Path
) -> None:
    path = tmp_path / "key"
    path.write_text("sk-secret")
    path.chmod(0o644)
    status = runner.run(open_pool({"chat": {"base_url": "http://127.0.0.1", "api_key_file": str(path)}}).check("chat"))
    assert not status.usable
    assert f"chmod 600 {path}" in status.message
    assert "sk-secret" not in status.message
