"""A cache of jobs that have ended: nothing changes in them any more, so one read serves everybody who looks again."""

from collections import OrderedDict

from aitbc.kernel.primitives.clock import elapsed, now
from aitbc.modules.ai.api import JobDetail
from aitbc.modules.ai.batched.read import Found
from aitbc.modules.ai.models.life import TERMINAL
from aitbc.modules.ai.models.views import attempt_view, detail_view

BYTES_MAX = 16 * 1024 * 1024
"""For inputs, outputs and what stands around them, of all jobs together."""
JOB_BYTES_MAX = 64 * 1024
FRESH_SECONDS = 5.0
"""So long a job is answered from here: its owner may have had its content removed in another process."""
ROW_BYTES = 4096
"""What a job and its attempts weigh beside input and output, generously."""


class _Entry:
    """A job with its weight and, once somebody has looked, the view of it."""

    __slots__ = ("detail", "found", "read_at", "weight")

    def __init__(self, found: Found, weight: int) -> None:
        self.found = found
        self.weight = weight
        self.detail: JobDetail | None = None
        self.read_at = elapsed()


class EndedCache:
    """The jobs that were read last, up to a weight.

    Past its retention a job is read anew: its payload is removed then.
    """

    def __init__(self, bytes_max: int = BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._bytes = 0

    def get(self, job: str) -> Found | None:
        """A job that has ended; none for one that was not read lately."""
        entry = self._entries.get(job)
        if entry is None:
            return None
        kept_until = entry.found[0].kept_until
        if (kept_until is not None and kept_until <= now()) or entry.read_at < elapsed() - FRESH_SECONDS:
            self.drop(job)
            return None
        self._entries.move_to_end(job)
        return entry.found

    def keep(self, found: Found) -> None:
        """Cache a job that was just read, if it has ended and is not too heavy."""
        job = found[0]
        weight = ROW_BYTES + len(job.input or "") + len(job.output or "")
        if job.state not in TERMINAL or weight > JOB_BYTES_MAX:
            return
        self.drop(job.id)
        self._entries[job.id] = _Entry(found, weight)
        self._bytes += weight
        while self._bytes > self._bytes_max:
            self.drop(next(iter(self._entries)))

    def detail(self, found: Found) -> JobDetail:
        """The view of a job: made once for one that is cached."""
        entry = self._entries.get(found[0].id)
        if entry is None or entry.found is not found:
            return _view(found)
        if entry.detail is None:
            entry.detail = _view(found)
        return entry.detail

    def drop(self, job: str) -> None:
        """Read a job anew the next time."""
        entry = self._entries.pop(job, None)
        if entry is not None:
            self._bytes -= entry.weight


def _view(found: Found) -> JobDetail:
    job, attempts = found
    return detail_view(job, tuple(attempt_view(attempt) for attempt in attempts))
