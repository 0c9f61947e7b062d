"""Requests and WebSockets on their way through the gateway to a module in another process, both as real processes."""

import asyncio
import gzip
import json
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from aitbc.kernel.http.websocket import MESSAGE_BYTES_MAX
from aitbc.server.cluster.circuit_breaker import FAILURES_MAX
from tests.chaos.forked import Forked
from tests.journeys.test_machines import certificates
from tests.scale import scaled
from tests.server.cluster import far_module
from tests.server.cluster.far_module import PREFIX
from tests.server.runtime.test_serve import free_port

MEBI = 1 << 20
BODY_PIECES = scaled(4096, 16384)
"""Of 64 KiB: 256 MiB, or 1 GiB."""


class Pair:
    """The two processes, and the notes of the module."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "gpu.sock"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}{PREFIX}"
        self.processes: dict[str, Forked] = {}

    def start(self, role: str, **environment: str) -> None:
        """Start one of them, and wait until it listens."""
        log = self.folder / "log"
        self.processes[role] = Forked(far_module.start, role, self.socket, self.port, environment=environment, out=log)
        end = time.monotonic() + 60
        while not self._listens(role):
            assert time.monotonic() < end, (self.folder / "log").read_text()[-3000:]
            time.sleep(0.02)

    def _listens(self, role: str) -> bool:
        family, at = (
            (socket.AF_UNIX, str(self.socket)) if role == "module" else (socket.AF_INET, ("127.0.0.1", self.port))
        )
        with socket.socket(family) as probe:
            return probe.connect_ex(at) == 0

    def stop(self) -> None:
        """End both."""
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            process.wait(30)

    def note(self, name: str) -> list[str]:
        """What the module noted, waited for, and then forgotten."""
        path, end = self.folder / name, time.monotonic() + 30
        while not (path.exists() and path.read_text().endswith("\n")):  # it is made a moment before it is written
            assert time.monotonic() < end, f"no note {name}"
            time.sleep(0.02)
        lines = path.read_text().splitlines()
        path.unlink()
        return lines

    def logged(self, event: str) -> int:
        """How often the gateway said this, which it may do a moment late."""
        time.sleep(0.3)
        return (self.folder / "log").read_text().count(f'"event":"{event}"')

    def told_of(self, request: str) -> list[dict[str, Any]]:
        """The lines of either process about a request, which they may write a moment late."""
        time.sleep(0.3)
        lines = [json.loads(line) for line in (self.folder / "log").read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line.get("request_id") == request]

    def memory_mib(self) -> tuple[float, float]:
        """What the gateway's process has in memory, and the most it ever had."""
        status = Path(f"/proc/{self.processes['gateway'].pid}/status").read_text()
        told = {line.partition(":")[0]: line.split()[1] for line in status.splitlines() if line.endswith("kB")}
        return int(told["VmRSS"]) / 1024, int(told["VmHWM"]) / 1024


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    made = Pair(tmp_path_factory.mktemp("far"))
    made.start("module")
    made.start("gateway")
    yield made
    made.stop()


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(auto_decompress=False, timeout=aiohttp.ClientTimeout(total=60)) as session:
        yield session


async def test_headers_of_one_hop_stay_there_and_all_others_arrive_with_one_request_id(
    pair: Pair, client: aiohttp.ClientSession
) -> None:
    sent = {
        "Connection": "keep-alive, X-Mine",
        "X-Mine": "1",
        "TE": "trailers",
        "Proxy-Authorization": "x",
        "X-Request-ID": "from-the-caller",
        "X-Kept": "2",
        "Authorization": "Bearer key",
        "X-Aitbc-Service": "forged",
    }
    async with client.get(pair.url + "headers?a=%20b&a=2", headers=sent) as answer:
        told = await answer.json(content_type=None)
        back = answer.headers
    names = [name for name, _ in told]
    assert not {"x-mine", "te", "proxy-authorization", "x-aitbc-service", "connection"} & set(names)
    assert {"x-kept": "2", "authorization": "Bearer key", "host": f"127.0.0.1:{pair.port}"}.items() <= dict(
        told
    ).items()
    assert dict(told)["path"] == f"{PREFIX}headers?a=%20b&a=2"
    assert [value for name, value in told if name == "x-request-id"] == ["from-the-caller"]
    assert back.getall("X-Request-ID") == ["from-the-caller"]
    assert back.getall("Set-Cookie") == ["one=1", "two=2"]
    assert "X-Private" not in back
    assert "Keep-Alive" not in back
    assert back["X-Public"] == "yes"


