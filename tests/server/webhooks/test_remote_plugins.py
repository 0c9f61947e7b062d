"""Remote plugins over real sockets: signed both ways, bounded in time and size, and never inside of the network."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from aitbc.kernel.crypto.signing import Key, verify
from aitbc.kernel.hooks.hooks import Hooks
from aitbc.kernel.hooks.points import PRICE
from aitbc.kernel.hooks.remote import ANSWER_BYTES_MAX, SIGNATURE, Remote, signed
from aitbc.kernel.hooks.settings import HookSettings
from aitbc.kernel.platform import Unreachable
from aitbc.server.config.settings import WebhookSettings
from aitbc.server.webhooks.egress import DestinationRefused, EgressPolicy
from aitbc.server.webhooks.outbound import SILENT, TOO_LONG, Outbound
from tests.kernel.hooks.plugins import manifest, price_asked
from tests.server.webhooks.receiver import status

NODE, PUBLISHER = Key.generate(), Key.generate()
STRICT = Outbound(EgressPolicy(WebhookSettings()))
OPEN = Outbound(EgressPolicy(WebhookSettings(allow_private=True)))


@asynccontextmanager
async def plugin(answer: bytes, *, key: Key = PUBLISHER, raw: bytes | None = None) -> AsyncIterator[str]:
    """An endpoint that checks who asks, and signs what it answers; or sends whatever is wanted."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers["content-length"]))
        asked = msgspec.json.decode(body)
        assert verify(NODE.public, signed(asked["id"], body), headers[SIGNATURE])
        if raw != b"":
            signature = key.sign(signed(asked["id"], answer))
            told = f"HTTP/1.1 200 OK\r\nContent-Length: {len(answer)}\r\nAITBC-Signature: {signature}\r\n\r\n".encode()
            writer.write(raw or told + answer)
            await writer.drain()
        else:
            await reader.read()  # until the other side gives up
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/price"
    finally:
        server.close()


def remote(url: str, post: Outbound = OPEN) -> Remote:
    return Remote(manifest("acme.far", kind="remote", endpoint=url), PUBLISHER.public, NODE, post)


async def test_a_signed_answer_of_the_publisher_is_believed() -> None:
    async with plugin(b'{"answer":{"unit_price_units":7}}') as url:
        answer = await remote(url).ask(PRICE, price_asked(), None)
        assert answer == PRICE.answer(unit_price_units=7)


async def test_whatever_else_comes_back_or_does_not_is_a_failure_with_its_reason_and_then_it_rests() -> None:
    good = b'{"answer":{"unit_price_units":7}}'
    wrong: dict[str, dict[str, bytes | Key]] = {
        "not signed with its publisher's key": {"answer": good, "key": Key.generate()},
        "the status 302": {"answer": b"", "raw": status(302, "Location: http://127.0.0.1:1/\r\n")},
        TOO_LONG: {"answer": b" " * (ANSWER_BYTES_MAX + 1)},
        "within 1 s": {"answer": b"", "raw": b""},
    }
    for reason, how in wrong.items():
        async with plugin(**how) as url:  # type: ignore[arg-type]
            hooks = Hooks(HookSettings(rest_after=1))
            hooks.load(remote(url))
            assert (await hooks.fold(PRICE, price_asked())).unit_price_units == 1000
            told = hooks.trouble("acme.far")
            assert reason in told or (reason == "within 1 s" and SILENT in told), told
            await hooks.fold(PRICE, price_asked())
            assert hooks.take_counts()["acme.far", "1.0.0"].calls == 1, "it rests"


async def test_an_endpoint_inside_of_the_network_is_never_asked() -> None:
    async with plugin(b"{}") as url:
        with pytest.raises(DestinationRefused):
            await remote(url, STRICT).ask(PRICE, price_asked(), None)
        with pytest.raises(DestinationRefused):
            await remote("https://10.0.0.1/price", STRICT).ask(PRICE, price_asked(), None)


async def test_one_that_is_not_there_is_told_plainly() -> None:
    with pytest.raises(Unreachable):
        await remote("http://127.0.0.1:1/price").ask(PRICE, price_asked(), None)
