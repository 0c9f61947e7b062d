"""Jobs that have ended are read once and then kept at hand; open ones, foreign ones and forgotten payloads are not."""

from datetime import timedelta

import pytest

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import clock
from aitbc.modules.ai.api import JobNotFound
from aitbc.modules.ai.service.ended_cache import JOB_BYTES_MAX, ROW_BYTES, EndedCache
from tests.modules.ai.make import Worker, ai_on


async def test_an_open_job_is_read_anew_and_an_ended_one_is_kept(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, eve = market.person(), market.person()
        job = await market.submit(alice)
        assert (await market.ai.jobs.get(alice, job)).state == "queued"
        worker = Worker(market)
        [lease] = await worker.claim()
        await worker.deliver(lease)
        first = await market.ai.jobs.get(alice, job)
        assert first.state == "succeeded"
        await market.sql("UPDATE ai.jobs SET unit = 'changed' WHERE true")
        assert await market.ai.jobs.get(alice, job) is first
        with pytest.raises(JobNotFound):
            await market.ai.jobs.get(eve, job)


async def test_a_payload_past_its_retention_is_not_shown_from_memory(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice = market.person()
        job = await market.submit(alice)
        worker = Worker(market)
        [lease] = await worker.claim()
        await worker.deliver(lease)
        kept = await market.ai.jobs.get(alice, job)
        assert b"vectors" in bytes(kept.output)
        assert kept.kept_until is not None
        clock.move(kept.kept_until - clock.now() + timedelta(seconds=1))
        await market.ai.tidy()
        forgotten = await market.ai.jobs.get(alice, job)
        assert (bytes(forgotten.output), forgotten.kept_until) == (b"null", None)


async def test_what_is_kept_has_a_weight_and_the_oldest_goes(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice = market.person()
        worker = Worker(market)
        jobs = [await market.submit(alice) for _ in range(4)]
        for lease in await worker.claim(slots=4):
            await worker.deliver(lease)
        found = {job: await market.ai.jobs.read(job) for job in jobs}
        kept = EndedCache(bytes_max=3 * (ROW_BYTES + 1000))
        for each in found.values():
            assert each is not None
            kept.keep(each)
        assert [kept.get(job) is not None for job in jobs] == [False, True, True, True]
        heavy = found[jobs[0]]
        assert heavy is not None
        heavy[0].output = "x" * JOB_BYTES_MAX
        kept.keep(heavy)
        assert kept.get(jobs[0]) is None
