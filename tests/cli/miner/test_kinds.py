"""Kinds of work that come and go with the programs behind them: what a miner announces follows them."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from aitbc_cli.miner import kinds
from aitbc_cli.miner.executors.pool import ExecutorPool, Failure
from aitbc_cli.miner.kinds import Kinds
from aitbc_cli.miner.options import MinerFailed
from tests.cli.miner.chat_engine import Engine

SHELL = {"programs": {"sh": ["/bin/sh", "-c"], "gone": ["/nowhere"]}}
BROKEN = Failure("miner", "upstream_unavailable", "The chat server answered 500.")


@pytest.fixture
def kinds_of(runner: asyncio.Runner, open_pool: Callable[..., ExecutorPool], engine: Engine) -> Callable[..., Kinds]:
    """The kinds of a miner that was started."""

    def started(**more: Any) -> Kinds:
        options = {"chat": {"base_url": engine.url}, **more}
        made = Kinds(open_pool(options), options)
        runner.run(made.start())
        return made

    return started


def test_what_works_is_announced_with_its_models_and_programs(kinds_of: Callable[..., Kinds]) -> None:
    found = kinds_of(command=SHELL)
    assert found.work == {"kinds": ["chat", "command"], "models": {"chat": ["m1", "m2"]}, "programs": ["sh"]}
    assert found.pause is None


def test_a_kind_that_failed_is_checked_at_once_and_no_longer_announced(
    runner: asyncio.Runner, kinds_of: Callable[..., Kinds], engine: Engine
) -> None:
    found = kinds_of(command=SHELL)
    engine.listed = []
    found.suspect("chat", BROKEN, {})
    runner.run(_soon(found))
    assert found.work == {"kinds": ["command"], "models": {}, "programs": ["sh"]}
    assert found.pause is None


def test_a_miner_without_any_kind_left_says_why_it_pauses_and_goes_on_when_one_is_back(
    runner: asyncio.Runner, kinds_of: Callable[..., Kinds], engine: Engine
) -> None:
    found = kinds_of()
    engine.listed = []
    found.suspect("chat", BROKEN, {})
    runner.run(_soon(found))
    assert "It has no model" in str(found.pause)
    engine.listed = ["m3"]
    found.suspect("chat", BROKEN, {})
    runner.run(_soon(found))
    assert (found.pause, found.work["models"]) == (None, {"chat": ["m3"]})


def test_the_list_of_a_chat_server_is_read_again_on_a_clock(
    runner: asyncio.Runner, kinds_of: Callable[..., Kinds], engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kinds, "FORWARDED_SECONDS", 0.1)
    found = kinds_of()
    engine.listed = ["m2", "m9"]
    runner.run(_soon(found))
    assert found.work["models"] == {"chat": ["m2", "m9"]}


def test_a_model_that_is_listed_and_not_there_is_left_out(
    runner: asyncio.Runner, kinds_of: Callable[..., Kinds], engine: Engine
) -> None:
    found = kinds_of()
    found.suspect("chat", Failure("platform", "model_unavailable", "gone"), {"model": "m1"})
    runner.run(_soon(found))
    assert found.work["models"] == {"chat": ["m2"]}
    found.suspect("chat", Failure("platform", "model_unavailable", "gone"), {})  # the first one
    runner.run(_soon(found))
    assert found.work["kinds"] == [] and found.pause is not None
    engine.listed = ["m2"]
    found.suspect("chat", BROKEN, {})
    with pytest.raises(TimeoutError):  # it is still listed, and was not there
        runner.run(_soon(found, seconds=0.5))
    engine.listed = ["m3"]
    found.suspect("chat", BROKEN, {})
    runner.run(_soon(found))
    engine.listed = ["m2"]
    found.suspect("chat", BROKEN, {})
    runner.run(_soon(found))
    assert found.work["models"] == {"chat": ["m2"]}


def test_a_failure_that_says_nothing_of_the_miner_checks_nothing(
    runner: asyncio.Runner, kinds_of: Callable[..., Kinds], engine: Engine
) -> None:
    found = kinds_of()
    engine.listed = []
    found.suspect("chat", Failure("requester", "invalid_input", "too long"), {})
    with pytest.raises(TimeoutError):
        runner.run(_soon(found, seconds=0.3))
    assert found.work["models"] == {"chat": ["m1", "m2"]}


def test_a_miner_that_can_do_nothing_does_not_start(kinds_of: Callable[..., Kinds], engine: Engine) -> None:
    engine.listed = []
    with pytest.raises(MinerFailed, match="no kind of work can be done here: chat: It has no model"):
        kinds_of()


async def _soon(found: Kinds, seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        await found.wait_for_change()
