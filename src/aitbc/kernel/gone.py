"""Clients that leave: a request that only waits for something ends with its client, before it takes something for nobody."""

import asyncio

GONE = "aitbc.gone"
"""The key of a request's scope under which the server puts its `Gone`; a request that came in otherwise has none."""


class Gone:
    """Whether the client of a request has left, and the task to end then."""

    __slots__ = ("_task", "is_true")

    def __init__(self) -> None:
        self.is_true = False
        self._task: asyncio.Task[object] | None = None

    def end(self, task: "asyncio.Task[object]") -> None:
        """End this task when the client leaves; at once when it has."""
        self._task = task
        if self.is_true:
            task.cancel()

    def happen(self) -> None:
        """The client has left."""
        self.is_true = True
        if self._task is not None:
            self._task.cancel()

    def explains(self) -> bool:
        """Whether a cancellation of the running task came from here alone; it is then taken back."""
        task = asyncio.current_task()
        return self.is_true and task is not None and task is self._task and task.uncancel() == 0
