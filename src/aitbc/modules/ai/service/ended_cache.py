"""Jobs that have ended, kept at hand: nothing changes in them any more, so one read serves everybody who looks again."""

from collections import OrderedDict

from aitbc.kernel.primitives.clock import now
from aitbc.modules.ai.api import JobDetail
from aitbc.modules.ai.batched.read import Found
from aitbc.modules.ai.models.life import TERMINAL
from aitbc.modules.ai.models.views import attempt_view, detail_view

BYTES_MAX = 16 * 1024 * 1024
"""For inputs, outputs and what stands around them, of all jobs together."""
JOB_BYTES_MAX = 64 * 1024
ROW_BYTES = 4096
"""What a job and its attempts weigh beside input and output, generously."""


class _Kept:
    """A job with its weight, and how it is shown, once somebody has looked."""

    __slots__ = ("detail", "found", "weight")

    def __init__(self, found: Found, weight: int) -> None:
        self.found = found
        self.weight = weight
        self.detail: JobDetail | None = None


class EndedJobs:
    """The jobs that were read last, up to a weight. Past its retention a job is read anew: its payload is gone then."""

    def __init__(self, bytes_max: int = BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._bytes = 0

    def get(self, job: str) -> Found | None:
        """A job that has ended; none for one that was not read lately."""
        entry = self._kept.get(job)
        if entry is None:
            return None
        kept_until = entry.found[0].kept_until
        if kept_until is not None and kept_until <= now():
            self._drop(job)
            return None
        self._kept.move_to_end(job)
        return entry.found

    def keep(self, found: Found) -> None:
        """Remember a job that was just read, if it has ended and is not too heavy."""
        job = found[0]
        weight = ROW_BYTES + len(job.input or "") + len(job.output or "")
        if job.state not in TERMINAL or weight > JOB_BYTES_MAX:
            return
        self._drop(job.id)
        self._kept[job.id] = _Kept(found, weight)
        self._bytes += weight
        while self._bytes > self._bytes_max:
            self._drop(next(iter(self._kept)))

    def detail(self, found: Found) -> JobDetail:
        """How a job is shown: made once for one that is kept."""
        entry = self._kept.get(found[0].id)
        if entry is None or entry.found is not found:
            return _shown(found)
        if entry.detail is None:
            entry.detail = _shown(found)
        return entry.detail

    def _drop(self, job: str) -> None:
        entry = self._kept.pop(job, None)
        if entry is not None:
            self._bytes -= entry.weight


def _shown(found: Found) -> JobDetail:
    job, attempts = found
    return detail_view(job, tuple(attempt_view(attempt) for attempt in attempts))
