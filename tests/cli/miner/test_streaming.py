"""Text that a model writes slowly: told as it comes, stopped when its reader leaves, and paid for as far as it was delivered."""

import http.client
import json
import os
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chaos.server_process import ServerProcess
from tests.cli.miner.test_command import gone, sleepers
from tests.cli.miner.test_daemon import Market
from tests.cli.program import AITBC, as_program, surroundings
from tests.journeys.shapes import SHAPES, placed
from tests.plain_http import UNUSED_TLS
from tests.scale import scaled
from tests.server.runtime.test_serve import free_port

JOBS = "/api/v1/ai/jobs"
RUNS = "/api/v1/ai/runs"
PROMPT = "Count without end."
STOP_SECONDS = 20.0
"""Far less than what heartbeats would take."""
QUIET = {"AITBC_GPU__HEARTBEAT_SECONDS": "120", "AITBC_GPU__OFFLINE_SECONDS": "600"}


class SlowModel(ThreadingHTTPServer):
    """A chat server that writes a word every twentieth of a second, and notes when nobody reads any more."""

    daemon_threads = True
    words = 10_000
    streams = True
    whole: bytes | None = None
    """The bytes of an answer that is sent in one write."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), SlowAnswer)
        self.started = threading.Event()
        self.left_at: float | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def prepare(self, words: int = 10_000, *, streams: bool = True) -> None:
        self.words, self.streams, self.whole, self.left_at = words, streams, None, None
        self.started.clear()

    def until_left(self, since: float) -> float:
        """How long after a moment nobody read any more."""
        while self.left_at is None:
            assert time.monotonic() - since < 30, "it was never told to stop"
            time.sleep(0.01)
        return self.left_at - since


class SlowAnswer(BaseHTTPRequestHandler):
    server: SlowModel

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"data": [{"id": "slow"}]}')

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.whole is not None:
            self.wfile.write(self.server.whole)
            return
        self.send_response(200 if self.server.streams or not asked["stream"] else 400)
        self.send_header("Content-Type", "text/event-stream" if self.server.streams else "application/json")
        self.end_headers()
        if not self.server.streams and asked["stream"]:
            return
        self.server.started.set()
        try:
            for number in range(self.server.words):
                delta = {"model": "slow", "choices": [{"delta": {"content": f"{number} "}}]}
                self.write(f"data: {json.dumps(delta)}\n\n" if self.server.streams else " ")
                time.sleep(0.05)
            if self.server.streams:
                self.write('data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n')
        except OSError:
            self.server.left_at = time.monotonic()

    def write(self, text: str) -> None:
        self.wfile.write(text.encode())
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Quiet."""


@pytest.fixture(scope="module")
def model() -> Iterator[SlowModel]:
    server = SlowModel()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module", params=scaled(["ai split"], ["mounted", "ai split", "all split"]))
def market(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, model: SlowModel
) -> Iterator[Market]:
    """A server of some shape with one miner that forwards to the slow model. Heartbeats come every other minute."""
    folder: Path = tmp_path_factory.mktemp("market")
    server = ServerProcess(folder / "state", free_port(), **placed(**SHAPES[request.param]), **QUIET)
    server.start()
    (folder / "miners").mkdir()
    made = Market(server, folder / "miners")
    made.start(token=made.token(), kinds={"chat": {"base_url": model.url}}, slots=1)
    yield made
    for miner in made.miners:
        miner.terminate()
        miner.wait(20)
    server.stop()


@pytest.fixture
def client(market: Market) -> Iterator[httpx.Client]:
    """Somebody with money."""
    headers = {"Authorization": f"Bearer {market.key}"}
    with httpx.Client(base_url=market.server.url, headers=headers, timeout=30, verify=UNUSED_TLS) as client:
        yield client


def leave_after(market: Market, path: str, body: Any, headers: dict[str, str], holds: Callable[[], Any]) -> None:
    """Send a request that waits, and go away once something holds."""
    headers = headers | {"Authorization": f"Bearer {market.key}", "Content-Type": "application/json"}
    connection = http.client.HTTPConnection("127.0.0.1", market.server.port, timeout=30)
    connection.request("POST", path, httpx.Request("POST", path, json=body).content, headers)
    try:
        market.until(holds)
    finally:
        connection.close()


