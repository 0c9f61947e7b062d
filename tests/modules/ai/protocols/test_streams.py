"""Streams that go wrong: each ends as its client expects, and is billed for no more than what was delivered."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from tests.modules.ai.protocols.bench import Bench, ask
from tests.modules.ai.protocols.scripted_engine import MODEL

MARGIN_SECONDS = 20.0
"""For a machine that is busy: none of these waits is a proof of speed."""


@pytest.fixture(autouse=True)
def own_money(bench: Bench) -> Iterator[None]:
    """No test leaves money held."""
    yield
    bench.market.until(lambda: not float(bench.money()[1]), 60)


def job_of(bench: Bench, chunk: Any) -> str:
    return f"job_{chunk.id.removeprefix('chatcmpl-')}"


def read_all(bench: Bench, words: str, got: list[Any], after_five: Callable[[], None] = lambda: None) -> None:
    """Read a stream to its end, whichever it is."""
    with bench.openai().chat.completions.create(**ask(words, stream=True)) as stream:
        for chunk in stream:
            got.append(chunk)
            if len(got) == 5:
                after_five()


def test_the_first_text_is_there_before_the_last_is_made(bench: Bench) -> None:
    with bench.openai().chat.completions.create(**ask("count 40 0.05", stream=True)) as stream:
        chunks = iter(stream)
        assert next(chunks).choices[0].delta.role == "assistant"
        second = next(chunks)
        assert second.choices[0].delta.content.startswith("t0 ")
        assert bench.market.ask(f"/api/v1/ai/jobs/{job_of(bench, second)}")["state"] in ("leased", "running")
        assert sum(1 for _ in chunks) > 3


def test_a_client_that_leaves_ends_the_work_and_pays_for_what_it_got(bench: Bench) -> None:
    left = bench.engine.left
    with bench.openai().chat.completions.create(**ask("count 2000 0.05", stream=True)) as stream:
        job = job_of(bench, [next(iter(stream)) for _ in range(3)][-1])
    ended = bench.market.until_state(job, "succeeded")
    assert ended["reason"] == "stopped_early" and ended["output"]["message"]["content"].startswith("t0 ")
    bench.market.until(lambda: bench.engine.left > left)


def test_an_engine_that_breaks_after_its_first_words_ends_the_stream_with_an_error(bench: Bench) -> None:
    got: list[Any] = []
    with pytest.raises(openai.APIError, match="lost in the middle") as broken:
        read_all(bench, "crash 5 0.3", got)
    assert broken.value.code == "answer_broken" and got[1].choices[0].delta.content.startswith("t0 ")
    (job,) = bench.market.ask("/api/v1/ai/jobs?limit=1")["data"]
    assert job["state"] == "canceled" and job["price"] is None


def test_an_engine_that_breaks_before_its_first_word_is_tried_again_and_nobody_sees_it(bench: Bench) -> None:
    bench.start_miner("spare")
    bench.market.until(lambda: bench.openai().models.retrieve(MODEL).aitbc["kinds"][0]["miners_online"] == 2, 60)
    bench.engine.failures = 1
    answer = bench.openai(timeout=110).chat.completions.create(**ask("say fine"))
    assert answer.choices[0].message.content == "fine " and answer.aitbc["attempts"] == 2


def test_a_miner_that_is_killed_after_its_first_words_ends_the_stream_at_once(bench: Bench) -> None:
    got: list[Any] = []
    killed_at: list[float] = []

    def kill() -> None:
        for miner in bench.market.miners:
            miner.kill()
        killed_at.append(time.monotonic())

    with pytest.raises(openai.APIError, match="miner_lost"):
        read_all(bench, "count 2000 0.05", got, after_five=kill)
    assert time.monotonic() - killed_at[0] < MARGIN_SECONDS, "its lease would have ended after 30 s"
    bench.market.until_state(job_of(bench, got[0]), "canceled")
    bench.start_miner("second")
    assert bench.openai(timeout=110).chat.completions.create(**ask("say again")).choices[0].message.content == "again "
