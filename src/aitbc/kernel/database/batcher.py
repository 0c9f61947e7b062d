"""Batch concurrent commands into one transaction: those that arrive while a flush runs go with the next one.

There is no timer: a lone command is flushed at once, and under load the batch grows by itself to what one round trip
can carry. A caller gets its result only after COMMIT. When a flush fails as a whole, its commands are run again one by
one, so that only the bad one fails.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import copy_context
from typing import Generic, TypeVar

from aitbc.kernel.primitives.errors import AppError, Unavailable
from aitbc.kernel.primitives.request_id import request_id

C = TypeVar("C")
R = TypeVar("R")
Flush = Callable[[Sequence[C]], Awaitable[Sequence[R | AppError]]]


class Batcher(Generic[C, R]):
    """Collects commands for a `flush` that does all of them in one transaction.

    `flush` returns, for each command in order, its result or the `AppError` that refuses this command alone; it raises
    when the transaction as a whole failed. A flush belongs to no request: a command that must be traced carries its
    request id. `on_abandoned` is called with a command and its result when the caller was cancelled during the flush.
    """

    def __init__(
        self,
        flush: Flush[C, R],
        *,
        batch_max: int = 512,
        queue_max: int = 20_000,
        in_flight_max: int = 1,
        on_abandoned: Callable[[C, R], object] | None = None,
    ) -> None:
        self._execute = flush
        self._on_abandoned = on_abandoned
        self._batch_max = batch_max
        self._queue_max = queue_max
        self._in_flight_max = in_flight_max
        self._queue: deque[tuple[C, asyncio.Future[R]]] = deque()
        self._in_flight: set[asyncio.Task[None]] = set()

    async def do(self, command: C) -> R:
        """Queue one command; returns its result after COMMIT, or raises the error that refused it."""
        if len(self._queue) >= self._queue_max:
            raise Unavailable("Too many commands are waiting for the database; try again shortly.")
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._queue.append((command, future))
        if len(self._in_flight) < self._in_flight_max:
            self._start()
        try:
            return await future
        except asyncio.CancelledError:
            # Cancelled after the result came and before the caller took it: nobody gets it.
            came = future.done() and not future.cancelled() and future.exception() is None
            if came and self._on_abandoned is not None:
                self._on_abandoned(command, future.result())
            raise

    def _start(self) -> None:
        context = copy_context()
        context.run(request_id.set, None)  # a flush serves many requests, so it has no request id of its own
        task = asyncio.create_task(self._run(), context=context)
        self._in_flight.add(task)

    async def _run(self) -> None:
        task = asyncio.current_task()
        try:
            await asyncio.sleep(0)  # include every command of this turn of the event loop
            while self._queue:
                batch = [self._queue.popleft() for _ in range(min(len(self._queue), self._batch_max))]
                batch = [(command, future) for command, future in batch if not future.done()]
                if batch:
                    await self._flush(batch)
        finally:
            # Not in a done callback: a command that arrives after the last look at the queue must start a task itself.
            if task is not None:
                self._in_flight.discard(task)

    async def _flush(self, batch: list[tuple[C, asyncio.Future[R]]]) -> None:
        try:
            results = await self._execute([command for command, _ in batch])
        except BaseException as error:
            if isinstance(error, Exception) and len(batch) > 1 and not isinstance(error, Unavailable):
                for item in batch:
                    await self._flush([item])
                return
            for _, future in batch:
                if not future.done():
                    future.set_exception(error if isinstance(error, Exception) else Unavailable())
            if not isinstance(error, Exception):
                raise
            return
        for (command, future), result in zip(batch, results, strict=True):
            if future.done():
                if self._on_abandoned is not None and not isinstance(result, AppError):
                    self._on_abandoned(command, result)
            elif isinstance(result, AppError):
                future.set_exception(result)
            else:
                future.set_result(result)

    async def drain(self) -> None:
        """Wait until all queued commands have been flushed."""
        while self._in_flight:
            await asyncio.wait(self._in_flight)
