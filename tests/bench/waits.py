"""The load of waiting: many miners in long polls that live and beat, and jobs that wake one of them at a time."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from time import perf_counter
from typing import Any

import msgspec

from tests.bench.crowd import Buyer, Rig
from tests.bench.figures import quantile
from tests.bench.lives import BEAT_SECONDS, JOB, Miner
from tests.bench.wire import Broken, UnixConnection, head, with_body

POLL_SECONDS = 60.0
BEATERS = 8
OPENED_AT_ONCE = 50
UNAVAILABLE = 503
AGAIN_SECONDS = 1.0


class Watch:
    """When each job was asked for, acknowledged, and in a miner's hands."""

    def __init__(self) -> None:
        self.acknowledged: dict[str, float] = {}
        self.taken: dict[str, float] = {}
        self.refused = 0
        """Requests that the server asked to come again later."""

    def heard(self, status: int, body: bytes) -> bool:
        """Whether a request was done; one that is to come again is counted, and anything else is an error."""
        self.refused += status == UNAVAILABLE
        assert status in (200, UNAVAILABLE), body
        return status == 200

    def delays(self) -> list[float]:
        """From the acknowledgement to the miner; a miner that had it before the buyer knew has waited for nothing."""
        return [max(0.0, self.taken[job] - at) for job, at in self.acknowledged.items() if job in self.taken]


async def wait_for_work(wire: UnixConnection, miner: Miner, watch: Watch) -> None:
    """Poll for ever; what comes is delivered at once."""
    poll = miner.poll(POLL_SECONDS)
    with suppress(Broken):
        while True:
            answer = await wire.ask(poll)
            if not watch.heard(*answer):
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            for lease in Miner.leases(answer):
                watch.taken[lease.job] = perf_counter()
                status, body = await wire.ask(miner.result(lease))
                assert status == 200, body


async def keep_beating(wire: UnixConnection, miners: list[Miner], watch: Watch) -> None:
    """Beat for each of these miners every ten seconds, evenly."""
    with suppress(Broken):
        while True:
            for miner in miners:
                await asyncio.sleep(BEAT_SECONDS / len(miners))
                watch.heard(*await wire.ask(miner.beat))


async def run(plan: dict[str, Any], ready: Callable[[], Awaitable[None]]) -> dict[str, float]:
    """Wait with all miners, then submit jobs one by one, elsewhere if so planned; tells how long each took to reach a miner."""
    port, jobs, pause = plan["port"], plan["jobs"], plan["pause_seconds"]
    miners = [Miner(rig) for rig in msgspec.convert(plan["rigs"], list[Rig])]
    buyer = msgspec.convert(plan["buyer"], Buyer)
    watch = Watch()
    tasks = [
        asyncio.create_task(keep_beating(await UnixConnection.open(port), miners[number::BEATERS], watch))
        for number in range(BEATERS)
    ]
    for number, miner in enumerate(miners):
        tasks.append(asyncio.create_task(wait_for_work(await UnixConnection.open(port), miner, watch)))
        if number % OPENED_AT_ONCE == 0:
            await asyncio.sleep(0.05)
    await asyncio.sleep(2)
    await ready()
    wire, whole = await UnixConnection.open(plan.get("submit_port", port)), []
    submit = head("POST", "/api/v1/ai/jobs", buyer.key)
    for number in range(jobs):
        start = perf_counter()
        once = b"idempotency-key: %b-%d\r\n" % (plan["name"].encode(), number)
        status, body = await wire.ask(with_body(submit, JOB, once))
        assert status == 201, body
        job = msgspec.json.decode(body)["id"]
        watch.acknowledged[job] = perf_counter()
        whole.append((job, start))
        await asyncio.sleep(pause)
    await asyncio.sleep(1.5)
    for task in tasks:
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            raise error
        task.cancel()
    delays = watch.delays()
    return {
        "jobs": jobs,
        "taken": len(delays),
        "refused": watch.refused,
        "p50_ms": quantile(delays, 0.5) * 1000,
        "p99_ms": quantile(delays, 0.99) * 1000,
        "max_ms": max(delays) * 1000,
        "whole_p50_ms": quantile([watch.taken[job] - at for job, at in whole if job in watch.taken], 0.5) * 1000,
        "whole_p99_ms": quantile([watch.taken[job] - at for job, at in whole if job in watch.taken], 0.99) * 1000,
    }
