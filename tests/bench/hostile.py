"""Hostile plugins: how long others wait at a server whose plugins loop, grow, recurse and lie, beside one without them."""

import base64
import http.client
import json
import statistics
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from aitbc.kernel.crypto.signing import Key
from aitbc.kernel.hooks.manifest import manifest_text, package_digest, statement
from tests.bench.figures import Measured, quantile
from tests.bench.ground import Ground
from tests.bench.stage import Server
from tests.kernel.hooks.hostile import HOSTILE
from tests.kernel.hooks.plugins import manifest

KEYS = ("hostile_p99_ratio",)
SECONDS = 6.0
"""How long each phase lasts."""
PAUSE_SECONDS = 0.002
READY_SECONDS = 60.0
QUOTE = {"kind": "embed", "input": {"texts": ["x"]}, "max_price": "1"}


def measure(ground: Ground) -> dict[str, Measured]:
    """`hostile_p99_ratio`: others are served while somebody asks for quotes, in turns with no plugin and with hostile ones."""
    server = ground.small_server
    plugins = _published(server)
    ratios, quiet, hostile, asked = [], [], [], 0
    for _ in range(ground.rounds + 1):
        with _quoting(server):
            quiet.append(_served(server))
        for plugin in plugins:  # anew: what rested is asked again
            _ask(server, "POST", "plugins/installs", {"plugin": plugin})
        with _quoting(server) as quotes:
            hostile.append(_served(server))
        asked += quotes[0]
        for plugin in plugins:
            _ask(server, "POST", f"plugins/installs/{plugin}/remove", {})
        ratios.append(hostile[-1] / quiet[-1])
    details = {
        "hostile plugins": float(len(plugins)),
        "quotes that asked them": float(asked),
        "p99 ms without": statistics.median(quiet[1:]),
        "p99 ms with": statistics.median(hostile[1:]),
    }
    return {"hostile_p99_ratio": Measured.of(ratios[1:], **details)}


def _published(server: Server) -> list[str]:
    """Every hostile module that is asked for prices, as a plugin that passed the pipeline."""
    key, namespace = Key.generate(), f"h-{uuid.uuid4().hex[:8]}"
    _ask(server, "POST", "plugins/namespaces", {"name": namespace, "public_key": key.public})
    found = []
    for number, (code, _) in enumerate(code for code in HOSTILE.values() if b"price.1" in code[0]):
        declared = manifest(f"{namespace}.hostile-{number}{uuid.uuid4().hex[:6]}")
        digest = package_digest(manifest_text(declared), code)
        sent = {
            "manifest": msgspec.to_builtins(declared),
            "artifact": base64.b64encode(code).decode(),
            "signature": key.sign(statement(declared.name, declared.version, digest)),
        }
        version = _ask(server, "POST", "plugins/versions", sent)["id"]
        end = time.monotonic() + READY_SECONDS
        while (state := _ask(server, "GET", f"plugins/versions/{version}")["state"]) != "passed":
            assert state in ("received", "validating", "scanning") and time.monotonic() < end, state
            time.sleep(0.2)
        found.append(declared.name)
    return found


def _served(server: Server) -> float:
    """The 99th percentile of what somebody waits who reads a page again and again, in milliseconds."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    times, end = [], time.monotonic() + SECONDS
    while time.monotonic() < end:
        started = time.perf_counter()
        connection.request("GET", "/api/v1/trading/fees", headers={"Authorization": f"Bearer {server.admin_key}"})
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, body
        times.append((time.perf_counter() - started) * 1000)
        time.sleep(PAUSE_SECONDS)
    connection.close()
    return quantile(times, 0.99)


@contextmanager
def _quoting(server: Server) -> Iterator[list[int]]:
    """Somebody who asks for quotes meanwhile, each of which asks every plugin that does not rest; counts them."""
    over, counted = threading.Event(), [0]

    def run() -> None:
        while not over.is_set():
            _ask(server, "POST", "ai/quotes", QUOTE)
            counted[0] += 1

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield counted
    finally:
        over.set()
        thread.join()


def _ask(server: Server, method: str, path: str, body: Any = None) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    headers = {"Authorization": f"Bearer {server.admin_key}", "Idempotency-Key": uuid.uuid4().hex}
    headers["Content-Type"] = "application/json"
    connection.request(method, f"/api/v1/{path}", None if body is None else json.dumps(body), headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    assert answer.status < 300, (path, answer.status, content)
    return json.loads(content)
