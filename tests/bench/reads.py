"""Reads: one job against a bare answer of its size, and a page of a long list against a page of a short one."""

import asyncio
import statistics
import uuid
from typing import Any
from urllib.parse import quote

import aiohttp

from tests.bench import paid
from tests.bench.crowd import Buyer
from tests.bench.figures import Measured
from tests.bench.ground import Ground
from tests.bench.lives import JOB
from tests.bench.load import Load
from tests.bench.machine import cpu_of
from tests.bench.stage import Server, bare_server

CONNECTIONS = 16
SECONDS = 3
FEW, MANY = 1_000, 1_000_000
PAGE = 50
JOBS = """
SELECT replace(id::text, '-', '') AS id, account::text AS account FROM ai.jobs WHERE state = 'succeeded'
ORDER BY id DESC LIMIT 64"""
COLUMNS = """
SELECT string_agg(attname, ', ' ORDER BY attnum) AS names FROM pg_attribute
WHERE attrelid = 'ai.jobs'::regclass AND attnum > 0 AND NOT attisdropped AND attname <> ALL($1::text[])"""
COPIES = """
INSERT INTO ai.jobs (id, state, reason, completed_at, {names})
SELECT uuidv7(), 'canceled', 'canceled_by_owner', now(), {names}
FROM (SELECT * FROM ai.jobs ORDER BY id DESC LIMIT 1) AS model, generate_series(2, {count})"""


def measure_one(ground: Ground) -> dict[str, Measured]:
    """`get_vs_bare_asgi`."""
    server = ground.server
    buyers, _ = ground.main.people
    if not server.sql(JOBS):
        paid.live(ground.main, "for-reading", 1)
    requests = asyncio.run(finished_jobs(server, buyers))
    own = [_cost(server.pid, server.port, requests)]  # to warm up, and to learn the size
    size = int(own.pop()["bytes"])
    bare = []
    with bare_server(size) as (pid, port):
        _cost(pid, port, [["/", "none"]])
        for _ in range(ground.rounds):
            own.append(_cost(server.pid, server.port, requests))
            bare.append(_cost(pid, port, [["/", "none"]]))
    ratios = [mine["us"] / least["us"] for mine, least in zip(own, bare, strict=True)]
    return {
        "get_vs_bare_asgi": Measured.of(
            ratios,
            **{
                "bytes of the answer": float(size),
                "CPU µs of a read": statistics.median(one["us"] for one in own),
                "  of these in PostgreSQL": statistics.median(one["database_us"] for one in own),
                "CPU µs of a bare answer": statistics.median(one["us"] for one in bare),
                "reads a second": statistics.median(one["rate"] for one in own),
                "p99 ms of a read": statistics.median(one["p99_ms"] for one in own),
            },
        )
    }


def measure_list(ground: Ground) -> dict[str, Measured]:
    """`list_1e6_vs_1e3`: two servers, one with a thousand jobs, one with a million."""
    few, many = ground.small_server, ground.server
    short, long = asyncio.run(filled(few, FEW)), asyncio.run(filled(many, MANY))
    _cost(few.pid, few.port, short), _cost(many.pid, many.port, long)
    small, large = [], []
    for _ in range(ground.rounds):
        small.append(_cost(few.pid, few.port, short))
        large.append(_cost(many.pid, many.port, long))
    return {
        "list_1e6_vs_1e3": Measured.of(
            [high["us"] / low["us"] for high, low in zip(large, small, strict=True)],
            **{
                "CPU µs of a page among 10³": statistics.median(one["us"] for one in small),
                "CPU µs of a page among 10⁶": statistics.median(one["us"] for one in large),
                "p50 ms of a page among 10⁶": statistics.median(one["p50_ms"] for one in large),
            },
        )
    }


def _cost(pid: int, port: int, requests: list[list[str]]) -> dict[str, float]:
    load = Load("readings", port=port, seconds=SECONDS, connections=CONNECTIONS, requests=requests)
    before = cpu_of(pid)
    told = load.go()
    used = cpu_of(pid) - before
    return told | {
        "us": used.total * 1e6 / told["requests"],
        "database_us": used.database * 1e6 / told["requests"],
        "rate": told["requests"] / told["seconds"],
    }


async def finished_jobs(server: Server, buyers: list[Buyer]) -> list[list[str]]:
    """Path and key of some jobs that are done."""
    async with aiohttp.ClientSession() as session:
        pages = [
            await _get(session, server, "/api/v1/ai/jobs?status=succeeded&limit=4", buyer) for buyer in buyers[:16]
        ]
    return [
        [f"/api/v1/ai/jobs/{job['id']}", buyer.key]
        for buyer, page in zip(buyers, pages, strict=False)
        for job in page["data"]
    ]


async def filled(server: Server, count: int) -> list[list[str]]:
    """Give a new account this many jobs; answers the first page of its list, and one from the middle of a thousand."""
    (buyer,) = await server.clerk.buyers(1)
    async with aiohttp.ClientSession() as session:
        headers = {"Authorization": f"Bearer {buyer.key}", "Content-Type": "application/json"}
        job = (await _post(session, f"{server.url}/api/v1/ai/jobs", headers, JOB))["id"]
        await _post(session, f"{server.url}/api/v1/ai/jobs/{job}/cancel", headers, b"{}")
        await asyncio.to_thread(_copy, server, count)
        page = await _get(session, server, "/api/v1/ai/jobs?limit=500", buyer)
    assert page["has_more"] and len(page["data"]) == 500
    cursor = quote(page["next_cursor"])
    return [[f"/api/v1/ai/jobs?limit={PAGE}", buyer.key], [f"/api/v1/ai/jobs?limit={PAGE}&cursor={cursor}", buyer.key]]


def _copy(server: Server, count: int) -> None:
    names = server.sql(COLUMNS, ["id", "state", "reason", "completed_at"])[0]["names"]
    server.sql(COPIES.format(names=names, count=count))
    server.sql("VACUUM ANALYZE ai.jobs")


async def _get(session: aiohttp.ClientSession, server: Server, path: str, buyer: Buyer) -> Any:
    async with session.get(server.url + path, headers={"Authorization": f"Bearer {buyer.key}"}) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def _post(session: aiohttp.ClientSession, url: str, headers: dict[str, str], body: bytes) -> Any:
    once = {"Idempotency-Key": uuid.uuid4().hex}
    async with session.post(url, data=body, headers=headers | once) as answer:
        assert answer.status < 300, await answer.text()
        return await answer.json()