def body(**changes: Any) -> dict[str, Any]:
    """A chat to submit."""
    ask = {"messages": [{"role": "user", "content": PROMPT}], "max_tokens": 1000}
    return {"kind": "chat", "input": ask, "max_price": "1", **changes}


def once() -> dict[str, str]:
    return {"Idempotency-Key": uuid.uuid4().hex}


def events_of(lines: Iterator[str]) -> Iterator[tuple[str, Any, str | None]]:
    """Event, data and id of a stream."""
    name, ident = "", None
    for line in lines:
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "id":
            ident = value
        elif field == "data":
            yield name, json.loads(value), ident
            ident = None


def require_paid_for_what_came(market: Market, job: str, at_least: str) -> Any:
    """The job ends as stopped, its text is what was told in parts, and the bill is prompt and text."""
    done = market.until_state(job, "succeeded")
    text = done["output"]["message"]["content"]
    assert text.startswith(at_least)
    assert text == "".join(f"{number} " for number in range(text.count(" ")))
    assert (done["reason"], done["output"]["finish_reason"]) == ("stopped_early", "stopped")
    assert done["units"] == len(PROMPT) + len(text)
    assert done["receipt"] is not None
    return done


def in_one_write(body: str, media_type: str) -> bytes:
    """A whole answer with its head."""
    return f"HTTP/1.0 200 OK\r\nContent-Type: {media_type}\r\n\r\n{body}".encode()


WHOLE = json.dumps({"model": "slow", "choices": [{"message": {"content": "0 1 "}, "finish_reason": "stop"}]})
PIECES = "".join(
    f'data: {{"model": "slow", "choices": [{{"delta": {{"content": "{word} "}}}}]}}\n\n' for word in (0, 1)
)
END = 'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\n'
AT_ONCE = {
    "a whole answer": in_one_write(WHOLE, "application/json"),
    "all pieces": in_one_write(f"{PIECES}{END}data: [DONE]\n\n", "text/event-stream"),
    "all pieces without [DONE]": in_one_write(PIECES + END, "text/event-stream"),
}


@pytest.mark.parametrize("form", AT_ONCE)
def test_text_and_outcome_that_come_in_one_read_end_the_job_at_once(
    market: Market, model: SlowModel, client: httpx.Client, form: str
) -> None:
    model.prepare()
    model.whole = AT_ONCE[form]
    jobs = [client.post(JOBS, json=body(), headers=once()).json()["id"] for _ in range(4)]
    for job in jobs:
        done = market.until_state(job, "succeeded")
        assert (done["output"]["message"]["content"], len(done["history"])) == ("0 1 ", 1)


def test_text_is_told_while_it_is_written_and_a_broken_stream_goes_on_where_it_broke(
    market: Market, model: SlowModel, client: httpx.Client
) -> None:
    model.prepare(words=24)
    texts: list[str] = []
    at: list[float] = []
    last = job = None
    url = f"{RUNS}/stream?on_disconnect=continue"
    with client.stream("POST", url, json=body(), headers=once()) as answer:
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/event-stream")
        for name, data, ident in events_of(answer.iter_lines()):
            job = data["id"] if name == "job" else job
            last = ident or last
            if name == "part":
                texts.append(data["text"])
                at.append(time.monotonic())
            if len(texts) == 3:
                break
    assert job is not None and last is not None
    assert answer.headers["location"] == f"{JOBS}/{job}"
    with client.stream("GET", f"{JOBS}/{job}/events", headers={"Last-Event-ID": last}) as answer:
        for name, data, _ in events_of(answer.iter_lines()):
            if name == "part":
                texts.append(data["text"])
                at.append(time.monotonic())
    assert "".join(texts) == "".join(f"{number} " for number in range(24))
    assert at[-1] - at[0] > 0.4, "it came all at once"
    done = market.job(job)
    assert (done["state"], done["reason"], done["output"]["message"]["content"]) == (
        *("succeeded", "completed"),
        "".join(texts),
    )


def test_who_leaves_the_stream_stops_the_model_and_pays_what_came(
    market: Market, model: SlowModel, client: httpx.Client
) -> None:
    model.prepare()
    came = ""
    job = ""
    with client.stream("POST", f"{RUNS}/stream", json=body(), headers=once()) as answer:
        for name, data, _ in events_of(answer.iter_lines()):
            job = data["id"] if name == "job" else job
            came += data["text"] if name == "part" else ""
            if len(came) > 20:
                break
    left = time.monotonic()
    assert model.until_left(left) <= STOP_SECONDS
    require_paid_for_what_came(market, job, came)


