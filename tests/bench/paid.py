"""Paid jobs: how many lives a second, against pgbench in interleaved rounds, and what one of them costs."""

from msgspec import Struct, to_builtins

from tests.bench.figures import Measured
from tests.bench.ground import Ground, Stand
from tests.bench.load import Load
from tests.bench.machine import Cpu
from tests.bench.stage import Server
from tests.bench.yardstick import Yardstick

WARM_SECONDS = 3
LIVES_SECONDS = 6
PGBENCH_SECONDS = 5
COUNTERS = """
SELECT (SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()) AS transactions,
       (SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables) AS rows,
       pg_current_wal_insert_lsn() - '0/0'::pg_lsn AS log_bytes"""


class Round(Struct, frozen=True):
    """What one round of lives took, and what the database counted meanwhile."""

    lives: float
    per_second: float
    p50_ms: float
    p99_ms: float
    cpu: Cpu
    transactions: float
    rows: float
    log_bytes: float


def measure(ground: Ground) -> dict[str, Measured]:
    """`life_vs_pgbench` and `cpu_ms_per_life`."""
    server = ground.server
    live(ground.main, "warm", WARM_SECONDS)
    yardstick = Yardstick(server, ground.folder)
    yardstick.lives_per_second(1)
    rounds, pace = [], []
    for number in range(ground.rounds):
        rounds.append(live(ground.main, f"round-{number}", LIVES_SECONDS))
        before = _count(server, yardstick.name)
        pace.append(yardstick.lives_per_second(PGBENCH_SECONDS))
        rows = (_count(server, yardstick.name)[1] - before[1]) / (pace[-1] * PGBENCH_SECONDS)
    ratio = Measured.of(
        [one.per_second / other for one, other in zip(rounds, pace, strict=True)],
        **{
            "lives a second": _middle([one.per_second for one in rounds]),
            "lives a second of pgbench": _middle(pace),
            "rows written a life": _middle([one.rows / one.lives for one in rounds]),
            "rows written a life by pgbench": rows,
            "p50 ms of a life": _middle([one.p50_ms for one in rounds]),
            "p99 ms of a life": _middle([one.p99_ms for one in rounds]),
        },
    )
    cost = Measured.of(
        [one.cpu.total * 1000 / one.lives for one in rounds],
        **{
            "CPU ms of the server": _middle([one.cpu.server * 1000 / one.lives for one in rounds]),
            "CPU ms of PostgreSQL": _middle([one.cpu.database * 1000 / one.lives for one in rounds]),
            "database transactions a life": _middle([one.transactions / one.lives for one in rounds]),
            "write-ahead log, KiB a life": _middle([one.log_bytes / 1024 / one.lives for one in rounds]),
        },
    )
    return {"life_vs_pgbench": ratio, "cpu_ms_per_life": cost}


def live(stand: Stand, name: str, seconds: float) -> Round:
    """Some seconds of lives, with all that they leave behind to be done: events to deliver, records to seal."""
    server, (buyers, rigs) = stand.server, stand.people
    load = Load(
        "lives", ports=stand.ports, seconds=seconds, buyers=to_builtins(buyers), rigs=to_builtins(rigs), name=name
    )
    counted, used = _count(server, None), server.cpu()
    told = load.go()
    server.wait_until_quiet()
    used, now = server.cpu() - used, _count(server, None)
    return Round(
        lives=told["lives"],
        per_second=told["lives"] / told["seconds"],
        p50_ms=told["p50_ms"],
        p99_ms=told["p99_ms"],
        cpu=used,
        transactions=now[0] - counted[0],
        rows=now[1] - counted[1],
        log_bytes=now[2] - counted[2],
    )


def _count(server: Server, database: str | None) -> tuple[float, float, float]:
    # A backend tells its counts once a second at most, and when it ends.
    row = server.sql(COUNTERS, database=database)[0]
    return float(row["transactions"]), float(row["rows"]), float(row["log_bytes"])


def _middle(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]
