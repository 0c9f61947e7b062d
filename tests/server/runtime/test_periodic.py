"""A periodic task is run by one process at a time, and taken over when that one ends."""

import asyncio

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.module import PeriodicTask
from aitbc.kernel.primitives.errors import Unavailable
from aitbc.kernel.primitives.tasks import cancel_and_wait
from aitbc.server.runtime.periodic import Leadership, lock_number, run_periodic_task
from tests.eventually import PATIENCE_SECONDS, eventually
from tests.kernel.probe import probe_database


async def test_one_of_two_processes_leads_and_the_other_takes_over(target: Target) -> None:
    async with probe_database(target) as db:
        number = lock_number("probe", "sweep")
        first, second = Leadership(db), Leadership(db)
        assert await first.leads(number)
        assert await first.leads(number)
        assert not await second.leads(number)
        await first.close()
        assert await second.leads(number)
        await second.close()


async def test_a_leader_that_lost_its_connection_knows_it(target: Target) -> None:
    async with probe_database(target) as db:
        number = lock_number("probe", "lost")
        first, second = Leadership(db), Leadership(db)
        assert await first.leads(number)
        assert first._connection is not None
        first._connection.terminate()
        await eventually(lambda: second.leads(number))
        assert not await first.leads(number)
        await first.close()
        await second.close()


async def test_a_chore_goes_on_after_a_failure(target: Target) -> None:
    async with probe_database(target) as db:
        rounds = 0

        async def work(*_: object) -> None:
            nonlocal rounds
            rounds += 1
            if rounds == 1:
                raise Unavailable
            if rounds == 2:
                raise ValueError("a mistake of ours")

        leadership = Leadership(db)
        task = asyncio.create_task(
            run_periodic_task("probe", PeriodicTask(run=work, every_seconds=0.01), work, leadership)
        )
        async with asyncio.timeout(PATIENCE_SECONDS):
            while rounds < 4:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await cancel_and_wait([task])
        await leadership.close()