def test_who_leaves_the_form_that_waits_stops_the_model_too_and_finds_the_job_again(
    market: Market, model: SlowModel, client: httpx.Client
) -> None:
    model.prepare()
    key = once()
    leave_after(market, f"{RUNS}/sync", body(), key, lambda: three_words_came(client))
    left = time.monotonic()
    assert model.until_left(left) <= STOP_SECONDS
    answer = client.post(f"{RUNS}/sync", json=body(), headers=key)
    assert answer.status_code == 200 and answer.headers["idempotency-replayed"] == "true"
    done = require_paid_for_what_came(market, answer.json()["id"], "0 1 2 ")
    assert answer.json() == done
    assert len(done["history"]) == 1


def test_the_form_that_waits_answers_with_the_end_or_when_its_time_is_up(
    market: Market, model: SlowModel, client: httpx.Client
) -> None:
    model.prepare(words=5)
    done = client.post(f"{RUNS}/sync", json=body(), headers=once())
    assert (done.status_code, done.json()["state"]) == (200, "succeeded")
    model.prepare(words=30)
    early = client.post(f"{RUNS}/sync?seconds=1", json=body(), headers=once()).json()
    assert early["state"] in ("leased", "running", "queued")
    assert market.until_state(early["id"], "succeeded")["reason"] == "completed"
    assert client.post(f"{RUNS}/sync?seconds=76", json=body(), headers=once()).status_code == 422
    assert client.post(f"{RUNS}/sync?on_disconnect=no", json=body(), headers=once()).status_code == 422


def test_a_stop_and_a_cancel_reach_the_model(market: Market, model: SlowModel, client: httpx.Client) -> None:
    for way, state in (("stop", "succeeded"), ("cancel", "canceled")):
        model.prepare()
        job = client.post(JOBS, json=body(), headers=once()).json()["id"]
        assert model.started.wait(30)
        time.sleep(0.5)
        asked = time.monotonic()
        assert client.post(f"{JOBS}/{job}/{way}", headers=once()).status_code == 200
        assert model.until_left(asked) <= STOP_SECONDS
        done = market.until_state(job, state)
        assert (done["price"] is not None) == (way == "stop")


def test_a_server_that_cannot_stream_is_stopped_too_and_nothing_but_the_prompt_is_paid(
    market: Market, model: SlowModel, client: httpx.Client
) -> None:
    model.prepare(streams=False)
    job = client.post(JOBS, json=body(), headers=once()).json()["id"]
    assert model.started.wait(30)
    time.sleep(0.3)
    asked = time.monotonic()
    assert client.post(f"{JOBS}/{job}/stop", headers=once()).status_code == 200
    assert model.until_left(asked) <= STOP_SECONDS
    done = require_paid_for_what_came(market, job, "")
    assert (done["output"]["message"]["content"], done["units"]) == ("", len(PROMPT))


def three_words_came(client: httpx.Client) -> bool:
    """Whether the server was told three words of the job that runs."""
    running = client.get(JOBS, params={"state": "running"}).json()["data"]
    if not running:
        return False
    text = ""
    with client.stream("GET", f"{JOBS}/{running[0]['id']}/events") as answer:
        for name, data, _ in events_of(answer.iter_lines()):
            text += data["text"] if name == "part" else ""
            if text.startswith("0 1 2 "):
                return True
    return False


def waiting(client: httpx.Client) -> Any:
    """The jobs that wait for a miner."""
    return client.get(JOBS, params={"state": "queued", "limit": 500}).json()["data"]


def test_who_leaves_before_a_miner_has_the_job_pays_nothing(market: Market, client: httpx.Client) -> None:
    key = once()
    wanted = body(requirements={"region": "nowhere"})
    before = {job["id"] for job in waiting(client)}
    leave_after(market, f"{RUNS}/sync", wanted, key, lambda: {job["id"] for job in waiting(client)} - before)

    def ended() -> Any:
        told = client.post(f"{RUNS}/sync?seconds=5", json=wanted, headers=key).json()
        return told if told.get("state") == "canceled" else None  # else what was left is still being noticed

    job = market.until(ended)
    assert (job["state"], job["reason"], job["price"]) == ("canceled", "canceled_by_owner", None)