async def test_a_packed_answer_arrives_packed_and_says_so(pair: Pair, client: aiohttp.ClientSession) -> None:
    async with client.get(pair.url + "gzip") as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(await answer.read()) == b"hello" * 1000


async def test_a_stream_of_events_comes_as_it_is_told_and_ends_over_there_when_its_reader_leaves(
    pair: Pair, client: aiohttp.ClientSession
) -> None:
    async with client.get(pair.url + "feed") as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        for _ in range(5):
            async with asyncio.timeout(30):
                assert b"data: x" in await answer.content.readline()
                await answer.content.readline()
        answer.close()
    assert await asyncio.to_thread(pair.note, "left") == ["http.disconnect"]


async def test_bodies_of_any_size_go_through_in_flat_memory(pair: Pair, client: aiohttp.ClientSession) -> None:
    async def body() -> AsyncIterator[bytes]:
        piece = bytes(65536)
        for _ in range(BODY_PIECES):
            yield piece

    async with client.put(pair.url + "upload", data=b"warm") as answer:
        assert await answer.read() == b"4"
    before, _ = pair.memory_mib()
    headers = {"Content-Length": str(BODY_PIECES * 65536)}
    async with client.put(pair.url + "upload", data=body(), headers=headers) as answer:
        assert int(await answer.read()) == BODY_PIECES * 65536
    size = 0
    async with client.get(pair.url + f"download?pieces={BODY_PIECES}") as answer:
        async for piece in answer.content.iter_any():
            size += len(piece)
    assert size == BODY_PIECES * 65536
    _, most = pair.memory_mib()
    assert most - before < 64


async def test_a_body_that_asks_before_it_comes_is_let_in_once(pair: Pair) -> None:
    def told() -> bytes:
        with socket.create_connection(("127.0.0.1", pair.port), 5) as raw:
            head = f"PUT {PREFIX}upload HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 5\r\n"
            raw.sendall(head.encode() + b"Expect: 100-continue\r\n\r\n")
            assert raw.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
            raw.sendall(b"hello")
            return b"".join(iter(lambda: raw.recv(65536), b""))

    answer = await asyncio.to_thread(told)
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"\r\n\r\n5")


async def test_an_upload_past_its_limit_is_the_callers_fault_and_not_the_modules(
    pair: Pair, client: aiohttp.ClientSession
) -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(17):
            yield bytes(65536)

    for _ in range(FAILURES_MAX + 1):
        async with client.put(pair.url + "parcel", data=body()) as answer:
            told = await answer.json(content_type=None)
            assert (answer.status, told["code"]) == (413, "body_too_large"), told
    async with client.get(pair.url + "headers") as answer:
        assert answer.status == 200


