"""Models that a miner serves itself: loaded when a chat asks, shared, ended when idle, rested after faults."""

import asyncio
import dataclasses
import hashlib
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from aitbc_cli.miner.executors import process_tree
from aitbc_cli.miner.executors.fields import FieldError
from aitbc_cli.miner.executors.pool import ExecutorPool, Outcome, Progress, Work
from aitbc_cli.miner.serving import host as hosts
from aitbc_cli.miner.serving.declared import serving_of
from aitbc_cli.miner.serving.host import ModelHost, host_of

ENGINE = f"{sys.executable} {Path(__file__).with_name('served_engine.py')} --port {{port}}"
SECONDS = 60.0


class Bench:
    """A pool with served models, and what was said and noted."""

    def __init__(self, pool: ExecutorPool, models: ModelHost, folder: Path) -> None:
        self.pool = pool
        self.models = models
        self.folder = folder
        self.noted: list[tuple[str, dict[str, Any]]] = []
        self.lines: list[str] = []

    async def chat(self, model: str | None, content: str = "hello", seconds: float = SECONDS) -> Outcome:
        """One chat."""
        folder = self.folder / os.urandom(8).hex()
        folder.mkdir()
        value: dict[str, Any] = {"max_tokens": 16, "messages": [{"role": "user", "content": content}]} | (
            {"model": model} if model else {}
        )

        def tell(progress: Progress) -> None:
            self.lines.extend(progress.lines)

        return await self.pool.run(Work("job", 1, "chat", value, {}, folder, seconds), on_progress=tell)

    def events(self, name: str) -> list[dict[str, Any]]:
        """What was noted under a name."""
        return [facts for event, facts in self.noted if event == name]


@asynccontextmanager
async def serving(folder: Path, slots: int = 4, **options: Any) -> AsyncIterator[Bench]:
    """A pool that serves what `serve` says, and what is behind `base_url`."""
    noted: list[tuple[str, dict[str, Any]]] = []

    def note(event: str, **facts: Any) -> None:
        noted.append((event, facts))

    models = host_of({"chat": options}, slots=slots, folder=folder, note=note)
    assert models is not None
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    pool = ExecutorPool(slots=slots, kinds={"chat": options}, scratch=scratch, models=models)
    bench = Bench(pool, models, scratch)
    bench.noted = noted
    running = asyncio.create_task(models.run())
    try:
        yield bench
    finally:
        running.cancel()
        await pool.stop()


async def until(holds: Callable[[], Any]) -> None:
    """Wait until something holds."""
    for _ in range(round(SECONDS / 0.05)):
        if holds():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it never came to hold")


def said(outcome: Outcome) -> tuple[str, int]:
    """The model and the process that answered."""
    assert outcome.error is None, outcome.error
    assert outcome.output is not None
    model, process = outcome.output["message"]["content"].rsplit(" ", 1)
    return model, int(process)


def command(*words: str) -> dict[str, Any]:
    return {"command": " ".join((ENGINE, *words))}


def _processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]


