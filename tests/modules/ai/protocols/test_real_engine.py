"""The official clients against a real engine: llama.cpp's server with a small model, on the processor."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace as replace_struct

from aitbc.modules.ai.models.checks.likelihoods import Finding, judge, measure, tokens_in
from aitbc.modules.ai.models.kinds.chat import Evaluated
from aitbc_cli.demo import engine
from aitbc_cli.miner.executors.chat import ChatExecutor
from aitbc_cli.miner.executors.work import Work
from tests.chaos.server_process import ServerProcess
from tests.modules.ai.protocols.bench import Bench
from tests.scale import only_in_full
from tests.server.runtime.test_serve import free_port

for package in engine.PACKAGES:
    pytest.importorskip(package)
SECONDS = 110.0


@pytest.fixture(scope="module")
def engine_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the engine."""
    folder = tmp_path_factory.mktemp("engine")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with (folder / "log").open("ab") as log:
        command = [sys.executable, "-m", "aitbc_cli.demo.engine", str(folder)]
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    end = time.monotonic() + SECONDS
    while not (folder / engine.URL_FILE).exists():
        assert process.poll() is None and time.monotonic() < end, (folder / "log").read_text()[-2000:]
        time.sleep(0.1)
    yield (folder / engine.URL_FILE).read_text()
    process.terminate()
    assert process.wait(20) == 0


@pytest.fixture(scope="module")
def real(engine_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A bench whose miner asks it."""
    folder: Path = tmp_path_factory.mktemp("real")
    server = ServerProcess(folder / "state", free_port())
    server.start()
    bench = Bench(server, folder, engine_url=engine_url)
    try:
        bench.begin(engine.MODEL)
        yield bench
    finally:
        bench.close()
        server.stop()


def test_a_real_model_answers_both_clients_and_streams(real: Bench) -> None:
    question = [{"role": "user", "content": "Say hello."}]
    create = real.openai(timeout=SECONDS).chat.completions.create
    whole = create(model=engine.MODEL, messages=question, max_tokens=4, temperature=0, logprobs=True)
    assert whole.choices[0].finish_reason == "length" and whole.usage.completion_tokens == 4
    assert len(whole.choices[0].logprobs.content) == 4
    with create(model=engine.MODEL, messages=question, max_tokens=4, temperature=0, stream=True) as stream:
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert text == whole.choices[0].message.content
    with real.anthropic(timeout=SECONDS).messages.stream(
        model=engine.MODEL, max_tokens=4, messages=[{"role": "user", "content": "Say hello."}]
    ) as messages:
        assert messages.get_final_message().stop_reason == "max_tokens"


@only_in_full
def test_a_real_engine_finds_its_own_answer_honest_and_a_forged_one_wrong(engine_url: str, tmp_path: Path) -> None:
    executor = ChatExecutor({"base_url": engine_url, "models": [engine.MODEL]})
    asked = {"messages": [{"role": "user", "content": "Tell me about the sea."}], "model": engine.MODEL}
    ask = {**asked, "max_tokens": 24, "temperature": 0, "logprobs": True}
    work = Work("job_1", 1, "chat", ask, {}, tmp_path, SECONDS)
    said = executor.run(work, lambda _: None).output
    assert said is not None
    text = said["message"]["content"]
    tokens = tokens_in(text, said["logprobs"])
    assert len(tokens) >= 20
    forged = [replace_struct(one, likelihood=-0.01) for one in tokens]
    for told, words, finding in ((tokens, text, Finding.VALID), (forged, text[::-1], Finding.WRONG)):
        check = {"text": words, "tokens": [msgspec.to_builtins(one) for one in told], "passes": 0.1}
        found = executor.run(replace(work, check=check), lambda _: None).output
        assert found is not None
        assert found["message"]["content"] == text  # repeated, or said anew by the engine that checked
        measured = measure(told, msgspec.convert(found["evaluation"], list[Evaluated]), is_greedy=True)
        assert judge(0.1, measured, []) is finding, measured
