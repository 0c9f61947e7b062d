"""A crowd of streams: clients leave, the engine breaks off, a miner is killed, and each ends as its client expects."""

import asyncio
import json
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiohttp
import openai

from aitbc_cli.miner.executors.process_tree import proportional_bytes
from tests.cli.miner.test_daemon import Market
from tests.modules.ai.protocols.bench import Bench, ask
from tests.modules.ai.protocols.scripted_engine import MODEL
from tests.scale import scaled

STREAMS = scaled(18, 10_000)
AT_ONCE = 9
WAITING = scaled((40, 8), (3_000, 300))
"""How many streams of one who wants much, and of one who wants little, are open at once."""
OPENING = 64
"""How many streams are being opened at one moment."""
STREAM_BYTES_MAX = 160 * 1024
"""What an open stream takes of the server's memory at most."""
SECONDS = 180.0


class Stream:
    """One stream: what is asked, what its client does, and how it ended."""

    def __init__(self, bench: Bench, number: int) -> None:
        chance = random.Random(number)
        self._client = bench.openai(timeout=SECONDS)
        self.fate = chance.choice(("whole", "whole", "whole", "leaves", "breaks"))
        self.tokens = chance.randint(4, 30)
        self.leaves_after = chance.randint(1, 4) if self.fate == "leaves" else None
        self.text = ""
        self.job = ""
        self.price: str | None = None
        self.error: BaseException | None = None

    def read(self) -> None:
        """Read to the end, or until the client leaves."""
        word = "crash" if self.fate == "breaks" else "count"
        try:
            with self._client.chat.completions.create(**ask(f"{word} {self.tokens} 0.05", stream=True)) as stream:
                for seen, chunk in enumerate(stream):
                    self._take(chunk)
                    if seen == self.leaves_after:
                        return
        except openai.APIError as error:
            self.error = error

    def _take(self, chunk: Any) -> None:
        self.job = f"job_{chunk.id.removeprefix('chatcmpl-')}"
        self.text += chunk.choices[0].delta.content or "" if chunk.choices else ""
        self.price = getattr(chunk, "aitbc", {}).get("price", self.price)


async def stream(session: aiohttp.ClientSession, bench: Bench, key: str, words: str, opened: asyncio.Semaphore) -> str:
    """Read one stream to its end and answer its text; `opened` is released when it is open."""
    headers = {"Authorization": f"Bearer {key}"}
    body = ask(words, stream=True, max_tokens=20)
    text = ""
    async with session.post(f"{bench.server.url}/v1/chat/completions", json=body, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        opened.release()
        async for line in answer.content:
            assert b'"error"' not in line, line
            if line.startswith(b"data: {"):
                chunk = json.loads(line[6:])
                text += chunk["choices"][0]["delta"].get("content") or "" if chunk["choices"] else ""
    return text


async def crowd(bench: Bench, keys: tuple[str, ...]) -> tuple[list[str], int]:
    """All streams of both at once: what each was told, and what the open ones took of the server's memory."""
    before = proportional_bytes(bench.server.pid)
    connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=600, sock_connect=60)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session, asyncio.TaskGroup() as group:
        reading = []
        for key, count, word in zip(keys, WAITING, ("much", "little"), strict=True):
            opened = asyncio.Semaphore(0)
            for number in range(count):
                reading.append(group.create_task(stream(session, bench, key, f"gate {word} {number}", opened)))
                if number >= OPENING:
                    await opened.acquire()
            for _ in range(min(count, OPENING)):
                await opened.acquire()
        taken = proportional_bytes(bench.server.pid) - before
        bench.engine.gate.set()
    return [one.result() for one in reading], taken


def test_many_open_streams_take_little_memory_and_are_served_in_turn(bench: Bench) -> None:
    keys = tuple(
        Market(bench.server, bench.market.folder).key for _ in WAITING
    )  # not the miners' owner: it comes first
    asked = len(bench.engine.requests)
    slots = bench.openai().models.retrieve(MODEL).aitbc["kinds"][0]["slots"]  # taken before anybody else asks
    bench.engine.gate.clear()
    try:
        told, taken = asyncio.run(crowd(bench, keys))
    finally:
        bench.engine.gate.set()
    assert all(told) and len(told) == sum(WAITING)
    order = [one["messages"][-1]["content"].split()[1] for one in bench.engine.requests[asked:]]
    last = len(order) - order[::-1].index("little")
    _, little = WAITING
    assert last <= slots + 2 * little + slots, "who wants little waited for all that another wants"
    if sum(WAITING) >= 1000:
        assert taken / sum(WAITING) <= STREAM_BYTES_MAX


def test_every_stream_ends_and_none_is_billed_for_more_than_it_was_told(bench: Bench) -> None:
    bench.start_miner("second", slots=16)
    bench.start_miner("third", slots=16)
    streams = [Stream(bench, number) for number in range(STREAMS)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        reading = [pool.submit(stream.read) for stream in streams]
        bench.market.until(lambda: sum(one.done() for one in reading) >= STREAMS // 4, SECONDS)
        bench.market.miners[1].kill()
        for one in reading:
            one.result(SECONDS)
    bench.market.until(lambda: not float(bench.money()[1]), SECONDS)
    for stream in streams:
        job = bench.market.ask(f"/api/v1/ai/jobs/{stream.job}") if stream.job else None
        whole = "".join(f"t{number} " for number in range(stream.tokens))
        assert whole.startswith(stream.text)
        if stream.fate == "breaks":
            assert stream.error is not None
        if stream.error is not None or job is None:
            assert job is None or job["state"] in ("canceled", "succeeded", "failed")
            continue
        if stream.fate == "leaves" and job["state"] == "canceled":
            assert job["price"] is None
            continue
        said = job["output"]["message"]["content"]
        assert job["state"] == "succeeded" and whole.startswith(said)
        assert job["units"] <= len(f"count {stream.tokens} 0.05") + len(said)
        assert stream.fate == "leaves" or (stream.text == whole and job["price"] == stream.price)
    finished = [stream for stream in streams if stream.fate == "whole" and stream.error is None]
    assert len(finished) > len(streams) // 4, "too few of them say anything"
