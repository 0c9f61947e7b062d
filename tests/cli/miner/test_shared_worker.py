"""One process for all chats of a miner: they run beside each other, and one that is given up ends alone."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from aitbc_cli.miner.executors.pool import ExecutorPool, Work
from tests.modules.ai.protocols.scripted_engine import MODEL, ScriptedEngine

Made = Callable[..., Work]
Opened = Callable[..., ExecutorPool]


@pytest.fixture(scope="module")
def scripted() -> Iterator[ScriptedEngine]:
    engine = ScriptedEngine()
    yield engine
    engine.shutdown()
    engine.server_close()


@pytest.fixture(scope="module")
def pool(open_pool: Opened, scripted: ScriptedEngine) -> ExecutorPool:
    return open_pool({"chat": {"base_url": scripted.url}}, slots=8)


def chat(make_work: Made, words: str) -> Work:
    return make_work("chat", {"messages": [{"role": "user", "content": words}], "model": MODEL})


def test_many_chats_run_at_once_in_one_process(runner: asyncio.Runner, pool: ExecutorPool, make_work: Made) -> None:
    told: dict[int, list[str]] = {}

    async def one(number: int) -> str:
        texts = told.setdefault(number, [])
        outcome = await pool.run(chat(make_work, "count 8 0.1"), on_progress=lambda said: texts.append(said.text))
        assert outcome.error is None and outcome.output is not None, outcome
        return str(outcome.output["message"]["content"])

    async def crowd() -> tuple[list[str], float]:
        began = asyncio.get_running_loop().time()
        return await asyncio.gather(*map(one, range(8))), asyncio.get_running_loop().time() - began

    answers, seconds = runner.run(crowd())
    assert answers == ["".join(f"t{number} " for number in range(8))] * 8 == ["".join(told[one]) for one in range(8)]
    assert len(pool.workers()["chat"]) == 1 and seconds < 8 * 0.8 + 20


def test_a_chat_that_is_given_up_ends_alone(
    runner: asyncio.Runner, pool: ExecutorPool, make_work: Made, scripted: ScriptedEngine
) -> None:
    async def give_up() -> None:
        begun = asyncio.Event()
        long = asyncio.create_task(pool.run(chat(make_work, "count 5000 0.05"), on_progress=lambda _: begun.set()))
        other = asyncio.create_task(pool.run(chat(make_work, "count 20 0.05"), on_progress=lambda _: None))
        await begun.wait()
        long.cancel()
        with pytest.raises(asyncio.CancelledError):
            await long
        outcome = await other
        assert outcome.error is None and outcome.output is not None
        assert outcome.output["message"]["content"].endswith("t19 ")

    runner.run(pool.run(chat(make_work, "say first"), on_progress=lambda _: None))
    before, left = pool.workers()["chat"], scripted.left
    runner.run(give_up())
    assert pool.workers()["chat"] == before
    end = time.monotonic() + 20
    while scripted.left == left:
        assert time.monotonic() < end, "the connection to the engine stays open"
        time.sleep(0.05)


def test_a_process_that_dies_takes_its_chats_along_and_is_replaced(
    runner: asyncio.Runner, pool: ExecutorPool, make_work: Made
) -> None:
    async def die() -> None:
        begun = asyncio.Event()
        work = asyncio.create_task(pool.run(chat(make_work, "count 5000 0.05"), on_progress=lambda _: begun.set()))
        await begun.wait()
        (pid,) = pool.workers()["chat"]
        os.kill(pid, signal.SIGKILL)
        outcome = await work
        assert outcome.error is not None and outcome.error.reason == "crashed"
        again = await pool.run(chat(make_work, "say again"), on_progress=lambda _: None)
        assert again.error is None and pool.workers()["chat"] != [pid]

    runner.run(die())
