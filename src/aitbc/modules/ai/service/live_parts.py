"""The newest parts of running outputs, in memory: followers in this process get them without a database connection."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Sequence

from aitbc.modules.ai.models.values import StoredPart
from aitbc.modules.ai.service.waiters import WatchedJobs

BYTES_MAX = 16 * 1024 * 1024
"""For the parts of all jobs together."""
JOB_BYTES_MAX = 128 * 1024
"""For the parts of one attempt: how far a follower may be behind before it reads from the database."""
PART_BYTES = 200
"""What a part weighs beside its text."""


class _Kept:
    """Parts of one attempt, without a gap between them."""

    __slots__ = ("parts", "weight")

    def __init__(self) -> None:
        self.parts: deque[StoredPart] = deque()
        self.weight = 0


class LiveParts:
    """What came last of each attempt to this process, up to a weight, and those who wait for more."""

    def __init__(self, bytes_max: int = BYTES_MAX, job_bytes_max: int = JOB_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._job_bytes_max = job_bytes_max
        self._attempts: OrderedDict[tuple[str, int], _Kept] = OrderedDict()
        self._bytes = 0
        self._watchers = WatchedJobs()

    def add(self, job: str, token: int, parts: Sequence[StoredPart]) -> None:
        """Keep parts, and wake those who wait; what is kept already is passed over.

        Parts that came to another process leave a gap.
        """
        kept = self._attempts.get((job, token))
        if kept is not None and parts and parts[0].sequence <= kept.parts[-1].sequence:
            parts = [part for part in parts if part.sequence > kept.parts[-1].sequence]
        if not parts:
            return
        if kept is None or kept.parts[-1].sequence + 1 != parts[0].sequence:
            self._drop((job, token))
            kept = self._attempts[job, token] = _Kept()
        self._attempts.move_to_end((job, token))
        for part in parts:
            kept.parts.append(part)
            self._weigh(kept, part, 1)
        while kept.weight > self._job_bytes_max and len(kept.parts) > 1:
            self._weigh(kept, kept.parts.popleft(), -1)
        while self._bytes > self._bytes_max and len(self._attempts) > 1:
            self._drop(next(iter(self._attempts)))
        self._watchers.notify([job])

    def after(self, job: str, token: int, sequence: int) -> list[StoredPart] | None:
        """The parts after a sequence that are in memory; none at all where the next one is not."""
        kept = self._attempts.get((job, token))
        if kept is None:
            return []
        if kept.parts[0].sequence > sequence + 1:
            return None
        fresh: list[StoredPart] = []
        for part in reversed(kept.parts):
            if part.sequence <= sequence:
                break
            fresh.append(part)
        return fresh[::-1]

    def last(self, job: str, token: int) -> int:
        """The sequence of the last part of an attempt that is in memory; 0 for none."""
        kept = self._attempts.get((job, token))
        return 0 if kept is None else kept.parts[-1].sequence

    def watch(self, job: str) -> asyncio.Future[None]:
        """A future that is done when a part of the job has come. Take it before looking for parts."""
        return self._watchers.watch(job)

    def unwatch(self, job: str, future: asyncio.Future[None]) -> None:
        """Watch no longer."""
        self._watchers.unwatch(job, future)

    def _drop(self, attempt: tuple[str, int]) -> None:
        kept = self._attempts.pop(attempt, None)
        if kept is not None:
            self._bytes -= kept.weight

    def _weigh(self, kept: _Kept, part: StoredPart, sign: int) -> None:
        weight = sign * (PART_BYTES + len(part.text.encode()))
        kept.weight += weight
        self._bytes += weight
