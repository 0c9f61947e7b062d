"""How many requests are answered and how many may wait: each setting limits what it names, and nothing else."""

import asyncio
from pathlib import Path

from aitbc.kernel.database.unit_of_work import Target
from aitbc.server.config.settings import ServerSettings
from tests.app import running_app

JOBS = "/api/v1/ai/jobs"
JOB = {"kind": "embed", "input": {"texts": ["x"]}, "max_price": "0.05"}


async def test_requests_that_wait_and_requests_that_are_answered_are_limited_apart(
    target: Target, tmp_path: Path
) -> None:
    server = ServerSettings(in_flight_max=4, poll_max=3)
    async with running_app(target, tmp_path, server=server) as app:
        alice = await app.who("alice", funds="1")
        job = (await alice.post(JOBS, JOB)).json()["id"]
        wait = f"{JOBS}/{job}/wait?seconds=20"
        waiting = [asyncio.create_task(alice.client.get(wait)) for _ in range(3)]
        await asyncio.sleep(0.5)
        assert not any(task.done() for task in waiting)
        more = await alice.client.get(wait)
        assert (more.status_code, more.json()["code"], more.headers["retry-after"]) == (503, "overloaded", "1")
        assert (await alice.client.get(JOBS)).status_code == 200, "what waits takes no place of the others"
        answers = await asyncio.gather(*(alice.client.get(JOBS) for _ in range(40)))
        statuses = [answer.status_code for answer in answers]
        assert set(statuses) == {200, 503}
        assert statuses.count(200) <= 8
        assert (await alice.client.get("/healthz")).status_code == 200
        assert (await alice.post(f"{JOBS}/{job}/cancel")).status_code == 200
        assert {(await task).status_code for task in waiting} == {200}
        assert (await alice.client.get(wait)).status_code == 200, "every place is free again"
        assert {(await alice.client.get(JOBS)).status_code for _ in range(5)} == {200}
