"""Cancel a waiting request when its client disconnects, before it claims work that nobody will receive."""

import asyncio
from collections.abc import Callable
from typing import Any

DISCONNECT = "aitbc.disconnect"
"""The key of the `Disconnect` in an ASGI scope; scopes that the server did not make, as in tests, have none."""


class Disconnect:
    """The disconnect of one request's client: an event with callbacks, and the task to cancel."""

    __slots__ = ("_callbacks", "_task", "is_set")

    def __init__(self) -> None:
        self.is_set = False
        self._task: asyncio.Task[object] | None = None
        self._callbacks: list[Callable[[], None]] = []

    def cancel_task(self, task: "asyncio.Task[object]") -> None:
        """Cancel this task when the client disconnects; at once if it has."""
        self._task = task
        if self.is_set:
            task.cancel()

    def add_callback(self, callback: Callable[[], None]) -> None:
        """Call this when the client disconnects, before the task is cancelled; at once if it has."""
        if self.is_set:
            callback()
        else:
            self._callbacks.append(callback)

    def set(self) -> None:
        """The client has disconnected: run the callbacks and cancel the task."""
        self.is_set = True
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()
        if self._task is not None:
            self._task.cancel()

    def caused_cancellation(self) -> bool:
        """Whether the running task was cancelled by this disconnect alone; that cancellation is then undone."""
        task = asyncio.current_task()
        return self.is_set and task is not None and task is self._task and task.uncancel() == 0


def disconnect_of(scope: Any) -> Disconnect | None:
    """The `Disconnect` of a request; none where the server put none."""
    disconnect = scope.get(DISCONNECT)
    return disconnect if isinstance(disconnect, Disconnect) else None


def cancel_on_disconnect(disconnect: Disconnect | None) -> None:
    """Cancel the running task when the client disconnects: from here on it only waits."""
    task = asyncio.current_task()
    if disconnect is not None and task is not None:
        disconnect.cancel_task(task)
