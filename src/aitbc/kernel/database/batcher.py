"""Many concurrent commands, one transaction: what arrives while a flush is in flight goes with the next one.

No timer: a lone command flushes at once, and under load the batch grows by itself to what one round trip can carry. A
caller is told only after COMMIT. When a flush fails as a whole, its commands are run again one by one, so that the bad one
fails alone.
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
    """Gathers commands for a `flush` that does all of them in one transaction.

    `flush` answers, for each command in order, its result or the `AppError` that refuses this command alone; it raises when
    the transaction as a whole did not happen. A flush belongs to no request: a command that must be traced carries the id of
    its own. `on_abandoned` is told of results whose callers left during the flush.
    """

    def __init__(
        self,
        flush: Flush[C, R],
        *,
        items_max: int = 512,
        waiting_max: int = 20_000,
        in_flight_max: int = 1,
        on_abandoned: Callable[[C, R], object] | None = None,
    ) -> None:
        self._flush = flush
        self._on_abandoned = on_abandoned
        self._items_max = items_max
        self._waiting_max = waiting_max
        self._in_flight_max = in_flight_max
        self._waiting: deque[tuple[C, asyncio.Future[R]]] = deque()
        self._in_flight: set[asyncio.Task[None]] = set()

    async def do(self, command: C) -> R:
        """The result of one command, after its transaction committed; raises the error that refused it."""
        if len(self._waiting) >= self._waiting_max:
            raise Unavailable("Too many commands are waiting for the database; try again shortly.")
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((command, future))
        if len(self._in_flight) < self._in_flight_max:
            self._take_off()
        return await future

    def _take_off(self) -> None:
        context = copy_context()
        context.run(request_id.set, None)  # a flight serves many requests: none of them is the one being answered
        task = asyncio.create_task(self._fly(), context=context)
        self._in_flight.add(task)

    async def _fly(self) -> None:
        task = asyncio.current_task()
        try:
            await asyncio.sleep(0)  # everything that became ready in this turn of the loop goes along
            while self._waiting:
                load = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._items_max))]
                load = [(command, future) for command, future in load if not future.done()]
                if load:
                    await self._deliver(load)
        finally:
            # Here and not in a callback: a command that arrives after the last look at the queue must start a flight itself.
            if task is not None:
                self._in_flight.discard(task)

    async def _deliver(self, load: list[tuple[C, asyncio.Future[R]]]) -> None:
        try:
            results = await self._flush([command for command, _ in load])
        except BaseException as error:
            if isinstance(error, Exception) and len(load) > 1 and not isinstance(error, Unavailable):
                for item in load:
                    await self._deliver([item])
                return
            for _, future in load:
                if not future.done():
                    future.set_exception(error if isinstance(error, Exception) else Unavailable())
            if not isinstance(error, Exception):
                raise
            return
        for (command, future), result in zip(load, results, strict=True):
            if future.done():
                if self._on_abandoned is not None and not isinstance(result, AppError):
                    self._on_abandoned(command, result)
            elif isinstance(result, AppError):
                future.set_exception(result)
            else:
                future.set_result(result)

    async def drain(self) -> None:
        """Wait until everything that was asked for has been done."""
        while self._in_flight:
            await asyncio.wait(self._in_flight)
