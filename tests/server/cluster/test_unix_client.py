"""The client of another process: good and bad responses, and what becomes of the connection then."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from aitbc.kernel.primitives.request_errors import BodyTimeout
from aitbc.server.cluster.peer_client import PeerResponse, RequestBody
from aitbc.server.cluster.tls_client import TlsClient
from aitbc.server.cluster.unix_client import IDLE_SECONDS, UnixClient
from aitbc.server.cluster.unix_connection import HEAD_BYTES_MAX, READ_AHEAD_BYTES

Talk = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Other:
    """The other process: answers each request as a test wants."""

    def __init__(self, client: UnixClient) -> None:
        self.client = client
        self.heads: list[bytes] = []
        self.connections = 0

    async def request(
        self, method: str = "GET", content: RequestBody = None, head: tuple[bytes, bytes] | None = None
    ) -> PeerResponse:
        """A request of a test."""
        sent = [(b"host", b"localhost"), *([head] if head else [])]
        async with asyncio.timeout(30):
            return await self.client.request(method, b"/x", sent, content)

    async def fetch(self, method: str = "GET", content: RequestBody = None) -> tuple[int, bytes]:
        """Status and body of an answer, read to its end."""
        answer = await self.request(method, content)
        async with asyncio.timeout(30):
            body = answer.buffered_body
            if body is None:
                body = b"".join([chunk async for chunk in answer.chunks()])
        answer.close()
        return answer.status, body


@asynccontextmanager
async def other(folder: Path, talk: Talk | bytes, *, read_timeout_seconds: float = 90.0) -> AsyncIterator[Other]:
    """Somebody at the other end; `talk` is what is said to each request, or says it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                made.heads.append(head)
                if isinstance(talk, bytes):
                    writer.write(talk)
                    await writer.drain()
                else:
                    await talk(head, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    made = Other(UnixClient(folder / "s", read_timeout_seconds=read_timeout_seconds))
    server = await asyncio.start_unix_server(serve, folder / "s")
    try:
        yield made
    finally:
        await made.client.close()
        server.close()


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


async def test_one_connection_serves_one_exchange_after_the_other(tmp_path: Path) -> None:
    async with other(tmp_path, OK) as they:
        assert [await they.fetch() for _ in range(3)] == [(200, b"hello")] * 3
        assert they.connections == 1


async def test_exchanges_at_one_time_have_connections_of_their_own(tmp_path: Path) -> None:
    async with other(tmp_path, OK) as they:
        first, second = await they.request(), await they.request()
        assert they.connections == 2
        first.close()
        second.close()
        await they.fetch()
        assert they.connections == 2


@pytest.mark.parametrize(
    ("said", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", b"abcde"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Late: 1\r\n\r\n", b"abc"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + OK, b"hello"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
    ],
)
async def test_answers_of_every_form_are_read_and_the_connection_is_kept(
    tmp_path: Path, said: bytes, body: bytes
) -> None:
    async with other(tmp_path, said) as they:
        for _ in range(2):
            answer = await they.request()
            read = (
                answer.buffered_body
                if answer.buffered_body is not None
                else b"".join([each async for each in answer.chunks()])
            )
            assert read == body
            assert not {b"x-late", b"link"} & {name for name, _ in answer.headers}
            answer.close()
        assert they.connections == 1


async def test_an_answer_in_single_bytes_is_read_like_any_other(tmp_path: Path) -> None:
    async def slowly(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for byte in OK:
            writer.write(bytes([byte]))
            await asyncio.sleep(0)

    async with other(tmp_path, slowly) as they:
        assert await they.fetch() == (200, b"hello")


async def test_an_answer_to_head_has_no_body_whatever_it_says(tmp_path: Path) -> None:
    async with other(tmp_path, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n") as they:
        assert await they.fetch("HEAD") == (200, b"")
        assert await they.fetch("HEAD") == (200, b"")


async def test_an_answer_may_last_until_the_connection_ends(tmp_path: Path) -> None:
    async def bye(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nall of it")
        writer.close()

    async with other(tmp_path, bye) as they:
        assert await they.fetch() == (200, b"all of it")
        assert await they.fetch() == (200, b"all of it")
        assert they.connections == 2


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nConte",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * (HEAD_BYTES_MAX + 1),
    ],
    ids=["nothing", "half a head", "half a body", "no HTTP", "an upgrade", "two lengths", "an endless head"],
)
async def test_what_is_no_whole_answer_is_an_error_and_is_not_asked_again(tmp_path: Path, said: bytes) -> None:
    async def bye(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        writer.close()

    async with other(tmp_path, bye) as they:
        with pytest.raises(OSError):  # noqa: PT011 - which one is nobody's business
            await they.fetch()
        assert len(they.heads) == 1


async def test_a_stream_that_breaks_off_is_an_error_behind_what_came(tmp_path: Path) -> None:
    async def bye(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await asyncio.sleep(0.05)
        writer.close()

    async with other(tmp_path, bye) as they:
        answer = await they.request()
        chunks = answer.chunks()
        assert await anext(chunks) == b"abc"
        with pytest.raises(OSError):  # noqa: PT011
            await anext(chunks)
        answer.close()


async def test_what_nobody_asked_for_is_nobodys_answer(tmp_path: Path) -> None:
    number = itertools.count()

    async def twice(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mine = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n%05d" % next(number)
        writer.write(mine + b"HTTP/1.1 200 OK\r\nX-Forged: 1\r\nContent-Length: 6\r\n\r\nforged")

    async with other(tmp_path, twice) as they:
        for expected in (b"00000", b"00001", b"00002"):
            answer = await they.request()
            assert answer.buffered_body == expected
            assert dict(answer.headers) == {b"content-length": b"5"}
            answer.close()
            await asyncio.sleep(0.01)
        assert they.connections == 3


async def test_a_connection_that_was_closed_meanwhile_is_not_used_again(tmp_path: Path) -> None:
    async def once(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        await asyncio.sleep(0.02)
        writer.close()

    async with other(tmp_path, once) as they:
        for _ in range(3):
            assert await they.fetch() == (200, b"hello")
            for _ in range(5):  # turns of the loop, however late: the end of the connection has been read
                await asyncio.sleep(0.02)
        assert they.connections == 3


async def test_an_answer_that_says_close_ends_the_connection(tmp_path: Path) -> None:
    async with other(tmp_path, b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi") as they:
        assert await they.fetch() == await they.fetch() == (200, b"hi")
        assert they.connections == 2


async def test_nobody_waits_longer_than_the_silence_allowed(tmp_path: Path) -> None:
    async def silent(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30)

    async with other(tmp_path, silent, read_timeout_seconds=0.5) as they:
        with pytest.raises(TimeoutError):
            await they.request()


async def test_a_caller_who_pauses_is_not_the_other_sides_silence(tmp_path: Path) -> None:
    async def pausing() -> AsyncIterator[bytes]:
        yield b"one"
        await asyncio.sleep(2.5)
        yield b"two"

    async def taking(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"0\r\n\r\n")
        writer.write(OK)

    async with other(tmp_path, taking, read_timeout_seconds=0.5) as they:
        assert await they.fetch("POST", pausing()) == (200, b"hello")


async def test_idle_connections_are_ended_before_the_other_side_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aitbc.server.cluster.unix_client.IDLE_SECONDS", 0.1)
    async with other(tmp_path, OK) as they:
        await they.fetch()
        await asyncio.sleep(1.3)
        await they.fetch()
        assert they.connections == 2
    assert IDLE_SECONDS < 65  # server.idle_seconds


async def test_bodies_go_out_as_what_they_are(tmp_path: Path) -> None:
    bodies: list[bytes] = []

    async def taking(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        bodies.append(
            await reader.readuntil(b"0\r\n\r\n") if b"transfer-encoding" in head else await reader.readexactly(6)
        )
        writer.write(OK)

    async def chunks() -> AsyncIterator[bytes]:
        yield b"abc"
        yield b"def"

    async with other(tmp_path, taking) as they:
        await they.fetch("POST", b"abcdef")
        await they.fetch("POST", chunks())
        (await they.request("POST", chunks(), (b"content-length", b"6"))).close()
        assert bodies == [b"abcdef", b"3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n", b"abcdef"]
        assert [b"content-length: 6\r\n" in head for head in they.heads] == [True, False, True]


async def test_an_answer_before_the_end_of_the_body_is_an_answer_and_ends_the_connection(tmp_path: Path) -> None:
    async def refusing(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        await asyncio.sleep(30)

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(65536)
            await asyncio.sleep(0)

    async with other(tmp_path, refusing) as they:
        assert await they.fetch("POST", endless()) == (413, b"no")
        assert await they.fetch("POST", endless()) == (413, b"no")
        assert they.connections == 2


async def test_what_goes_wrong_with_a_body_is_what_its_sender_is_told(tmp_path: Path) -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield b"one"
        raise LookupError

    async def taking(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with other(tmp_path, taking) as they:
        with pytest.raises(LookupError):
            await they.request("POST", failing())


async def test_on_another_machine_too_a_body_that_is_refused_on_its_way_is_its_senders_fault(tmp_path: Path) -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield b"one"
        raise BodyTimeout

    async def taking(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    connector = aiohttp.UnixConnector(str(tmp_path / "s"))
    async with other(tmp_path, taking), aiohttp.ClientSession(connector=connector) as session:
        with pytest.raises(BodyTimeout):
            await TlsClient("http://there", session).request("POST", b"/x", [], failing())


async def test_whoever_does_not_read_holds_up_the_other_side(tmp_path: Path) -> None:
    sent = 0

    async def pouring(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(256):
            writer.write(b"10000\r\n" + bytes(65536) + b"\r\n")
            await writer.drain()
            sent += 65536
        writer.write(b"0\r\n\r\n")

    async with other(tmp_path, pouring) as they:
        answer = await they.request()
        await asyncio.sleep(0.3)
        assert sent < 4 * READ_AHEAD_BYTES
        assert sum([len(chunk) async for chunk in answer.chunks()]) == 256 * 65536
        answer.close()
        assert await anext((await they.request()).chunks())
        assert they.connections == 1


async def test_a_caller_who_leaves_ends_the_connection(tmp_path: Path) -> None:
    left = asyncio.Event()

    async def waiting(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.read() == b""
        left.set()

    async with other(tmp_path, waiting) as they:
        asking = asyncio.create_task(they.request())
        await asyncio.sleep(0.05)
        asking.cancel()
        async with asyncio.timeout(30):
            await left.wait()


async def test_nobody_there_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(OSError):  # noqa: PT011
        await UnixClient(tmp_path / "nobody").request("GET", b"/", [])
