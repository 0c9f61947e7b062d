"""Clients that leave: a request that only waits for something ends with its client, before it takes something for nobody."""

import asyncio
from collections.abc import Callable
from typing import Any

DISCONNECT = "aitbc.disconnect"
"""The key of a request's scope under which the server puts its `Disconnect`; a request that came in otherwise has none."""


class Disconnect:
    """Whether the client of a request has left, and the task to end then."""

    __slots__ = ("_hearers", "_task", "is_set")

    def __init__(self) -> None:
        self.is_set = False
        self._task: asyncio.Task[object] | None = None
        self._hearers: list[Callable[[], None]] = []

    def cancel_task(self, task: "asyncio.Task[object]") -> None:
        """End this task when the client leaves; at once when it has."""
        self._task = task
        if self.is_set:
            task.cancel()

    def add_callback(self, hearer: Callable[[], None]) -> None:
        """Call this when the client leaves, before its task ends; at once when it has left."""
        if self.is_set:
            hearer()
        else:
            self._hearers.append(hearer)

    def set(self) -> None:
        """The client has left."""
        self.is_set = True
        event_handlers, self._hearers = self._hearers, []
        for hearer in event_handlers:
            hearer()
        if self._task is not None:
            self._task.cancel()

    def caused_cancellation(self) -> bool:
        """Whether a cancellation of the running task came from here alone; it is then taken back."""
        task = asyncio.current_task()
        return self.is_set and task is not None and task is self._task and task.uncancel() == 0


def disconnect_of(scope: Any) -> Disconnect | None:
    """What tells whether the client of this request has left; none for a request that came in without a connection."""
    gone = scope.get(DISCONNECT)
    return gone if isinstance(gone, Disconnect) else None


def cancel_on_disconnect(gone: Disconnect | None) -> None:
    """End the running task when the client leaves: from here on it only waits for something."""
    task = asyncio.current_task()
    if gone is not None and task is not None:
        gone.cancel_task(task)
