"""Poison that only a real connection can carry: bodies that do not come, lengths that lie, requests that hide another one."""

import asyncio
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.server_process import ServerProcess
from tests.poison.operations import OPERATIONS

BODY_SECONDS = 0.5
AT_ONCE = 16
ANSWER_SECONDS = 40.0
HEAD = b"Host: localhost\r\nContent-Type: application/json\r\n"
ID = "job_01kb2c3d4e5f6g7h8j9kamnpqr"
TAKES_JSON = [operation for operation in OPERATIONS.values() if operation.takes_json]
POST = b"POST /api/v1/identity/accounts HTTP/1.1\r\n"
HIDDEN = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"

SMUGGLED = {
    "a length and a coding": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a coding and a length": b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 0\r\nContent-Length: 44\r\n\r\n",
    "two lengths in one": b"Content-Length: 0, 44\r\n\r\n",
    "a negative length": b"Content-Length: -1\r\n\r\n",
    "a signed length": b"Content-Length: +0\r\n\r\n",
    "a length in base 16": b"Content-Length: 0x2c\r\n\r\n",
    "a length that is too long": b"Content-Length: " + b"9" * 40 + b"\r\n\r\n",
    "a blank before the colon": b"Content-Length : 44\r\n\r\n",
    "a folded header": b"X-A: b\r\n Content-Length: 44\r\n\r\n",
    "a name with a blank": b"Content Length: 44\r\n\r\n",
    "a name with a control character": b"Content\x01Length: 44\r\n\r\n",
    "NUL in a value": b"X-A: a\0b\r\n\r\n",
    "a bare carriage return": b"X-A: a\rX-B: c\r\n\r\n",
    "no colon": b"X-A\r\n\r\n",
    "an unknown coding": b"Transfer-Encoding: gzip\r\n\r\n",
    "a coding spelled otherwise": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "two codings": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "a chunk size that is none": b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
    "a negative chunk size": b"Transfer-Encoding: chunked\r\n\r\n-5\r\nabcde\r\n0\r\n\r\n",
    "a chunk size past 64 bits": b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 17 + b"\r\n",
    "a chunk longer than told": b"Transfer-Encoding: chunked\r\n\r\n2\r\nabcde\r\n0\r\n\r\n",
}
"""Heads behind `POST` and the host, with what follows; each is sent with another request behind it."""
GARBAGE = {
    "an old version": b"GET /healthz HTTP/0.9\r\n\r\n",
    "no version": b"GET /healthz\r\n\r\n",
    "a version to come": b"GET /healthz HTTP/3.7\r\nHost: localhost\r\n\r\n",
    "another protocol": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a TLS hello": bytes.fromhex("160301020001000001fc0303") + b"\0" * 60,
    "NUL": b"\0" * 100 + b"\r\n\r\n",
    "a blank in the target": b"GET /heal thz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a foreign absolute target": b"GET http://evil.test/healthz HTTP/1.1\r\nHost: evil.test\r\n\r\n",
    "no Host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "two Hosts": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.test\r\n\r\n",
    "a large header": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-A: " + b"a" * 100_000 + b"\r\n\r\n",
    "10 000 headers": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + b"X-A: a\r\n" * 10_000 + b"\r\n",
    "a long target": b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a long method": b"A" * 10_000 + b" /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server whose patience is short."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    made = ServerProcess(tmp_path_factory.mktemp("raw") / "state", port, AITBC_SERVER__BODY_SECONDS=str(BODY_SECONDS))
    made.start()
    yield made
    assert made.stop() == 0


@pytest.fixture(autouse=True)
def unharmed(server: ServerProcess) -> Iterator[None]:
    """Whatever came: the server lives, serves, and has no failure in its log."""
    log = server.state.parent / "server.log"
    before = log.stat().st_size
    yield
    assert server.is_ready()
    assert not re.search(r'"error"|Traceback|request_failed', log.read_text()[before:])


async def send(server: ServerProcess, *parts: bytes, hang_up: bool = False) -> bytes:
    """All that comes back until the server closes the connection, or until nothing more is to be expected."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        for part in parts:
            writer.write(part)
        if hang_up:
            writer.write_eof()
        async with asyncio.timeout(ANSWER_SECONDS):
            return await reader.read(-1)
    except ConnectionError:
        return b""
    finally:
        writer.close()


def statuses(answers: bytes) -> list[int]:
    """Of every answer on a connection."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3})", answers)]


