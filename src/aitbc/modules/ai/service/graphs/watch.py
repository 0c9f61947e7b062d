"""Which graph a job belongs to, and who waits for news of a graph in this process."""

import asyncio
from collections.abc import Iterable

from aitbc.modules.ai.service.waiters import WatchedJobs

KNOWN_MAX = 100_000
"""Jobs whose ends are awaited here; of older ones the sweep learns."""


class GraphWatch:
    """The graphs to be driven on because something about them has ended here."""

    def __init__(self) -> None:
        self._graphs: dict[str, str] = {}
        self._due: dict[str, None] = {}
        self._woken = asyncio.Event()
        self.followers = WatchedJobs()
        """Who waits for a change of a graph."""

    def expect(self, jobs: Iterable[str], graph: str) -> None:
        """The ends of these jobs matter to a graph."""
        for job in jobs:
            self._graphs[job] = graph
        while len(self._graphs) > KNOWN_MAX:
            del self._graphs[next(iter(self._graphs))]

    def job_ended(self, job: str) -> None:
        """A job has ended, of a graph or not."""
        graph = self._graphs.pop(job, None)
        if graph is not None:
            self.wake(graph)

    def wake(self, graph: str) -> None:
        """Something is to be done about a graph."""
        self._due[graph] = None
        self._woken.set()

    def take(self) -> list[str]:
        """The graphs about which something is to be done; they are taken from here."""
        due, self._due = list(self._due), {}
        self._woken.clear()
        return due

    async def wait(self) -> list[str]:
        """The same, once there is one."""
        await self._woken.wait()
        return self.take()
