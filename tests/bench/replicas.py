"""Two servers over one PostgreSQL: what a second one adds on the same machine, and how soon it hears of the first one's jobs."""

import asyncio
import statistics

from msgspec import to_builtins

from tests.bench import paid
from tests.bench.figures import Measured
from tests.bench.ground import Ground
from tests.bench.load import Load

LIVES_SECONDS = 6
MINERS = 200
JOBS = 200
PAUSE_SECONDS = 0.05


def measure_lives(ground: Ground) -> dict[str, Measured]:
    """`replicas_2_vs_1`: paid jobs whose buyers and miners come in at two servers in turns, and at one."""
    for stand in (ground.replicas, ground.main):
        paid.live(stand, "warm-replicas", 2)
    both, one = [], []
    for number in range(ground.rounds):
        both.append(paid.live(ground.replicas, f"two-{number}", LIVES_SECONDS))
        one.append(paid.live(ground.main, f"beside-two-{number}", LIVES_SECONDS))
    return {
        "replicas_2_vs_1": Measured.of(
            [two.per_second / single.per_second for two, single in zip(both, one, strict=True)],
            **{
                "lives a second, two servers": statistics.median(each.per_second for each in both),
                "lives a second, one server": statistics.median(each.per_second for each in one),
                "p99 ms of a life, two servers": statistics.median(each.p99_ms for each in both),
            },
        )
    }


def measure_waking(ground: Ground) -> dict[str, Measured]:
    """`wake_replicas_p99_ms`: every miner waits at the first server, every job is submitted at the second."""
    stand = ground.replicas
    waiting, submitting = stand.ports
    clerk = stand.server.clerk
    (buyer,) = asyncio.run(clerk.buyers(1))
    rigs = asyncio.run(clerk.rigs(MINERS, 1))
    plan = {"rigs": to_builtins(rigs), "buyer": to_builtins(buyer), "jobs": JOBS, "pause_seconds": PAUSE_SECONDS}
    told = Load("waits", port=waiting, submit_port=submitting, name="across", **plan).go()
    assert told["taken"] == JOBS, f"{told['taken']:.0f} of {JOBS} jobs reached a miner"
    parts = {"jobs": told["jobs"], "miners waiting": float(MINERS), "p50 ms": told["p50_ms"], "most ms": told["max_ms"]}
    return {"wake_replicas_p99_ms": Measured.of([told["p99_ms"]], **parts)}
