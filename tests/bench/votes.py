"""Votes: what one costs the server and its database, beside the submission of a job."""

import asyncio
import statistics
import time
import uuid
from typing import Any

import aiohttp

from tests.bench.crowd import Buyer
from tests.bench.figures import Measured
from tests.bench.ground import Ground
from tests.bench.stage import Server

KEYS = ("vote_vs_submission",)
VOTERS = 20
READY_SECONDS = 60.0
JOB = {"kind": "embed", "input": {"texts": ["x"]}, "max_price": "0.01"}


def measure(ground: Ground) -> dict[str, Measured]:
    """`vote_vs_submission`: CPU of a vote ÷ of a job's submission, one after the other, by the same people."""
    server = ground.voting
    return asyncio.run(_measured(server, ground.rounds))


async def _measured(server: Server, rounds: int) -> dict[str, Measured]:
    people = await server.clerk.buyers(VOTERS)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
        for who in people:
            await _ask(session, server, who, "POST", "governance/stake/lock", {"amount": "200"})
        ratios, votes, jobs = [], [], []
        for _ in range(rounds + 1):
            proposal = await _active(session, server, people[0])
            ballot = f"governance/proposals/{proposal}/vote"
            votes.append(await _cost(session, server, people, "PUT", ballot, {"choice": "for"}))
            jobs.append(await _cost(session, server, people, "POST", "ai/jobs", JOB))
            ratios.append(votes[-1] / jobs[-1])
    details = {"CPU ms of a vote": statistics.median(votes[1:]), "CPU ms of a submission": statistics.median(jobs[1:])}
    return {"vote_vs_submission": Measured.of(ratios[1:], **details)}


async def _active(session: aiohttp.ClientSession, server: Server, who: Buyer) -> str:
    """A proposal on which voting has started."""
    made = await _ask(session, server, who, "POST", "governance/proposals", {"title": uuid.uuid4().hex})
    end = time.monotonic() + READY_SECONDS
    while (await _ask(session, server, who, "GET", f"governance/proposals/{made['id']}"))["state"] != "active":
        assert time.monotonic() < end, "voting did not start"
        await asyncio.sleep(0.2)
    return str(made["id"])


async def _cost(
    session: aiohttp.ClientSession, server: Server, people: list[Buyer], method: str, path: str, body: Any
) -> float:
    """Milliseconds of CPU of server and database for each of these calls."""
    await asyncio.to_thread(server.wait_until_quiet)
    before = server.cpu()
    for who in people:
        await _ask(session, server, who, method, path, body)
    await asyncio.to_thread(server.wait_until_quiet)
    return (server.cpu() - before).total * 1000 / len(people)


async def _ask(
    session: aiohttp.ClientSession, server: Server, who: Buyer, method: str, path: str, body: Any = None
) -> Any:
    headers = {"Authorization": f"Bearer {who.key}", "Idempotency-Key": uuid.uuid4().hex}
    async with session.request(method, f"{server.url}/api/v1/{path}", json=body, headers=headers) as answer:
        assert answer.status < 300, (path, answer.status, await answer.text())
        return await answer.json()
