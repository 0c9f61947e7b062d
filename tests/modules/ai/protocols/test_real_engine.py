"""The official clients against a real engine: llama.cpp's server with a small model, on the processor."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aitbc_cli.demo import engine
from tests.chaos.server_process import ServerProcess
from tests.modules.ai.protocols.bench import Bench
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
