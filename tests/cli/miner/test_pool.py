"""The pool itself: slots, kinds that cannot be used, time limits and workers that fail."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aitbc_cli.miner.executors.pool import ExecutorPool, Outcome, Progress, Work

SHELL = {"programs": {"sh": ["/bin/sh", "-c"]}}


def shell_work(make_work: Callable[..., Work], line: str) -> Work:
    return make_work("command", {"program": "sh", "arguments": [line]})


def ignore(_: Progress) -> None:
    """Nobody listens."""


def test_a_check_tells_which_kinds_are_usable_and_why_others_are_not(
    runner: asyncio.Runner, open_pool: Callable[..., ExecutorPool]
) -> None:
    kinds: dict[str, Any] = {"embed": {}, "command": {"programs": {"x": ["relative"]}}, "chat": {}}
    pool = open_pool(kinds)
    statuses = {kind: runner.run(pool.check(kind)) for kind in kinds}
    assert statuses["embed"].usable
    assert statuses["embed"].detail["models"] == ["wordllama-256"]
    assert (statuses["embed"].memory_bytes or 0) > 20 * 1024 * 1024
    assert (statuses["embed"].warm_up_ms or 0) > 0
    assert not statuses["command"].usable and "absolute" in statuses["command"].message
    assert not statuses["chat"].usable and "base_url" in statuses["chat"].message
    assert statuses["chat"].reason == "executor_unavailable"
    assert len(pool.workers()["embed"]) == 1 and pool.workers()["chat"] == []


def test_a_missing_library_is_told_with_the_way_to_install_it(
    runner: asyncio.Runner, open_pool: Callable[..., ExecutorPool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wordllama.py").write_text("raise ModuleNotFoundError('gone', name='wordllama')\n")
    monkeypatch.setattr("aitbc_cli.__file__", str(tmp_path / "aitbc_cli" / "__init__.py"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(Path(__file__).parents[3] / "cli")]))
    status = runner.run(open_pool({"embed": {}}).check("embed"))
    assert not status.usable
    assert "wordllama" in status.message and "pip install" in status.message


def test_work_of_a_kind_that_is_not_configured_fails_by_the_miner(
    runner: asyncio.Runner, open_pool: Callable[..., ExecutorPool], make_work: Callable[..., Work]
) -> None:
    outcome = runner.run(open_pool({}).run(make_work("embed", {}), on_progress=ignore))
    assert outcome.error is not None
    assert (outcome.error.fault, outcome.error.reason) == ("miner", "executor_unavailable")


def test_no_more_work_runs_at_once_than_there_are_slots(
    runner: asyncio.Runner, open_pool: Callable[..., ExecutorPool], make_work: Callable[..., Work]
) -> None:
    pool = open_pool({"command": SHELL}, slots=2)

    async def scene() -> list[Outcome]:
        works = [shell_work(make_work, "date +%s.%N; sleep 0.4; date +%s.%N") for _ in range(4)]
        return await asyncio.gather(*(pool.run(work, on_progress=ignore) for work in works))

    outcomes = runner.run(scene())
    assert all(outcome.error is None for outcome in outcomes)
    spans = [[float(line) for line in (outcome.output or {})["stdout"].split()] for outcome in outcomes]
    at_once = [sum(start <= began < end for start, end in spans) for began, _ in spans]
    assert max(at_once) == 2
    assert len(pool.workers()["command"]) == 2


def test_a_worker_is_used_again_and_replaced_after_its_death(
    runner: asyncio.Runner, open_pool: Callable[..., ExecutorPool], make_work: Callable[..., Work]
) -> None:
    pool = open_pool({"command": SHELL})

    def worker() -> int:
        outcome = runner.run(pool.run(shell_work(make_work, "echo $PPID"), on_progress=ignore))
        assert outcome.output is not None
        return int(outcome.output["stdout"])

    first = worker()
    assert worker() == first
    os.kill(first, signal.SIGKILL)
    runner.run(asyncio.sleep(0.1))
    assert worker() != first


def test_work_without_a_clock_of_its_own_is_ended_when_its_time_is_over(
    runner: asyncio.Runner, open_pool: Callable[..., ExecutorPool], make_work: Callable[..., Work]
) -> None:
    pool = open_pool({"embed": {}})
    runner.run(pool.check("embed"))
    texts = ["many words " * 2000] * 40
    outcome = runner.run(pool.run(make_work("embed", {"texts": texts}, seconds=0.02), on_progress=ignore))
    assert outcome.error is not None
    assert (outcome.error.fault, outcome.error.reason) == ("unknown", "timed_out")
    assert pool.workers()["embed"] == []


@pytest.mark.parametrize("memory_bytes", [40 * 1024 * 1024, 5, "1 GiB"])
def test_a_worker_that_may_not_hold_its_model_makes_its_kind_unusable(
    runner: asyncio.Runner, open_pool: Callable[..., ExecutorPool], make_work: Callable[..., Work], memory_bytes: object
) -> None:
    pool = open_pool({"embed": {"memory_bytes": memory_bytes}})
    status = runner.run(pool.check("embed"))
    assert not status.usable
    assert status.message.endswith(".")
    assert pool.workers() == {"embed": []}
    outcome = runner.run(pool.run(make_work("embed", {"texts": ["a"]}), on_progress=ignore))
    assert outcome.error is not None and outcome.error.fault != "requester"


def test_stopping_ends_running_work_and_all_workers(
    runner: asyncio.Runner, open_pool: Callable[..., ExecutorPool], make_work: Callable[..., Work]
) -> None:
    pool = open_pool({"command": SHELL}, slots=2)

    async def scene() -> Outcome:
        ready = asyncio.Event()
        work = shell_work(make_work, "echo ready; sleep 60")
        running = asyncio.create_task(pool.run(work, on_progress=lambda _: ready.set()))
        await ready.wait()
        await pool.stop()
        return await running

    outcome = runner.run(scene())
    assert outcome.error is not None
    assert (outcome.error.fault, outcome.error.reason) == ("miner", "canceled")
    assert pool.workers() == {"command": []}


def test_a_pool_refuses_kinds_it_does_not_know(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown kind"):
        ExecutorPool(slots=1, kinds={"coffee": {}}, scratch=tmp_path)
    with pytest.raises(ValueError, match="at least one slot"):
        ExecutorPool(slots=0, kinds={}, scratch=tmp_path)


REVERSE = "import json, sys; print(json.dumps({'text': json.load(sys.stdin)['text'][::-1]}))"


def test_a_kind_of_a_package_is_done_by_a_program_of_the_operators(
    runner: asyncio.Runner, open_pool: Callable[..., ExecutorPool], make_work: Callable[..., Work]
) -> None:
    python = ["/usr/bin/env", "python3", "-c"]
    kinds = {"more-reverse": {"program": [*python, REVERSE]}, "more-nothing": {"program": [*python, "print('x')"]}}
    pool = open_pool({**kinds, "more-broken": {}})
    assert runner.run(pool.check("more-reverse")).usable
    broken = runner.run(pool.check("more-broken"))
    assert not broken.usable and "program must name" in broken.message
    done = runner.run(pool.run(make_work("more-reverse", {"text": "live"}), on_progress=ignore))
    assert (done.error, done.output) == (None, {"text": "evil"})
    wrong = runner.run(pool.run(make_work("more-nothing", {}), on_progress=ignore))
    assert wrong.error is not None and (wrong.error.fault, wrong.error.reason) == ("miner", "crashed")
    fails = runner.run(pool.run(make_work("more-reverse", {}), on_progress=ignore))
    assert fails.error is not None and fails.error.reason == "exit_nonzero"
