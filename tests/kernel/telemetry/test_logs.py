"""The log: one line per event, valid JSON, without secrets, and never blocking a request."""

import asyncio
import json
import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from litestar import Litestar, Request, get
from litestar.params import FromPath
from litestar.testing import AsyncTestClient

from aitbc.kernel.crypto.api_key import new_key
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.request_id import request_id
from aitbc.kernel.primitives.secret import Secret
from aitbc.kernel.telemetry import logs
from aitbc.kernel.telemetry.log_writer import QUEUE_BYTES_MAX, LogWriter
from aitbc.kernel.telemetry.logs import LogSettings
from aitbc.server.asgi.access_log import LOGGED_ELSEWHERE, AccessLog

log = structlog.get_logger("aitbc.somewhere")


@contextmanager
def logging_to(path: Path, *, secrets: tuple[str, ...] = (), **settings: Any) -> Iterator[None]:
    """The log of this process in a file, for a while."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        logs.configure(LogSettings(**settings), descriptor=descriptor, secrets=secrets)
        yield
        logs.flush()
    finally:
        if logs.current.writer is not None:
            logs.current.writer.close()
        logs.current.writer = None
        os.close(descriptor)


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log"


def test_an_event_is_one_json_line_with_time_level_name_and_fields(path: Path) -> None:
    with logging_to(path):
        token = request_id.set("req_1")
        log.info("job_submitted", job_id="job_1", count=3, missing=None)
        request_id.reset(token)
    (line,) = lines_of(path)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line.pop("timestamp"))
    assert line == {
        "level": "info",
        "event": "job_submitted",
        "logger": "aitbc.somewhere",
        "request_id": "req_1",
        "job_id": "job_1",
        "count": 3,
        "missing": None,
    }


def test_key_and_module_come_from_where_the_request_noted_them(path: Path) -> None:
    with logging_to(path):
        tokens = logs.principal_key.set("key_1"), logs.module_name.set("gpu")
        log.warning("miner_left")
        logs.principal_key.reset(tokens[0])
        logs.module_name.reset(tokens[1])
        log.warning("miner_left")
    first, second = lines_of(path)
    assert (first["key"], first["module"]) == ("key_1", "gpu")
    assert "key" not in second


def test_what_libraries_say_comes_through_the_same_log(path: Path) -> None:
    with logging_to(path, levels={"talkative": "debug"}):
        logging.getLogger("uvicorn.error").warning("broken %s", "pipe")
        logging.getLogger("uvicorn.error").info("not heard")
        logging.getLogger("talkative.part").debug("heard")
        assert not logging.getLogger("sqlalchemy.engine").isEnabledFor(logging.INFO)
    assert [(line["logger"], line["message"]) for line in lines_of(path)] == [
        ("uvicorn.error", "broken pipe"),
        ("talkative.part", "heard"),
    ]


def test_each_module_has_a_level_of_its_own_that_can_be_changed_while_it_runs(path: Path) -> None:
    with logging_to(path, level="warning", levels={"gpu": "debug"}):
        structlog.get_logger("aitbc.gpu").debug("one_heard")
        structlog.get_logger("aitbc.modules.gpu.service").debug("two_heard")
        structlog.get_logger("aitbc.ai").info("nothing_heard")
        logs.current.levels.set("ai", "info")
        structlog.get_logger("aitbc.ai").info("three_heard")
    assert [line["event"] for line in lines_of(path)] == ["one_heard", "two_heard", "three_heard"]


def test_an_exception_is_told_without_the_values_of_variables(path: Path) -> None:
    def failing() -> None:
        password = "canary-" + "1"
        raise ValueError(len(password))

    with logging_to(path):
        try:
            failing()
        except ValueError:
            log.exception("work_failed")
    (line,) = lines_of(path)
    assert "ValueError: 8" in line["exception"]
    assert "canary-1" not in path.read_text()


@given(st.text(), st.dictionaries(st.text(min_size=1, max_size=5), st.text(max_size=9), max_size=3))
def test_no_value_can_make_a_second_line_or_speak_to_the_terminal(value: str, nested: dict[str, str]) -> None:
    line = {"timestamp": now(), "level": "info", "event": value, "logger": "x", "nested": nested}
    machine = logs.render_json(line)
    assert machine.count(b"\n") == 1
    assert json.loads(machine)["event"] == value
    for text in (machine.decode(), logs.render_console(line, color=False).decode()):
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202e\u2066]", text)
        assert text.count("\n") == 1


def test_what_cannot_be_encoded_is_still_told(path: Path) -> None:
    class Rude:
        def __repr__(self) -> str:
            raise RuntimeError

    loop: list[Any] = []
    loop.append(loop)
    with logging_to(path):
        for value in ("\ud800", {1: {2}, (1, 2): 3}, Rude(), loop, "x" * 1_000_000, b"\xff", float("nan"), 2**70):
            log.info("value_seen", value=value)
    lines = lines_of(path)
    assert len(lines) == 8
    assert all(line["event"] == "value_seen" for line in lines)
    assert max(map(len, path.read_bytes().splitlines())) <= logs.LINE_BYTES_MAX


def test_no_secret_reaches_the_file_however_it_got_into_the_line(path: Path) -> None:
    key = new_key("live")
    url = "postgresql://user:canary%2Dtwo@host/db"
    with logging_to(path, secrets=('canary"three', url)):
        log.info(
            "it_slipped", text=f"{key} {url}", secret=Secret("canary-four"), other='canary"three', part="canary-two"
        )
        log.info("it_slipped", header=f"Bearer {'z' * 40}", url="https://bob:canary-five@example.org/x")
        logging.getLogger("asyncpg").error("cannot connect to %s", url)
    text = path.read_text()
    assert "canary" not in text
    assert key not in text
    assert "z" * 40 not in text
    assert "https://bob:********@example.org/x" in text
    assert len(lines_of(path)) == 3


def test_a_terminal_gets_words_and_colours_and_a_file_asked_for_words_gets_no_colours(path: Path) -> None:
    with logging_to(path, format="console"):
        log.info("job_submitted", job_id="job_1", note="two words\x1b[31m")
    text = path.read_text()
    assert re.fullmatch(
        r'\d\d:\d\d:\d\d\.\d{3} info    job_submitted job_id=job_1 note="two words\\x1b\[31m"\n', text
    ), text

    terminal, inside = os.openpty()
    for no_color in (False, True):
        logs.configure(LogSettings(), descriptor=inside, no_color=no_color)
        log.info("job_submitted")
        logs.flush()
        assert (b"\x1b[32m" in os.read(terminal, 1000)) is not no_color
    assert logs.current.writer is not None
    logs.current.writer.close()
    logs.current.writer = None
    os.close(terminal)
    os.close(inside)


def test_a_reader_that_has_stalled_holds_up_nobody_and_memory_stays_bounded() -> None:
    reading, writing = os.pipe()
    writer = LogWriter(writing)
    line = b"x" * 999 + b"\n"
    started = time.perf_counter()
    for _ in range(3 * QUEUE_BYTES_MAX // len(line)):
        writer.write(line)
    assert time.perf_counter() - started < 20.0
    assert writer._size <= QUEUE_BYTES_MAX + len(line)

    received = bytearray()
    os.set_blocking(reading, False)
    deadline = time.monotonic() + 20
    while b"log_lines_dropped" not in received and time.monotonic() < deadline:
        writer.write(b"later\n")
        time.sleep(0.01)
        with suppress(BlockingIOError):
            while piece := os.read(reading, 1 << 20):
                received += piece
    assert b"log_lines_dropped" in received
    os.close(reading)
    writer.write(b"into a closed pipe\n")
    writer.close()
    os.close(writing)


def test_lines_of_many_threads_all_arrive_and_stay_whole(path: Path) -> None:
    def many(number: int) -> None:
        for _ in range(200):
            log.info("line_written", number=number)

    async def speak() -> None:
        await asyncio.gather(*(asyncio.to_thread(many, number) for number in range(8)))

    with logging_to(path):
        asyncio.run(speak())
    assert len(lines_of(path)) == 1600


# The line of each request --------------------------------------------------------------------------------------------


@get("/api/v1/ai/jobs/{job:str}")
async def read_job(job: FromPath[str], request: Request[Any, Any, Any]) -> dict[str, str]:
    request_id.set("req_7")
    request.scope["state"]["principal"] = type("Who", (), {"key": "key_7"})()
    return {"job": job}


@get("/broken")
async def broken() -> None:
    raise RuntimeError("canary-6")


async def test_every_request_is_one_line(path: Path) -> None:
    with logging_to(path, secrets=("canary-6",)):
        app = AccessLog(Litestar([read_job, broken]))
        async with AsyncTestClient(app) as client:
            answer = await client.get(
                "/api/v1/ai/jobs/job_1?key=canary-7", headers={"Authorization": "Bearer canary-8"}
            )
            await client.get("/broken")
            await client.get("/nowhere%0Aforged%1b[31m")
            await client.get("/%ff" + "y" * 500)
    lines = [line for line in lines_of(path) if line["event"] == "request_answered"]
    assert [line["status"] for line in lines] == [200, 500, 404, 404]
    first = lines[0]
    assert first.pop("milliseconds") > 0
    first.pop("timestamp")
    assert first == {
        "level": "info",
        "event": "request_answered",
        "method": "GET",
        "path": "/api/v1/ai/jobs/job_1",
        "route": "/api/v1/ai/jobs/{job}",
        "status": 200,
        "bytes": len(answer.content),
        "request_id": "req_7",
        "key": "key_7",
    }
    assert lines[1]["level"] == "error"
    assert lines[2]["path"] == "/nowhere\nforged\x1b[31m"
    assert "route" not in lines[2]
    assert len(lines[3]["path"]) <= 200
    assert "canary" not in path.read_text()  # noqa: ASYNC240


async def test_a_client_that_left_before_the_answer_is_told_as_such(path: Path) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(10)

    with logging_to(path):
        scope: Any = {"type": "http", "method": "GET", "path": "/slow"}
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(AccessLog(app)(scope, None, None), 0.01)  # type: ignore[arg-type]
    (line,) = lines_of(path)
    assert line["status"] == 499


async def test_a_request_that_another_process_answered_has_its_line_there(path: Path) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["state"][LOGGED_ELSEWHERE] = True
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x"})

    async def send(message: Any) -> None: ...

    scope: Any = {"type": "http", "method": "GET", "path": "/api/v1/gpu/miners", "state": {}}
    with logging_to(path):
        await AccessLog(app)(scope, None, send)  # type: ignore[arg-type]
    assert lines_of(path) == []


async def test_the_line_of_a_request_costs_microseconds(path: Path) -> None:
    async def send(message: Any) -> None: ...

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x"})

    async def cost(app: Any) -> float:
        scope: Any = {"type": "http", "method": "GET", "path": "/api/v1/ai/jobs/job_1", "state": {}}
        started = time.process_time()
        for _ in range(2000):
            await app(scope, None, send)
        return (time.process_time() - started) / 2000 * 1e6

    with logging_to(path):
        pairs = [(await cost(app), await cost(AccessLog(app))) for _ in range(7)]
    assert min(with_line - bare for bare, with_line in pairs) < 15, pairs