@pytest.fixture
def environment(market: Market, tmp_path: Path) -> dict[str, str]:
    """What the operator's shell has."""
    return surroundings(tmp_path, AITBC_URL=market.server.url, AITBC_API_KEY=market.key)


CHAT = ("job", "submit", "chat", "--message", PROMPT, "--max-price", "1", "--stream")


def test_the_program_prints_text_as_it_comes_and_says_what_it_cost(
    model: SlowModel, environment: dict[str, str], tmp_path: Path
) -> None:
    model.prepare(words=12)
    ended = as_program(*CHAT, "--out", "said.json", environment=environment, cwd=tmp_path)
    text = "".join(f"{number} " for number in range(12))
    assert (ended.code, ended.out) == (0, text + "\n")
    assert f"{len(PROMPT) + len(text)} bytes for" in ended.err
    assert json.loads((tmp_path / "said.json").read_text())["message"]["content"] == text
    told = [
        json.loads(line) for line in as_program(*CHAT, "--json", environment=environment, cwd=tmp_path).out.splitlines()
    ]
    assert "".join(event["data"]["text"] for event in told if event["event"] == "part") == text


def test_leaving_the_program_leaves_the_job_which_can_be_stopped_from_elsewhere(
    market: Market, model: SlowModel, environment: dict[str, str], tmp_path: Path
) -> None:
    model.prepare()
    program = subprocess.Popen(
        [AITBC, *CHAT], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
    )
    assert program.stdout is not None
    assert program.stdout.read(10) == b"0 1 2 3 4 "
    program.send_signal(signal.SIGINT)
    _, said = program.communicate(timeout=30)
    assert program.returncode == 130
    (job,) = {word for word in said.decode().split() if word.startswith("job_") and word.isascii()} - {""}
    assert f"aitbc job watch {job}" in said.decode() and f"aitbc job stop {job}" in said.decode()
    assert market.job(job)["state"] == "running"
    following = subprocess.Popen([AITBC, "job", "watch", job], env=environment, stdout=subprocess.PIPE, cwd=tmp_path)
    time.sleep(1)
    stopped = as_program("job", "stop", job, environment=environment, cwd=tmp_path)
    assert stopped.code == 0, stopped
    require_paid_for_what_came(market, job, "0 1 2 3 4 ")
    shown, _ = following.communicate(timeout=30)
    assert following.returncode == 0
    assert b"part" in shown and b"stopped_early" in shown
    explained = as_program("job", "explain", job, environment=environment, cwd=tmp_path).out
    assert "finished it early" in explained
    refused = as_program("job", "stop", "job_" + "0" * 26, environment=environment, cwd=tmp_path)
    assert refused.code == 3


def test_a_server_that_stops_is_not_a_client_that_leaves(
    market: Market, model: SlowModel, client: httpx.Client
) -> None:
    model.prepare()
    with client.stream("POST", f"{RUNS}/stream", json=body(), headers=once()) as answer:
        events = events_of(answer.iter_lines())
        job = next(data["id"] for name, data, _ in events if name == "job")
        next(events_until := (data for name, data, _ in events if name == "part"))
        assert market.server.stop() == 0
        for _ in events_until:  # what still comes
            pass
    market.server.start()
    found = market.job(job)
    assert (found["state"], found["history"][-1]["stop_asked_at"]) == ("running", None)
    before = len(found["history"])
    time.sleep(1)
    assert model.left_at is None
    assert client.post(f"{JOBS}/{job}/stop", headers=once()).status_code == 200
    done = require_paid_for_what_came(market, job, "0 1 2 ")
    assert len(done["history"]) == before == 1


def test_canceled_work_is_gone_at_once_whatever_the_heartbeat(market: Market) -> None:
    miner = market.start("shell", token=market.token(), slots=1)
    for number, wait in enumerate((0.0, 1.5)):  # before its lease is watched, and while it is
        nap = f"28.{os.getpid()}{number}"
        job = market.submit(f"exec sleep {nap}")
        market.until(partial(sleepers, nap))
        time.sleep(wait)
        market.cancel(job)
        assert gone(nap), market.log("shell")
    assert market.until_state(market.submit("echo next"), "succeeded")["output"]["stdout"] == "next\n"
    miner.terminate()
    assert miner.wait(30) == 0
