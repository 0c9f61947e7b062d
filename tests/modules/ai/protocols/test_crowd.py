"""A crowd of streams: clients leave, the engine breaks off, a miner is killed, and each ends as its client expects."""

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai

from tests.modules.ai.protocols.bench import Bench, ask
from tests.scale import scaled

STREAMS = scaled(18, 10_000)
AT_ONCE = 9
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