async def test_a_module_that_takes_no_more_of_a_body_ends_the_callers_connection_too(pair: Pair) -> None:
    def answered() -> bytes:
        with socket.create_connection(("127.0.0.1", pair.port), 5) as raw:
            raw.settimeout(30)
            raw.sendall(f"PUT {PREFIX}unread HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500000\r\n\r\nx".encode())
            return b"".join(iter(lambda: raw.recv(65536), b""))

    head, _, body = (await asyncio.to_thread(answered)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in head.lower()
    assert body == b"enough"


async def test_a_reader_that_stops_reading_holds_up_the_module_and_fills_no_memory(
    pair: Pair, client: aiohttp.ClientSession
) -> None:
    before, _ = pair.memory_mib()
    async with client.get(pair.url + f"download?pieces={BODY_PIECES}") as answer:
        await answer.content.readany()
        await asyncio.sleep(1)
        now, _ = pair.memory_mib()
        assert now - before < 64
        answer.close()


# WebSockets ----------------------------------------------------------------------------------------------------------


async def test_messages_go_both_ways_as_what_they_are(pair: Pair, client: aiohttp.ClientSession) -> None:
    headers = {"Authorization": "Bearer key"}
    async with client.ws_connect(pair.url + "echo", protocols=("one", "two"), headers=headers) as ws:
        assert ws.protocol == "one"
        for text in ("hello", "", "ü" * 1000):
            await ws.send_str(text)
            assert (await ws.receive_str(timeout=30)) == text
        await ws.send_bytes(bytes(range(256)))
        assert (await ws.receive_bytes(timeout=30)) == bytes(range(256))
    names = json.loads((await asyncio.to_thread(pair.note, "headers"))[-1])
    assert names.count("authorization") == names.count("x-request-id") == names.count("sec-websocket-key") == 1


async def test_close_codes_and_reasons_pass_in_both_directions(pair: Pair, client: aiohttp.ClientSession) -> None:
    for code, why in ((4001, "enough"), (1000, ""), (1013, "later")):
        async with client.ws_connect(pair.url + "echo") as ws:
            await ws.send_str(f"close {code} {why}")
            message = await ws.receive(timeout=30)
            assert (message.type, message.data, message.extra or "") == (aiohttp.WSMsgType.CLOSE, code, why)
    (pair.folder / "closed").unlink(missing_ok=True)
    async with client.ws_connect(pair.url + "echo") as ws:
        await ws.close(code=4002, message=b"mine")
        assert ws.close_code == 4002
    assert await asyncio.to_thread(pair.note, "closed") == ["4002 mine"]


async def test_a_caller_who_vanishes_ends_the_websocket_over_there(pair: Pair, client: aiohttp.ClientSession) -> None:
    (pair.folder / "closed").unlink(missing_ok=True)
    ws = await client.ws_connect(pair.url + "echo")
    await ws.send_str("hello")
    await ws.receive_str(timeout=30)
    transport: Any = ws.get_extra_info("socket")
    transport.shutdown(socket.SHUT_RDWR)
    assert await asyncio.to_thread(pair.note, "closed") == ["1001"]
    await ws.close()


async def test_a_message_past_the_limit_closes_with_1009_either_way(pair: Pair, client: aiohttp.ClientSession) -> None:
    async with client.ws_connect(pair.url + "echo", max_msg_size=0) as ws:
        await ws.send_str("x" * MESSAGE_BYTES_MAX)
        assert len(await ws.receive_str(timeout=30)) == MESSAGE_BYTES_MAX
        await ws.send_str("x" * (MESSAGE_BYTES_MAX + 1))
        message = await ws.receive(timeout=30)
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1009)


async def test_a_websocket_nobody_reads_fills_no_memory(pair: Pair, client: aiohttp.ClientSession) -> None:
    before, _ = pair.memory_mib()
    async with client.ws_connect(pair.url + "echo") as ws:
        await ws.send_str("flood 2000")
        await asyncio.sleep(1)
        now, _ = pair.memory_mib()
        assert now - before < 64
        for _ in range(2000):
            assert len(await ws.receive_str(timeout=30)) == 65536


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("shut", {}, 403),
        ("nothing", {}, 404),
        ("echo", {"Host": "elsewhere.test"}, 421),
        ("echo", {"Origin": "https://elsewhere.test"}, 403),
    ],
)
async def test_a_refused_handshake_is_answered_with_its_status_and_told_once(
    pair: Pair, client: aiohttp.ClientSession, path: str, headers: dict[str, str], status: int
) -> None:
    ident = f"refused-{path}-{status}"
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await client.ws_connect(pair.url + path, headers={**headers, "X-Request-ID": ident})
    assert refused.value.status == status
    [line] = await asyncio.to_thread(pair.told_of, ident)
    assert (line["event"], line["status"], line["path"]) == ("websocket_ended", status, PREFIX + path)


