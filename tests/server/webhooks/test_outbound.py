"""Probes of places outside: under the policy of webhooks, whatever a name leads to."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from aitbc.kernel.platform import Unreachable
from aitbc.server.config.settings import WebhookSettings
from aitbc.server.webhooks.egress import DestinationRefused, EgressPolicy
from aitbc.server.webhooks.outbound import ANSWER_BYTES_MAX, REFUSED, SILENT, Outbound

STRICT = Outbound(EgressPolicy(WebhookSettings()))
OPEN = Outbound(EgressPolicy(WebhookSettings(allow_private=True)))


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """A server on loopback that redirects to itself."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(b"HTTP/1.1 302 x\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("127.0.0.1", 443),
        ("10.0.0.1", 443),
        ("169.254.169.254", 443),
        ("[::1]", 443),
        ("[fd00::1]", 443),
        ("[64:ff9b::7f00:1]", 443),
        ("localhost", 443),
        ("LOCALHOST", 443),
        ("db.internal", 443),
        ("2130706433", 443),
        ("example.org", 22),
    ],
)
def test_an_address_that_is_not_public_is_refused_as_it_is_written(host: str, port: int) -> None:
    with pytest.raises(DestinationRefused):
        STRICT.check_address(host, port)


def test_a_public_address_on_a_port_of_webhooks_is_not() -> None:
    for host in ("example.org", "8.8.8.8", "[2606:4700:4700::1111]"):
        STRICT.check_address(host, 443)


async def test_what_passes_as_it_is_written_is_refused_where_it_leads(port: int) -> None:
    for look in (STRICT.get(f"http://127.0.0.1:{port}/", 5), STRICT.connect("localhost", port, 5)):
        with pytest.raises(Unreachable) as refused:
            await look
        assert str(refused.value) == REFUSED


async def test_redirects_are_not_followed(port: int) -> None:
    assert await OPEN.get(f"http://127.0.0.1:{port}/", 5) == 302
    await OPEN.connect("127.0.0.1", port, 5)


async def test_an_answer_is_read_up_to_its_limit_and_never_from_inside() -> None:
    heard: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        size = 2 * ANSWER_BYTES_MAX if b"/large" in heard[-1] else 2
        writer.write(b"HTTP/1.1 200 x\r\nContent-Length: %d\r\n\r\n" % size + b"a" * size)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    place = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    found = await OPEN.fetch(f"{place}/small", 20, body=b"{}", headers={"x-a": "b"})
    assert (found.status, found.body) == (200, b"aa")
    assert heard[0].startswith(b"POST /small") and b"x-a: b" in heard[0].lower()
    await OPEN.fetch(f"{place}/small", 20, body=None, headers={})
    assert heard[1].startswith(b"GET /small")
    with pytest.raises(Unreachable, match="longer than it may be"):
        await OPEN.fetch(f"{place}/large", 20, body=None, headers={})
    with pytest.raises(DestinationRefused):
        await STRICT.fetch(f"{place}/small", 20, body=None, headers={})
    server.close()


async def test_what_does_not_answer_is_given_up_in_time() -> None:
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(Unreachable) as silent:
        await OPEN.get(f"http://127.0.0.1:{port}/", 0.3)
    assert str(silent.value) == SILENT
    server.close()
    with pytest.raises(Unreachable):
        await OPEN.connect("127.0.0.1", port, 5)
