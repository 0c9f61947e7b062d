"""The stream of the overview: whoever is cut off and comes back gets every block once, and nothing for what they may not see."""

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Any

import httpx
import msgspec

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.primitives.money import parse
from aitbc.web.visit import Visit, visit_of
from tests.scale import scaled
from tests.web.conftest import Market, Person, person

STOCKED = False
CUTS = scaled(20, 1000)
BLOCKS = scaled(6, 60)
Event = tuple[str, int | None, Any]


async def events(stream: AsyncGenerator[bytes, None]) -> AsyncGenerator[Event, None]:
    """The events of a stream: name, number, data. Who closes this closes the stream."""
    async with aclosing(stream):
        async for piece in stream:
            if piece.startswith(b":"):
                continue
            lines = dict(line.split(": ", 1) for line in piece.decode().strip().split("\n"))
            number = int(lines["id"]) if "id" in lines else None
            yield lines["event"], number, msgspec.json.decode(lines["data"])


async def visit(market: Market, who: Person) -> Visit:
    """A visit as the routes make it."""
    site = market.app.pages
    [(name, token)] = who.browser.cookies.items()
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "scheme": "http",
        "path": "/live",
        "server": ("localhost", None),
        "headers": [(b"host", b"localhost"), (b"cookie", f"{name}={token}".encode())],
        "state": {"request_id": "req_test"},
    }
    request: Any = type("Request", (), {"scope": scope, "headers": {"host": "localhost"}})()
    return await visit_of(request, site.client, site.sessions)


async def seal(market: Market, count: int) -> None:
    """So many blocks, each with a record, and an empty one now and then."""
    trading = market.app.service("trading")
    for _ in range(count):
        to = market.buyer.caller.principal.account
        await trading.deposits.deposit(market.app.runtime.operator, to, parse("0.01"), "test", IdempotencyKey.NONE)
        await trading.seal()


async def test_a_thousand_cuts_lose_no_block_and_double_none(market: Market) -> None:
    feed = market.app.pages.feed
    me = await visit(market, market.buyer)
    anchor = feed.follow(await visit(market, market.owner), None)  # somebody else watches all the while
    await anext(anchor)
    start = (await market.buyer.caller.get("/api/v1/trading/blocks", limit=1)).json()["data"][0]["height"]
    sealing = asyncio.create_task(seal(market, BLOCKS))
    chance, seen, found = random.Random(15), start, []
    for _ in range(CUTS):
        with suppress(TimeoutError):
            async with asyncio.timeout(chance.random() * 0.2), aclosing(events(feed.follow(me, seen))) as cut_off:
                async for name, number, data in cut_off:
                    if name == "block":
                        found.append(data["height"])
                    seen = number if number is not None else seen
    await sealing
    async with asyncio.timeout(60):
        last = (await market.buyer.caller.get("/api/v1/trading/blocks", limit=1)).json()["data"][0]["height"]
        while seen < last:
            async with aclosing(events(feed.follow(me, seen))) as to_the_end:
                async for name, number, data in to_the_end:
                    if name == "block":
                        found.append(data["height"])
                    seen = number if number is not None else seen
                    if seen >= last:
                        break
    await anchor.aclose()
    written = []
    for height in range(start + 1, last + 1):
        block = (await market.buyer.caller.get(f"/api/v1/trading/blocks/{height}")).json()
        written += [height] if block["records"] else []
    assert len(written) >= BLOCKS
    assert [height for height in found if height <= last] == written


async def test_a_viewer_gets_figures_at_once_and_blocks_as_they_come(market: Market) -> None:
    feed = market.app.pages.feed
    names = []
    async with asyncio.timeout(60):
        async with aclosing(events(feed.follow(await visit(market, market.buyer), None))) as told:
            async for name, _, data in told:
                names.append(name)
                if name == "market":
                    assert "Paid jobs" in data["figures"] and "embed" in data["kinds"]
                    break
    assert names[0] == "hello"
    assert not feed._viewers
    assert feed._task is None, "nobody watches, and still it reads"


async def test_a_stream_ends_with_its_session(market: Market) -> None:
    who = await person(market.app, market.buyer.caller)
    [session, *_] = (await who.caller.get("/api/v1/identity/sessions")).json()["data"]
    me = await visit(market, who)
    assert await me.is_signed_in()
    await who.caller.post(f"/api/v1/identity/sessions/{session['id']}/end")
    assert not await me.is_signed_in()
    answer = await who.browser.get("/live", headers={"Accept": "text/event-stream"})
    assert answer.status_code == 401 and answer.json()["code"] == "signed_out"


async def test_what_was_not_sent_by_the_stream_is_refused(market: Market) -> None:
    for headers in ({"Last-Event-ID": "x"}, {"Last-Event-ID": "9" * 40}, {"Last-Event-ID": "-1"}):
        answer: httpx.Response = await market.buyer.browser.get("/live", headers=headers)
        assert answer.status_code == 422
