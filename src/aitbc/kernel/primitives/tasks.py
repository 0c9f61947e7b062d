"""Waits and cancellation: a wait that it always ends, and work that it never leaves half done."""

import asyncio
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from typing import Any

CANCEL_AGAIN_SECONDS = 0.5


async def is_set_within(event: asyncio.Event, seconds: float) -> bool:
    """Whether an event is set, or becomes so within this time.

    `asyncio.wait_for` must not be used for this: on Python 3.11 it swallows a cancellation that arrives in the turn
    of the loop in which the event is set, and the cancelled task goes on for ever.
    """
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


async def cancel_and_wait(tasks: Iterable["asyncio.Task[Any]"]) -> None:
    """Cancel tasks, repeatedly, until each has ended; what they raise is ignored.

    Cancelling once is not enough: a library that is cancelled while it closes a connection may swallow the
    cancellation, and the task would go on.
    """
    all_tasks = list(tasks)
    running = {task for task in all_tasks if not task.done()}
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=CANCEL_AGAIN_SECONDS)
    for task in all_tasks:
        if not task.cancelled():
            task.exception()  # retrieved, so that asyncio does not log it as lost


async def finish(work: Coroutine[Any, Any, None]) -> None:
    """Do this to its end; a cancellation that comes meanwhile is raised afterwards.

    `asyncio.shield` alone leaves at once: what it protects goes on without anybody who waits for it, and is broken off
    when the loop ends.
    """
    task = asyncio.ensure_future(work)
    canceled = False
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            canceled = True
    task.result()
    if canceled:
        raise asyncio.CancelledError


async def end_process(process: asyncio.subprocess.Process) -> None:
    """Kill a program that may still run and wait until it is gone, also while this is cancelled."""
    with suppress(ProcessLookupError):
        process.kill()
    await finish(_gone(process))


async def _gone(process: asyncio.subprocess.Process) -> None:
    await process.wait()
