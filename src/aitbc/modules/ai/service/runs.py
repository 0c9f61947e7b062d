"""Runs: jobs whose clients stay connected, and are stopped when the client disconnects before it has its answer."""

import asyncio
from collections.abc import Callable
from typing import Literal

import structlog

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.http.disconnect import Disconnect
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.errors import AppError
from aitbc.kernel.primitives.tasks import cancel_and_wait
from aitbc.modules.ai.api import Job, JobNotFound
from aitbc.modules.ai.models.kinds.registry import KINDS
from aitbc.modules.ai.models.life import IllegalMove
from aitbc.modules.ai.service.stops import Stops

OnDisconnect = Literal["stop", "continue"]
BACKOFF_SECONDS = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
"""When the job of a disconnected client is tried to be stopped, again where the database could not be reached."""

log = structlog.get_logger("aitbc.ai")


class DisconnectGuard:
    """Calls back when a client disconnects, as long as it is armed."""

    def __init__(self) -> None:
        self._on_disconnect: Callable[[], None] | None = None

    def arm(self, disconnect: Disconnect | None, on_disconnect: Callable[[], None]) -> None:
        """From now on a disconnect counts; at once where the client has disconnected already."""
        self._on_disconnect = on_disconnect
        if disconnect is not None:
            disconnect.add_callback(self._disconnected)

    def disarm(self) -> None:
        """The client has its answer: that it disconnects means nothing any more."""
        self._on_disconnect = None

    def _disconnected(self) -> None:
        on_disconnect, self._on_disconnect = self._on_disconnect, None
        if on_disconnect is not None:
            on_disconnect()


class Runs:
    """Watches over the jobs of connected clients."""

    def __init__(self, stops: Stops, draining: asyncio.Event) -> None:
        self._stops = stops
        self._draining = draining
        self.under_way: set[asyncio.Task[None]] = set()
        """The stops of jobs whose clients disconnected."""

    def guard(
        self, who: Principal, job: Job, disconnect: Disconnect | None, on_disconnect: OnDisconnect
    ) -> DisconnectGuard:
        """Stop this job when the client disconnects before it has its answer, unless it wished otherwise."""
        guard = DisconnectGuard()
        if on_disconnect == "stop":
            guard.arm(disconnect, lambda: self._on_disconnect(who, job))
        return guard

    def _on_disconnect(self, who: Principal, job: Job) -> None:
        if self._draining.is_set():  # it is the server that closes the connection; the client finds its job by its id
            return
        task = asyncio.create_task(self._stop(who, job))
        self.under_way.add(task)
        task.add_done_callback(self.under_way.discard)

    async def _stop(self, who: Principal, job: Job) -> None:
        """Finish the job early, so that what was delivered is paid.

        A kind that delivers only at its end is canceled.
        """
        for backoff in BACKOFF_SECONDS:
            await asyncio.sleep(backoff)
            try:
                if KINDS[job.kind].streams:
                    await self._stops.stop(who, job.id, IdempotencyKey(who.account))
                else:
                    await self._stops.cancel(who, job.id, IdempotencyKey(who.account))
            except (IllegalMove, JobNotFound):  # it has ended meanwhile
                return
            except AppError as error:
                log.warning("disconnect_stop_failed", job=job.id, reason=error.message)
            else:
                log.info("client_disconnected", job=job.id)
                return

    async def stop(self) -> None:
        """End the stops that are under way."""
        await cancel_and_wait(list(self.under_way))
