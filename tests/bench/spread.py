"""Modules on ports and in processes of their own: what the way through the gateway costs, and what a split installation takes."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable

from msgspec import Struct

from aitbc.app import MODULES
from aitbc.modules.trading.api import TradingApi
from aitbc.server.cluster.peers import Peer
from aitbc.server.cluster.service_token import Tokens
from aitbc.server.cluster.stubs import local, remote
from aitbc.server.config.hosts import PeerHost
from aitbc.server.config.settings import Settings
from aitbc.server.runtime.bootstrap import build
from tests.bench import paid
from tests.bench.figures import Measured
from tests.bench.ground import Ground, Stand
from tests.bench.load import Load
from tests.bench.machine import cpu_of
from tests.bench.reads import CONNECTIONS, finished_jobs

SECONDS = 3
LIVES_SECONDS = 6
IDLE_SECONDS = 5
CALLS = 2_000
PRICE_UNITS = 1_000_000


class Pace(Struct, frozen=True):
    """Reads for some seconds: how many each second, and the CPU of one."""

    rate: float
    main_us: float
    """Of the main process."""
    rest_us: float
    """Of all that it started: the processes of modules, and the database."""


class Paces(Struct, frozen=True):
    """Reads on two ways to the same jobs, in turns."""

    through: list[Pace]
    at_port: list[Pace]

    def measured(self) -> Measured:
        """The ratio of each pair."""
        return Measured.of(
            [one.rate / other.rate for one, other in zip(self.through, self.at_port, strict=True)],
            **{
                "reads a second through the gateway": statistics.median(one.rate for one in self.through),
                "reads a second at the module's port": statistics.median(one.rate for one in self.at_port),
                "CPU µs of a read in the main process, through it": statistics.median(
                    one.main_us for one in self.through
                ),
                "  in all others": statistics.median(one.rest_us for one in self.through),
                "CPU µs of a read in the main process, at the port": statistics.median(
                    one.main_us for one in self.at_port
                ),
                "  in all the others": statistics.median(one.rest_us for one in self.at_port),
            },
        )


def measure_prefix(ground: Ground) -> dict[str, Measured]:
    """`gateway_vs_port`: the older dialect's path of a job, under its prefix at the gateway and bare at the module's port."""
    stand, port = ground.exposed
    jobs = _jobs(stand)
    paces = _paces(
        stand.server.pid,
        ground.rounds,
        (stand.server.port, [[f"/ai/jobs/{job}", key] for job, key in jobs]),
        (port, [[f"/jobs/{job}", key] for job, key in jobs]),
    )
    return {"gateway_vs_port": paces.measured()}


def measure_forwarding(ground: Ground) -> dict[str, Measured]:
    """`gateway_split_vs_direct`: a job of a split module, through the gateway's process and straight from the module's."""
    stand, port = ground.split
    requests = [[f"/api/v1/ai/jobs/{job}", key] for job, key in _jobs(stand)]
    paces = _paces(stand.server.pid, ground.rounds, (stand.server.port, requests), (port, requests))
    return {"gateway_split_vs_direct": paces.measured()}


def measure_lives(ground: Ground) -> dict[str, Measured]:
    """`life_split_vs_one`: paid jobs with every module in a process of its own, and all in one."""
    split, _ = ground.split
    for stand in (split, ground.main):
        paid.live(stand, "warm-both", 2)
    apart, together = [], []
    for number in range(ground.rounds):
        apart.append(paid.live(split, f"split-{number}", LIVES_SECONDS))
        together.append(paid.live(ground.main, f"one-{number}", LIVES_SECONDS))
    return {
        "life_split_vs_one": Measured.of(
            [one.per_second / other.per_second for one, other in zip(apart, together, strict=True)],
            **{
                "lives a second, all split": statistics.median(one.per_second for one in apart),
                "lives a second, one process": statistics.median(one.per_second for one in together),
                "CPU ms of a life, all split": statistics.median(one.cpu.total * 1000 / one.lives for one in apart),
                "p99 ms of a life, all split": statistics.median(one.p99_ms for one in apart),
            },
        )
    }


def measure_standing(ground: Ground) -> dict[str, Measured]:
    """`pss_split_mib` and `start_split_s`."""
    stand, _ = ground.split
    server = stand.server
    took = []
    for _ in range(ground.rounds):
        server.stop()
        took.append(server.start())
    time.sleep(IDLE_SECONDS)
    return {
        "pss_split_mib": Measured.of([server.pss_mib()]),
        "start_split_s": Measured.of(took, **{"CPU s of a start": server.cpu().total}),
    }


def measure_calls(ground: Ground) -> dict[str, Measured]:
    """`face_http_vs_local`: the fee of a price, asked of trading in its own process and in this one."""
    stand, _ = ground.split
    far, near = asyncio.run(_calls(stand, ground.rounds))
    return {
        "face_http_vs_local": Measured.of(
            [one / other for one, other in zip(far, near, strict=True)],
            **{"µs of a call across": statistics.median(far), "µs of a call within": statistics.median(near)},
        )
    }


async def _calls(stand: Stand, rounds: int) -> tuple[list[float], list[float]]:
    state = stand.server.state
    secret = bytes.fromhex((state / "secret.key").read_text().strip())
    peer = Peer(PeerHost(process="trading", socket=state / "run" / "trading.sock"), Tokens(secret, "main"))
    house = await build(Settings(state_dir=state), MODULES, owner=stand.server.database)
    across = remote(TradingApi, peer.transport_to("trading"))
    within = local(TradingApi, house.wired.services["trading"])
    far, near = [], []
    try:
        for _ in range(rounds + 1):
            far.append(await _microseconds(lambda: across.quote_fee(PRICE_UNITS)))
            near.append(await _microseconds(lambda: within.quote_fee(PRICE_UNITS)))
    finally:
        await peer.close()
        for database in house.databases.values():
            await database.close()
    return far[1:], near[1:]


async def _microseconds(call: Callable[[], Awaitable[object]]) -> float:
    started = time.perf_counter()
    for _ in range(CALLS):
        await call()
    return (time.perf_counter() - started) * 1e6 / CALLS


def _jobs(stand: Stand) -> list[list[str]]:
    """Some jobs that are done, each with a key that may read it."""
    buyers, _ = stand.people
    paid.live(stand, "for-reading-elsewhere", 1)
    found = asyncio.run(finished_jobs(stand.server, buyers))
    return [[path.rpartition("/")[2], key] for path, key in found]


def _paces(pid: int, rounds: int, through: tuple[int, list[list[str]]], at_port: tuple[int, list[list[str]]]) -> Paces:
    _pace(pid, *through), _pace(pid, *at_port)
    pairs = [(_pace(pid, *through), _pace(pid, *at_port)) for _ in range(rounds)]
    return Paces([one for one, _ in pairs], [other for _, other in pairs])


def _pace(pid: int, port: int, requests: list[list[str]]) -> Pace:
    load = Load("readings", port=port, seconds=SECONDS, connections=CONNECTIONS, requests=requests)
    before = cpu_of(pid)
    told = load.go()
    used = cpu_of(pid) - before
    count = told["requests"]
    return Pace(count / told["seconds"], used.server * 1e6 / count, used.database * 1e6 / count)
