"""The feed of the overview: new blocks as they are sealed, and the market's figures, made once for all who watch.

A block's height is the id of its event, so a browser that comes back names the last one that it saw and gets every
later one once. Figures have no id: only the newest count, and who comes back gets them whole.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from typing import Any

import msgspec
import structlog

from aitbc.kernel.http.event_data import one_line
from aitbc.kernel.primitives.errors import AppError
from aitbc.kernel.primitives.tasks import cancel_and_wait
from aitbc.web.api_client import target_of
from aitbc.web.market import market_of
from aitbc.web.rendering import render
from aitbc.web.visit import Visit

TICK_SECONDS = 0.2
"""How often the chain is looked at while somebody watches."""
FIGURES_SECONDS = 3.0
"""How often the figures are made anew while blocks come; without any, at the pace of `IDLE_SECONDS`."""
IDLE_SECONDS = 15.0
KEPT = 500
"""How many blocks stay in memory for who comes back; older ones are read again."""
MISSED_MAX = 2000
"""Who missed more blocks than this is told to load the page again."""
PAGE = 100
RETRY_MILLISECONDS = 1000

log = structlog.get_logger("aitbc.web.feed")


class Feed:
    """What all viewers of the overview are told; one task reads for all of them, while there are any."""

    def __init__(self, draining: asyncio.Event) -> None:
        """`draining` is set when the process is stopping: then every stream ends."""
        self._draining = draining
        self._viewers: dict[object, Visit] = {}
        self._blocks: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._height = -1
        self._figures = b""
        self._version = 0
        self._made_at = 0.0
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def follow(self, visit: Visit, seen: int | None) -> AsyncGenerator[bytes, None]:
        """The events after the block that was seen, or from now on; ends when the reader goes."""
        me = object()
        self._viewers[me] = visit
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        version = 0
        try:
            yield f"retry: {RETRY_MILLISECONDS}\nevent: hello\ndata: {{}}\n\n".encode()
            while not self._draining.is_set():
                changed = self._changed
                if self._height >= 0:
                    if seen is None or seen > self._height:
                        seen = self._height
                    async for height, event in self._after(visit, seen):
                        seen = height
                        yield event
                    if version != self._version:
                        version = self._version
                        yield self._figures
                with suppress(TimeoutError):
                    async with asyncio.timeout(IDLE_SECONDS):
                        await changed.wait()
                        continue
                yield b": still here\n\n"
        finally:
            del self._viewers[me]
            if not self._viewers and self._task is not None:
                await cancel_and_wait([self._task])
                self._task = None
                self._height = -1

    async def _after(self, visit: Visit, seen: int) -> AsyncIterator[tuple[int, bytes]]:
        """The blocks after this one, oldest first: out of memory, or read where they are older than that."""
        until = self._height
        if until - seen > MISSED_MAX:
            yield until, _event("reset", {}, until)
            return
        known = {block["height"]: block for block in self._blocks}
        if seen + 1 <= until and seen + 1 not in known:
            known |= {block["height"]: block for block in await self._read_down_to(visit, seen)}
        for height in range(seen + 1, until + 1):
            block = known[height]
            if block["records"]:
                row = render("trading/block_row.html", {"block": block}).decode()
                yield height, _event("block", {"height": height, "row": row}, height)
        if until > seen:
            yield until, f"id: {until}\nevent: seen\ndata: {{}}\n\n".encode()

    async def _read_down_to(self, visit: Visit, seen: int) -> list[dict[str, Any]]:
        """The blocks above this height, newest first."""
        found: list[dict[str, Any]] = []
        cursor = None
        while True:
            page = await self._ask(visit, "/api/v1/trading/blocks", limit=PAGE, cursor=cursor)
            found += [block for block in page["data"] if block["height"] > seen]
            if not page["has_more"] or not page["data"] or page["data"][-1]["height"] <= seen + 1:
                return found
            cursor = page["next_cursor"]

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        due = 0.0
        while not self._draining.is_set():
            try:
                if await self._read_blocks():
                    self._tell()
                    due = min(due, self._made_at + FIGURES_SECONDS)
                if loop.time() >= due:
                    await self._make_figures()
                    self._made_at = loop.time()
                    due = self._made_at + IDLE_SECONDS
            except AppError as refusal:
                log.debug("feed_not_read", code=refusal.code)
                first = next(iter(self._viewers))
                self._viewers[first] = self._viewers.pop(first)  # its session may have ended: ask as another next time
            await asyncio.sleep(TICK_SECONDS)
        self._tell()

    async def _read_blocks(self) -> bool:
        """Read the blocks that were sealed since the last look; whether there were some."""
        visit = next(iter(self._viewers.values()))
        page = await self._ask(visit, "/api/v1/trading/blocks", limit=1)
        if not page["data"] or page["data"][0]["height"] == self._height:
            return False
        fresh = page["data"] if self._height < 0 else await self._read_down_to(visit, self._height)
        if self._height < 0:
            self._blocks.clear()
        self._blocks.extend(reversed(fresh))
        self._height = self._blocks[-1]["height"]
        return True

    async def _make_figures(self) -> None:
        visit = next(iter(self._viewers.values()))

        async def ask(path: str, **query: Any) -> Any:
            return await self._ask(visit, path, **query)

        market = await market_of(ask)
        regions = {
            name: render(f"overview/{name}.html", {"market": market}).decode()
            for name in ("figures", "activity", "kinds")
        }
        figures = _event("market", regions)
        if figures != self._figures:
            self._figures, self._version = figures, self._version + 1
            self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _ask(self, visit: Visit, path: str, **query: Any) -> Any:
        """Ask in the name of somebody who watches; everybody who may watch may read this."""
        return await visit.ask_quietly(target_of(path, query))


def _event(name: str, data: Any, number: int | None = None) -> bytes:
    place = b"" if number is None else f"id: {number}\n".encode()
    return place + f"event: {name}\n".encode() + b"data: " + one_line(msgspec.json.encode(data)) + b"\n\n"
