"""How fast each class of work is done, as the platform measures it: the ceiling that a result is held against.

Kept in memory by each process, and bounded: a start forgets it, and some minutes of work measure it anew.
"""

from collections import OrderedDict

from aitbc.modules.ai.models.kinds.registry import KINDS
from aitbc.modules.ai.models.queue import needs_of
from aitbc.modules.ai.models.speed import Work, ceiling_of, is_sample
from aitbc.modules.ai.models.values import AttemptValue, JobValue

CLASSES_MAX = 4096
"""Of so many classes speeds are kept, those of the others are forgotten."""
ACCOUNTS_KEPT = 16
"""So many accounts' speeds are kept of a class, the fastest."""
Class = tuple[str, str | None]
"""A kind, and the model that was asked for."""


class Speeds:
    """The fastest that the miners of each account did each class of work."""

    def __init__(self) -> None:
        self._fastest: OrderedDict[Class, dict[str, float]] = OrderedDict()

    def ceiling(self, job: JobValue) -> float | None:
        """How many units a second are believed of work of this job's class; none for work that is paid by time."""
        return ceiling_of(self._fastest.get(_class_of(job), {}).values(), KINDS[job.kind].fastest)

    def record(self, job: JobValue, attempt: AttemptValue, work: Work) -> None:
        """Measure a result that was delivered; work for one's own miner measures nothing, nor do short pieces."""
        if job.account == attempt.miner_account or not is_sample(work):
            return
        of_class = self._fastest.setdefault(_class_of(job), {})
        self._fastest.move_to_end(_class_of(job))
        account = attempt.miner_account
        of_class[account] = max(of_class.get(account, 0.0), work.speed)
        if len(of_class) > ACCOUNTS_KEPT:
            del of_class[min(of_class, key=lambda one: of_class[one])]
        if len(self._fastest) > CLASSES_MAX:
            self._fastest.popitem(last=False)


def _class_of(job: JobValue) -> Class:
    return job.kind, needs_of(job.needs).model
