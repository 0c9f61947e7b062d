"""Standing still: memory of an idle server, its warm start, the help of the command line, and waiting miners."""

import asyncio
import statistics
import subprocess
import sys
import time
from pathlib import Path

from msgspec import to_builtins

from tests.bench.figures import Measured
from tests.bench.ground import Ground
from tests.bench.load import Load

IDLE_SECONDS = 5
HELP_ROUNDS = 7
MINERS = 2_000
JOBS = 250
PAUSE_SECONDS = 0.03
PROGRAM = Path(sys.executable).with_name("aitbc")


def measure_memory(ground: Ground) -> dict[str, Measured]:
    """`pss_mib`, of a server that has just started and does nothing."""
    server = ground.small_server
    time.sleep(IDLE_SECONDS)
    whole, alone = server.pss_mib(), server.pss_mib(alone=True)
    return {"pss_mib": Measured.of([whole], **{"MiB of the server": alone, "MiB of PostgreSQL": whole - alone})}


def measure_start(ground: Ground) -> dict[str, Measured]:
    """`start_s`: stopped and started again on the same data; its answer is asked for every 50 ms."""
    server, took = ground.small_server, []
    for _ in range(ground.rounds):
        server.stop()
        took.append(server.start())
    used = server.cpu()
    return {"start_s": Measured.of(took, **{"CPU s of a start": used.total})}


def measure_help(ground: Ground) -> dict[str, Measured]:
    """`help_ms`; beside it an interpreter that starts and does nothing."""
    if not PROGRAM.exists():
        return {"help_ms": Measured.impossible(f"there is no {PROGRAM.name} beside the interpreter")}
    took, nothing = [], []
    for _ in range(HELP_ROUNDS):
        took.append(_milliseconds(str(PROGRAM), "--help"))
        nothing.append(_milliseconds(sys.executable, "-c", ""))
    return {"help_ms": Measured.of(took, **{"ms of an interpreter that does nothing": statistics.median(nothing)})}


def measure_waiting(ground: Ground) -> dict[str, Measured]:
    """`poller_kib` and `wake_p99_ms`: many miners in long polls, and jobs that come one by one."""
    server = ground.server
    clerk = server.clerk
    (buyer,) = asyncio.run(clerk.buyers(1))
    rigs = asyncio.run(clerk.rigs(MINERS, 1))
    before = server.pss_mib(alone=True)
    plan = {"rigs": to_builtins(rigs), "buyer": to_builtins(buyer), "jobs": JOBS, "pause_seconds": PAUSE_SECONDS}
    load = Load("waits", port=server.port, name="waiting", **plan)
    grown = (server.pss_mib(alone=True) - before) * 1024
    told = load.go()
    server.wait_until_quiet()
    assert told["taken"] == JOBS, f"{told['taken']:.0f} of {JOBS} jobs reached a miner"
    return {
        "poller_kib": Measured.of([grown / MINERS], **{"miners waiting": float(MINERS), "MiB before": before}),
        "wake_p99_ms": Measured.of(
            [told["p99_ms"]],
            **{
                "jobs": told["jobs"],
                "requests refused for now": told["refused"],
                "p50 ms": told["p50_ms"],
                "most ms": told["max_ms"],
                "p50 ms from the request to the miner": told["whole_p50_ms"],
                "p99 ms from the request to the miner": told["whole_p99_ms"],
            },
        ),
    }


def _milliseconds(*command: str) -> float:
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - start) * 1000
