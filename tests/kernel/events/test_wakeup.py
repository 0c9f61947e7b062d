"""Wake-ups of other processes: one that is not needed any more is not sent."""

import asyncio

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.events.wakeup import DEBOUNCE_SECONDS, Wakeup
from aitbc.kernel.primitives.tasks import cancel_and_wait
from tests.kernel.probe import probe_database

PATIENCE_SECONDS = 30


async def test_others_are_woken_unless_all_that_is_new_was_settled_here(target: Target) -> None:
    async with probe_database(target) as db:
        here, elsewhere, heard = Wakeup(db), Wakeup(db), asyncio.Event()

        async def note() -> None:
            heard.set()

        async def is_heard(*news: str) -> None:
            while not heard.is_set():  # the listener may not listen yet
                here.notify(*news)
                await asyncio.sleep(DEBOUNCE_SECONDS)
            await asyncio.sleep(4 * DEBOUNCE_SECONDS)
            heard.clear()

        tasks = [asyncio.create_task(here.run_sender()), asyncio.create_task(elsewhere.listen(note))]
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await is_heard()
                await is_heard("first", "second")
                here.notify("first", "second")
                here.settle(["second", "first"])
                await asyncio.sleep(10 * DEBOUNCE_SECONDS)
                assert not heard.is_set()
                here.notify("first", "second")
                here.settle(["first"])
                await heard.wait()
        finally:
            await cancel_and_wait(tasks)