def line(method: str, path: str) -> bytes:
    """The request line of an operation, about an id that nothing has."""
    return f"{method} {re.sub(r'{[^}]*}', ID, path)} HTTP/1.1\r\n".encode()


def problem(answer: bytes) -> dict[str, object]:
    """The problem in an answer, which came in the form for it."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head.lower()
    told: dict[str, object] = json.loads(body)
    assert f"x-request-id: {told['request_id']}".encode() in head.lower()
    return told


async def test_a_body_that_does_not_come_is_waited_for_no_longer_than_it_may_take(server: ServerProcess) -> None:
    started = asyncio.get_running_loop().time()
    answers = await asyncio.gather(
        *(
            send(server, line(one.method, one.path) + HEAD + b"Content-Length: 100\r\n\r\n", b'{"a"')
            for one in TAKES_JSON
        )
    )
    assert asyncio.get_running_loop().time() - started < BODY_SECONDS + 20
    for operation, answer in zip(TAKES_JSON, answers, strict=True):
        assert statuses(answer) == [408], operation.ident
        assert problem(answer)["code"] == "body_timeout"
        assert 408 in operation.statuses


async def test_chunks_without_an_end_are_cut_at_the_limit(server: ServerProcess) -> None:
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    head = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    for first in range(0, len(TAKES_JSON), AT_ONCE):
        some = TAKES_JSON[first : first + AT_ONCE]
        answers = await asyncio.gather(
            *(send(server, line(one.method, one.path) + head, *[chunk] * 18) for one in some)
        )
        for operation, answer in zip(some, answers, strict=True):
            assert statuses(answer) == [413], operation.ident
            assert b"connection: close" in answer.lower()


async def test_a_body_announced_too_large_is_refused_before_it_comes(server: ServerProcess) -> None:
    head = HEAD + b"Content-Length: 1048577\r\n\r\n"
    answers = await asyncio.gather(*(send(server, line(one.method, one.path) + head) for one in TAKES_JSON))
    for operation, answer in zip(TAKES_JSON, answers, strict=True):
        assert statuses(answer) == [413], operation.ident
        assert problem(answer)["code"] == "body_too_large"


async def test_a_caller_who_leaves_within_the_body_gets_and_harms_nothing(server: ServerProcess) -> None:
    head = HEAD + b"Content-Length: 100\r\n\r\n"
    answers = await asyncio.gather(
        *(send(server, line(one.method, one.path) + head + b'{"a"', hang_up=True) for one in TAKES_JSON)
    )
    assert [status for answer in answers for status in statuses(answer) if status < 400] == []


@pytest.mark.parametrize("name", SMUGGLED)
async def test_nothing_is_smuggled_behind_a_request(server: ServerProcess, name: str) -> None:
    answers = await send(server, POST + b"Host: localhost\r\n" + SMUGGLED[name] + HIDDEN)
    assert len(statuses(answers)) <= 1, "what lay behind was taken for a request of its own"
    assert all(400 <= status < 500 for status in statuses(answers))


@pytest.mark.parametrize("name", GARBAGE)
async def test_what_is_no_request_is_refused_or_dropped(server: ServerProcess, name: str) -> None:
    answers = await send(server, GARBAGE[name], hang_up=True)
    assert all(400 <= status < 500 for status in statuses(answers)), answers[:500]


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"], ids=["bare line feeds", "both"])
async def test_lines_may_not_end_otherwise_and_hide_a_request(server: ServerProcess, ending: bytes) -> None:
    head = POST.rstrip() + ending + b"Host: localhost" + ending + b"Content-Length: 0" + ending + ending
    answers = await send(server, head, hang_up=True)
    assert len(statuses(answers)) <= 1
    assert all(400 <= status < 500 for status in statuses(answers))


async def test_deep_nesting_costs_no_memory(server: ServerProcess) -> None:
    body = b"[" * 1_000_000
    head = POST + HEAD + f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
    await send(server, head, body)
    before = resident(server.pid)
    for _ in range(5):
        assert statuses(await send(server, head, body)) == [400]
    assert resident(server.pid) - before < 10 * 1024 * 1024


def resident(pid: int) -> int:
    """Bytes of memory that a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
