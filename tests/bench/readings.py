"""The load of reading: the same requests over and over, on some connections."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import cycle
from time import perf_counter
from typing import Any

from tests.bench.figures import quantile
from tests.bench.wire import UnixConnection, head


async def run(plan: dict[str, Any], ready: Callable[[], Awaitable[None]]) -> dict[str, float]:
    """Ask for some seconds; `requests` are pairs of path and key. Tells how many were answered, and how fast."""
    requests = [head("GET", path, key) + b"\r\n" for path, key in plan["requests"]]
    wires = [await UnixConnection.open(plan["port"]) for _ in range(plan["connections"])]
    size = 0
    for wire in wires:
        for request in requests[: plan["connections"]]:
            status, body = await wire.ask(request)
            assert status == 200, body
            size = len(body)
    await ready()
    end = perf_counter() + plan["seconds"]
    took: list[float] = []

    async def busy(wire: UnixConnection, number: int) -> None:
        for request in cycle(requests[number:] + requests[:number]):
            start = perf_counter()
            if start >= end:
                return
            status, _ = await wire.ask(request)
            assert status == 200
            took.append(perf_counter() - start)

    started = perf_counter()
    await asyncio.gather(*(busy(wire, number % len(requests)) for number, wire in enumerate(wires)))
    return {
        "requests": len(took),
        "seconds": perf_counter() - started,
        "p50_ms": quantile(took, 0.5) * 1000,
        "p99_ms": quantile(took, 0.99) * 1000,
        "bytes": size,
    }
