"""The leases of streaming work that this process made or heard of: their parts may be handed on before a commit."""

from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

from aitbc.modules.ai.api import Lease
from aitbc.modules.ai.models.kinds.registry import KINDS

LEASES_MAX = 10_000


class CurrentLease(NamedTuple):
    """A lease as far as its parts are concerned."""

    miner: str
    job: str
    token: int
    kept: int = 0
    """The sequence of the last part that is stored."""


class CurrentLeases:
    """Known by their attempts, up to a number: of one that is forgotten parts are handed on once they are stored."""

    def __init__(self) -> None:
        self._leases: OrderedDict[str, CurrentLease] = OrderedDict()

    def note(self, attempt: str, lease: CurrentLease) -> None:
        """This lease is live."""
        self._leases[attempt] = lease
        self._leases.move_to_end(attempt)
        while len(self._leases) > LEASES_MAX:
            self._leases.popitem(last=False)

    def note_made(self, miner: str, leases: Iterable[Lease]) -> None:
        """These leases were made for a miner."""
        for lease in leases:
            if KINDS[lease.kind].streams:
                self.note(lease.attempt, CurrentLease(miner, lease.job, lease.token))

    def find(self, attempt: str, miner: str, token: int) -> CurrentLease | None:
        """The lease of an attempt, if it is this miner's and under this token."""
        lease = self._leases.get(attempt)
        return lease if lease is not None and (lease.miner, lease.token) == (miner, token) else None

    def drop(self, attempt: str) -> None:
        """It is over, or is to stop."""
        self._leases.pop(attempt, None)

    def drop_job(self, job: str) -> None:
        """The same for whatever lease of a job is known."""
        for attempt in [attempt for attempt, lease in self._leases.items() if lease.job == job]:
            self.drop(attempt)