async def test_a_websocket_has_one_line_with_how_it_ended(pair: Pair, client: aiohttp.ClientSession) -> None:
    async with client.ws_connect(pair.url + "echo", headers={"X-Request-ID": "told-of"}) as ws:
        await ws.send_str("hello")
        await ws.receive_str(timeout=30)
        await ws.send_bytes(bytes(10))
        await ws.receive_bytes(timeout=30)
        await ws.close(code=4003)
    [line] = await asyncio.to_thread(pair.told_of, "told-of")
    assert (line["event"], line["level"], line["method"]) == ("websocket_ended", "info", "GET")
    assert (line["status"], line["code"], line["bytes"], line["path"]) == (101, 4003, 15, PREFIX + "echo")


async def test_a_server_with_tls_speaks_plainly_to_the_other_processes_of_its_machine(
    tmp_path: Path, client: aiohttp.ClientSession
) -> None:
    ca, certificate, _ = certificates(tmp_path)
    pair = Pair(tmp_path)
    try:
        for role in ("module", "gateway"):
            pair.start(role, CERTIFICATES=str(certificate.parent))
        context = ssl.create_default_context(cafile=ca)
        url = pair.url.replace("http:", "https:")
        async with client.get(url + "headers", ssl=context) as answer:
            assert answer.status == 200
        async with client.ws_connect(url + "echo", ssl=context) as ws:
            await ws.send_str("hello")
            assert await ws.receive_str(timeout=30) == "hello"
    finally:
        pair.stop()


# A module that dies --------------------------------------------------------------------------------------------------


@pytest.fixture
def revived(pair: Pair) -> Iterator[Callable[[], None]]:
    """Brings the module back after it died, and at the end of the test."""

    def revive() -> None:
        module = pair.processes["module"]
        if module.poll() is None:
            module.kill()
        module.wait(30)
        pair.start("module")

    yield revive
    revive()
    time.sleep(1.2)  # until an open breaker has looked again


async def test_what_may_have_been_done_is_never_sent_twice(
    pair: Pair, client: aiohttp.ClientSession, revived: Callable[[], None]
) -> None:
    for method in ("POST", "GET", "PUT", "DELETE"):
        async with client.request(method, pair.url + "die") as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
            assert (await answer.json(content_type=None))["code"] == "module_unavailable"
        await asyncio.to_thread(revived)
        assert pair.note("died") == [method]


async def test_five_failures_in_a_row_refuse_at_once_until_the_module_answers_a_probe(
    pair: Pair, client: aiohttp.ClientSession, revived: Callable[[], None]
) -> None:
    async with client.get(pair.url + "headers") as answer:
        assert answer.status == 200
    tried = await asyncio.to_thread(pair.logged, "module_unreachable")
    pair.processes["module"].kill()
    pair.processes["module"].wait()
    for _ in range(FAILURES_MAX):
        async with client.get(pair.url + "headers") as answer:
            assert answer.status == 503
    async with client.get(pair.url + "headers") as answer:
        assert answer.status == 503
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await client.ws_connect(pair.url + "echo")
    assert refused.value.status == 503
    await asyncio.to_thread(revived)
    async with asyncio.timeout(30):
        while True:
            async with client.get(pair.url + "headers") as answer:
                if answer.status == 200:
                    break
            await asyncio.sleep(0.05)
    found = [
        await asyncio.to_thread(pair.logged, each)
        for each in ("module_unreachable", "breaker_opened", "breaker_closed")
    ]
    assert found == [tried + FAILURES_MAX, 1, 1]


async def test_a_module_that_dies_under_a_websocket_closes_it(
    pair: Pair, client: aiohttp.ClientSession, revived: Callable[[], None]
) -> None:
    async with client.ws_connect(pair.url + "echo") as ws:
        await ws.send_str("die")
        message = await ws.receive(timeout=30)
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1013)
