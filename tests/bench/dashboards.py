"""The dashboard of the older service: how long one viewer waits for it."""

import http.client
import statistics
import time

from tests.bench.figures import Measured, quantile
from tests.bench.ground import Ground

VIEWS = 200
PATH = "/monitoring/dashboard"


def measure(ground: Ground) -> dict[str, Measured]:
    """`dashboard_ms`: the median time to the whole answer, over one connection."""
    server = ground.server
    rounds, slowest = [], []
    for _ in range(ground.rounds + 1):
        times = _views(server.port, server.admin_key)
        rounds.append(statistics.median(times))
        slowest.append(quantile(times, 0.99))
    return {"dashboard_ms": Measured.of(rounds[1:], **{"p99 ms": statistics.median(slowest[1:])})}


def _views(port: int, key: str) -> list[float]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    times = []
    for _ in range(VIEWS):
        started = time.perf_counter()
        connection.request("GET", PATH, headers={"Authorization": f"Bearer {key}"})
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, body
        times.append((time.perf_counter() - started) * 1000)
    connection.close()
    return times
