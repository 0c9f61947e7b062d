"""Pages: what the overview costs among few and many jobs, what a viewer of it holds, and how soon a block is on the page."""

import asyncio
import http.client
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from urllib.parse import urlencode

import msgspec

from tests.bench import paid, reads
from tests.bench.figures import Measured, quantile
from tests.bench.ground import Ground
from tests.bench.machine import cpu_of
from tests.bench.stage import Server

VIEWS = 60
VIEWERS = 1_000
FEW_VIEWERS = 100
BLOCKS = 40
"""How many blocks the viewers wait for, at least."""
SETTLE_SECONDS = 3.0
PATIENCE_SECONDS = 240.0
COUNT = "SELECT count(*) FROM ai.jobs"
AT = "SELECT height, sealed_at FROM trading.blocks"
KEYS = ("sse_viewer_kib", "event_to_page_p99_ms")


def measure_overview(ground: Ground) -> dict[str, Measured]:
    """`page_overview_ms`: two servers, one with a thousand jobs, one with a million."""
    few, many = ground.small_server, ground.server
    for server, count in ((few, reads.FEW), (many, reads.MANY)):
        if server.sql(COUNT)[0][0] < count:
            asyncio.run(reads.filled(server, count))
    cookies = {server.port: _signed_in(server) for server in (few, many)}
    small, large = [], []
    for _ in range(ground.rounds + 1):
        small.append(_cost(few, cookies[few.port]))
        large.append(_cost(many, cookies[many.port]))
    ratios = [high / low for high, low in zip(large[1:], small[1:], strict=True)]
    details = {
        "CPU ms of the page among 10³": statistics.median(small[1:]),
        "CPU ms of the page among 10⁶": statistics.median(large[1:]),
    }
    return {"page_overview_ms": Measured.of(ratios, **details)}


def measure_viewers(ground: Ground) -> dict[str, Measured]:
    """`sse_viewer_kib` and `event_to_page_p99_ms`: many who watch the overview while blocks are sealed."""
    return asyncio.run(_watched(ground.server))


def measure_lives(ground: Ground) -> dict[str, Measured]:
    """`life_with_viewers`: lives a second while a hundred people watch the overview ÷ without them, in turns."""
    stand, cookie = ground.main, _signed_in(ground.main.server)
    paid.live(stand, "viewers-warm", paid.WARM_SECONDS)
    alone, watched, blocks = [], [], 0
    for number in range(ground.rounds):
        alone.append(paid.live(stand, f"alone-{number}", paid.LIVES_SECONDS))
        with _watching(stand.server.port, cookie, FEW_VIEWERS) as seen:
            watched.append(paid.live(stand, f"watched-{number}", paid.LIVES_SECONDS))
        assert seen, "no block came to a viewer, so nobody watched"
        blocks += len(seen)
    details = {
        "lives a second without": statistics.median(one.per_second for one in alone),
        "lives a second with": statistics.median(one.per_second for one in watched),
        "CPU ms of a life without": statistics.median(one.cpu.total * 1000 / one.lives for one in alone),
        "CPU ms of a life with": statistics.median(one.cpu.total * 1000 / one.lives for one in watched),
        "blocks that came to viewers": float(blocks),
    }
    ratios = [one.per_second / other.per_second for one, other in zip(watched, alone, strict=True)]
    return {"life_with_viewers": Measured.of(ratios, **details)}


@contextmanager
def _watching(port: int, cookie: str, count: int) -> Iterator[list[tuple[int, float]]]:
    """So many viewers in a thread of their own, until the block ends; the blocks that they see."""
    seen: list[tuple[int, float]] = []
    over, begun = threading.Event(), threading.Event()

    async def watch() -> None:
        tasks = [asyncio.create_task(_watch(port, cookie, seen)) for _ in range(count)]
        await asyncio.sleep(SETTLE_SECONDS)
        begun.set()
        await asyncio.to_thread(over.wait)
        ended = [task for task in tasks if task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        broken.extend(ended)

    broken: list[asyncio.Task[None]] = []
    thread = threading.Thread(target=lambda: asyncio.run(watch()))
    thread.start()
    try:
        assert begun.wait(PATIENCE_SECONDS)
        yield seen
    finally:
        over.set()
        thread.join()
    assert not broken, broken[:3]


def _signed_in(server: Server) -> str:
    """The cookie of a browser that the operator signed in."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    form = urlencode({"code": server.admin_key, "next": "/"})
    connection.request("POST", "/sign-in", form, {"Content-Type": "application/x-www-form-urlencoded"})
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 303, answer.status
    connection.close()
    return str(answer.headers["set-cookie"]).partition(";")[0]


def _cost(server: Server, cookie: str) -> float:
    """CPU of one view of the overview, in milliseconds."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    before = cpu_of(server.pid)
    for _ in range(VIEWS):
        connection.request("GET", "/", headers={"Cookie": cookie, "Accept": "text/html"})
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, body[:500]
    connection.close()
    return (cpu_of(server.pid) - before).total * 1000 / VIEWS


async def _watched(server: Server) -> dict[str, Measured]:
    cookie = await asyncio.to_thread(_signed_in, server)
    before = server.pss_mib(alone=True)
    seen: list[tuple[int, float]] = []
    tasks = [asyncio.create_task(_watch(server.port, cookie, seen)) for _ in range(VIEWERS)]
    try:
        await asyncio.sleep(SETTLE_SECONDS)
        grown = (server.pss_mib(alone=True) - before) * 1024 / VIEWERS
        await _seal(server, seen)
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    broken = [one for one in ended if not isinstance(one, asyncio.CancelledError)]
    assert not broken, broken[:3]
    made = {row["height"]: row["sealed_at"].timestamp() for row in await asyncio.to_thread(server.sql, AT)}
    late = [(at - made[height]) * 1000 for height, at in seen]
    return {
        "sse_viewer_kib": Measured.of([grown], **{"viewers": float(VIEWERS), "MiB before": before}),
        "event_to_page_p99_ms": Measured.of(
            [quantile(late, 0.99)],
            **{
                "viewers": float(VIEWERS),
                "blocks": float(len({height for height, _ in seen})),
                "p50 ms": quantile(late, 0.5),
                "most ms": max(late),
            },
        ),
    }


async def _watch(port: int, cookie: str, seen: list[tuple[int, float]]) -> None:
    """Watch the overview for ever, and note when each block came."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET /live HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {cookie}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in head.partition(b"\r\n")[0], head
        is_block = False
        while line := await reader.readline():
            if line.startswith(b"event: "):
                is_block = line.strip() == b"event: block"
            elif is_block and line.startswith(b"data: "):
                is_block = False
                seen.append((msgspec.json.decode(line[6:])["height"], datetime.now(UTC).timestamp()))
        raise ConnectionError("the stream ended")
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def _seal(server: Server, seen: Sequence[tuple[int, float]]) -> None:
    """Give the ledger something for each next block, until enough blocks were seen."""
    end = time.monotonic() + PATIENCE_SECONDS
    while len({height for height, _ in seen}) < BLOCKS:
        assert time.monotonic() < end, f"only {len(seen)} blocks came to viewers"
        await server.clerk.buyers(1)  # whose money is a record of the ledger
        await asyncio.sleep(0.4)
    await asyncio.sleep(SETTLE_SECONDS)