def _command(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def lives(process: int) -> bool:
    """Whether a process runs."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


async def test_a_model_loads_for_its_first_chats_and_serves_all_that_come(tmp_path: Path) -> None:
    async with serving(tmp_path, serve={"small": command("--load", "0.5", "--as", "org/small")}) as bench:
        status = await bench.pool.check("chat")
        assert (status.usable, status.detail["models"], bench.models.loaded) == (True, ["small"], [])
        answers = [said(each) for each in await asyncio.gather(*(bench.chat("small") for _ in range(3)))]
        assert len(set(answers)) == 1  # one engine, which calls the model by its own name
        assert answers[0][0] == "org/small"
        assert bench.lines == ["loading small"] * 3
        (loaded,) = bench.events("model_loaded")
        assert loaded["load_seconds"] >= 0.5
        assert loaded["memory_bytes"] > 1_000_000
        assert said(await bench.chat(None)) == answers[0]  # whoever names no model gets one that is there
        assert bench.lines == ["loading small"] * 3
    assert not lives(answers[0][1])
    async with serving(tmp_path, serve={"small": command("--load", "0.5")}) as again:
        await again.chat("small")
        assert again.lines == [f"loading small, about {max(1, round(loaded['load_seconds']))} s"]


async def test_served_weights_are_announced_by_their_digest_until_they_are_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "WEIGHTS_SECONDS", 0.05)
    weights = tmp_path / "small.gguf"
    weights.write_bytes(b"GGUF" + b"a" * 1000)
    declared = serving_of({"serve": {"small": {"file": str(weights)}}})
    assert declared is not None
    engine = tuple(ENGINE.split())
    model = dataclasses.replace(declared.models["small"], command=engine)  # which says what model it was asked for
    monkeypatch.setattr(hosts, "serving_of", lambda _: dataclasses.replace(declared, models={"small": model}))
    async with serving(tmp_path, serve={"small": {"file": str(weights)}}) as bench:

        def pin() -> str:
            return "small@sha256:" + hashlib.sha256(weights.read_bytes()).hexdigest()[:12]

        await until(lambda: bench.models.names == ["small", pin()])
        first = pin()
        assert set(bench.models.facts) == {"small", first}
        assert bench.models.facts[first] == {"context": 4096, "modalities": ["text"]}
        outcome = await bench.chat(first)
        assert outcome.output is not None and outcome.output["model"] == first
        process = said(outcome)[1]
        assert said(await bench.chat("small"))[1] == process
        weights.write_bytes(b"GGUF" + b"b" * 1000)
        await until(lambda: bench.models.names == ["small", pin()])
        assert first != pin() and not lives(process), "what ran had the weights of before"
        gone = await bench.chat(first)
        assert gone.error is not None and gone.error.reason != "upstream_unavailable"
        assert said(await bench.chat(pin()))[1] != process


async def test_a_pool_stops_when_engines_have_ended_whoever_began_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill = process_tree.kill_tree

    def kill_late(process: int) -> None:
        time.sleep(1)
        kill(process)

    async with serving(tmp_path, serve={"m": command()}, idle_seconds=1) as bench:
        _, process = said(await bench.chat("m"))
        monkeypatch.setattr(process_tree, "kill_tree", kill_late)
        await until(lambda: not bench.models.loaded)
    assert not lives(process)


async def test_an_engine_without_work_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    marker = f"child {tmp_path}"
    async with serving(tmp_path, serve={"m": command("--child", f"'{marker}'")}, idle_seconds=1) as bench:
        _, process = said(await bench.chat("m"))
        await until(lambda: not bench.models.loaded)
        await until(lambda: not lives(process))
        assert bench.events("model_unloaded") == [{"model": "m", "reason": "it was idle"}]
        await until(lambda: not any(marker in _command(pid) for pid in _processes()))
        assert said(await bench.chat("m"))[1] != process


async def test_where_there_is_room_for_one_the_other_makes_way_when_its_work_is_done(tmp_path: Path) -> None:
    models = {"one": command("--as", "one"), "two": command("--as", "two")}
    async with serving(tmp_path, serve=models, loaded_max=1) as bench:
        long = asyncio.create_task(bench.chat("one", "1.0"))
        await until(lambda: bench.models.loaded == ["one"])
        second = asyncio.create_task(bench.chat("two"))
        assert said(await long)[0] == "one"
        assert said(await second)[0] == "two"
        assert bench.models.loaded == ["two"]
        assert bench.events("model_unloaded") == [{"model": "one", "reason": "two needs its place"}]


async def test_while_memory_is_short_what_is_idle_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(tmp_path, serve={"m": command()}) as bench:
        await bench.chat("m")
        monkeypatch.setattr(hosts, "_available_bytes", lambda: 0)
        await until(lambda: not bench.models.loaded)
        assert bench.events("model_unloaded") == [{"model": "m", "reason": "memory is short"}]


async def test_an_engine_that_does_not_come_up_blames_nobody_and_rests(tmp_path: Path) -> None:
    changes: list[list[str]] = []
    async with serving(tmp_path, serve={"bad": command("--broken"), "good": command()}) as bench:
        bench.models.on_change = lambda: changes.append(bench.models.names)
        failed = (await bench.chat("bad")).error
        assert failed is not None
        assert (failed.fault, failed.reason) == ("platform", "model_unavailable")
        (noted,) = bench.events("model_failed")
        assert noted["reason"] == "it ended with exit code 1: no room for these weights"
        assert (changes[0], noted["seconds_to_rest"]) == (["good"], 2.0)
        assert (await bench.pool.check("chat")).detail["models"] == ["good"]
        assert (await bench.chat("bad")).error is not None
        assert len(bench.events("model_loading")) == 1  # it rests, and is not tried again
        await until(lambda: "bad" in bench.models.names)
        await bench.chat("bad")
        assert [each["seconds_to_rest"] for each in bench.events("model_failed")] == [2.0, 4.0]


async def test_an_engine_that_dies_at_work_is_started_anew(tmp_path: Path) -> None:
    async with serving(tmp_path, serve={"m": command()}) as bench:
        _, first = said(await bench.chat("m"))
        failed = (await bench.chat("m", "die")).error
        assert failed is not None
        assert failed.fault != "requester"
        await until(lambda: bench.events("model_failed"))
        assert "exit code 7" in bench.events("model_failed")[0]["reason"]
        await until(lambda: "m" in bench.models.names)
        assert said(await bench.chat("m"))[1] != first


async def test_a_chat_that_is_given_up_leaves_the_load_to_others(tmp_path: Path) -> None:
    async with serving(tmp_path, serve={"m": command("--load", "1")}) as bench:
        leaving = asyncio.create_task(bench.chat("m"))
        staying = asyncio.create_task(bench.chat("m"))
        await until(lambda: len(bench.lines) == 2)
        leaving.cancel()
        said(await staying)
        assert len(bench.events("model_loading")) == 1
        late = (await bench.chat("m", "5", seconds=0.3)).error
        assert late is not None
        assert late.reason == "timed_out"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"serve": {"m": {"command": "engine --listen 1"}}}, "the command needs {port}"),
        ({"serve": {"m": {"command": "engine '--port {port}"}}}, "No closing quotation"),
        ({"serve": {"": {"command": "engine {port}"}}}, "cannot be announced"),
        ({"serve": {"m": {}}}, "either `file`"),
        ({"serve": {"m": {"file": "/nowhere/m.gguf"}}}, "No such file"),
        ({"serve": {"m": {"file": __file__}}}, "no GGUF file"),
        ({"serve": {"m": {"command": "engine {port}"}}, "idle_seconds": 0}, "idle_seconds"),
        ({"serve": {"m": {"command": "engine {port}"}}, "loaded_max": 0}, "loaded_max"),
    ],
)
def test_what_cannot_be_served_is_refused_with_what_is_wrong(options: dict[str, Any], said: str) -> None:
    with pytest.raises(FieldError, match=said.replace("{", r"\{")):
        serving_of(options)


def test_nothing_is_served_unless_it_is_declared() -> None:
    assert serving_of({"base_url": "http://127.0.0.1:1"}) is None


def test_an_engine_learns_its_port_and_how_many_chats_come_at_once() -> None:
    declared = serving_of({"serve": {"m": {"command": ["engine", "--port={port}", "-np", "{slots}"]}}})
    assert declared is not None
    assert declared.models["m"].words(port=7, slots=3) == ["engine", "--port=7", "-np", "3"]


def test_a_model_with_slots_of_its_own_says_how_many_are_free(tmp_path: Path) -> None:
    options = {"serve": {"one": command("one") | {"slots": 2}, "other": command("other")}}
    models = host_of({"chat": options}, slots=8, folder=tmp_path)
    assert models is not None
    assert models.free(Counter()) == {"one": 2}
    assert models.free(Counter({"one": 3, "other": 5})) == {"one": 0}
