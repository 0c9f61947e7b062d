"""Streams: what lies between a model's server and a client that reads its tokens, here and without us."""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.bench.crowd import Buyer
from tests.bench.figures import Measured, quantile
from tests.bench.ground import Ground
from tests.bench.machine import cpu_of
from tests.bench.stage import Server
from tests.bench.stream_engine import MODEL, URL_FILE

STREAMS = 64
TOKENS = 300
"""Of each stream: three seconds of work."""
APART_SECONDS = 0.03
READY_SECONDS = 60.0
KEYS = ("ttft_added_p50_ms", "ttft_added_p99_ms", "stream_vs_direct", "cpu_us_per_token")


def measure(ground: Ground) -> dict[str, Measured]:
    """All of `KEYS`: an engine asked directly and through us, in turns, by the same clients."""
    server = ground.server
    (buyer,) = asyncio.run(server.clerk.buyers(1))
    folder = ground.folder / "streams"
    folder.mkdir()
    with _running([sys.executable, "-m", "tests.bench.stream_engine", str(folder)], folder / "engine.log"):
        _wait_for((folder / URL_FILE).exists)
        engine = (folder / URL_FILE).read_text()
        with _miner(server, buyer, engine, folder) as miner:
            rounds = [_round(server, buyer, engine, miner.pid) for _ in range(ground.rounds)]
    details = {
        name: round(statistics.median(one[name] for one in rounds), 2)
        for name in (
            "direct p50 ms",
            "p50 ms",
            "direct tokens/s",
            "tokens/s",
            "us of server and database",
            "us of miner",
        )
    }
    return {key: Measured.of([one[key] for one in rounds], **details) for key in KEYS}


def _round(server: Server, buyer: Buyer, engine: str, miner: int) -> dict[str, float]:
    direct = _read(engine, "none")
    before = server.cpu().total, cpu_of(miner).total
    ours = _read(server.url, buyer.key)
    server.wait_until_quiet()
    made = STREAMS * TOKENS
    used = (server.cpu().total - before[0]) / made * 1e6, (cpu_of(miner).total - before[1]) / made * 1e6
    first = {name: sorted(one["first"] * 1000 for one in found) for name, found in (("direct", direct), ("ours", ours))}
    speed = {
        name: statistics.median(TOKENS / one["seconds"] for one in found)
        for name, found in (("direct", direct), ("ours", ours))
    }
    return {
        "ttft_added_p50_ms": quantile(first["ours"], 0.5) - quantile(first["direct"], 0.5),
        "ttft_added_p99_ms": quantile(first["ours"], 0.99) - quantile(first["direct"], 0.99),
        "stream_vs_direct": speed["ours"] / speed["direct"],
        "cpu_us_per_token": sum(used),
        "direct p50 ms": quantile(first["direct"], 0.5),
        "p50 ms": quantile(first["ours"], 0.5),
        "direct tokens/s": speed["direct"],
        "tokens/s": speed["ours"],
        "us of server and database": used[0],
        "us of miner": used[1],
    }


def _read(url: str, key: str) -> list[dict[str, float]]:
    plan: dict[str, Any] = {"url": url, "key": key, "model": MODEL, "streams": STREAMS, "tokens": TOKENS}
    plan["apart_seconds"] = APART_SECONDS
    command = [sys.executable, "-m", "tests.bench.stream_clients"]
    ended = subprocess.run(command, input=json.dumps(plan), capture_output=True, text=True, timeout=READY_SECONDS * 3)
    assert ended.returncode == 0, ended.stderr[-2000:]
    found: list[dict[str, float]] = json.loads(ended.stdout)
    wanted = sum(len(f" tok{number}") for number in range(TOKENS))
    assert all(one["characters"] == wanted for one in found), "text of a stream is missing"
    return found


@contextmanager
def _miner(server: Server, buyer: Buyer, engine: str, folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """The miner of the engine, with a slot for each stream, once its model is listed."""
    token = _ask(server, buyer, "gpu/enrolment-tokens", {})["token"]
    command = [sys.executable, "-m", "aitbc_cli.main", "miner", "run", "--name", "streams", "--slots", str(STREAMS)]
    command += ["--state-dir", str(folder / "miner"), "--kind", "chat", "--chat-url", engine]
    environment = {**os.environ, "AITBC_URL": server.url, "AITBC_ENROLMENT_TOKEN": token}
    with _running(command, folder / "miner.log", environment) as process:
        _wait_for(lambda: any(one["name"] == MODEL for one in _ask(server, buyer, "ai/models?kind=chat")["data"]))
        yield process


def _ask(server: Server, buyer: Buyer, path: str, body: Any = None) -> Any:
    headers = {"Authorization": f"Bearer {buyer.key}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{server.url}/api/v1/{path}", data, headers)
    with urllib.request.urlopen(request, timeout=READY_SECONDS) as answer:
        return json.loads(answer.read())


@contextmanager
def _running(
    command: list[str], log: Path, environment: dict[str, str] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("ab") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=environment)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


def _wait_for(holds: Any) -> None:
    end = time.monotonic() + READY_SECONDS
    while not holds():
        assert time.monotonic() < end, "it was not ready in time"
        time.sleep(0.1)
