"""Which kinds of which miners work: faults in a row take one out of the choice, and a single attempt brings it back."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from aitbc.kernel.primitives.clock import now
from aitbc.modules.ai.api import Claim, Lease
from aitbc.modules.ai.models.life import Ended
from aitbc.modules.ai.models.rest import PROBE, KindRecord, asks_again_at, counts_against, is_resting, note_fault
from aitbc.modules.ai.models.tables import AttemptRow
from aitbc.modules.ai.models.values import AttemptValue

MINERS_MAX = 50_000
"""Of so many miners faults are remembered; beyond, those are forgotten whose first fault is the longest ago."""


class KindHealth:
    """Kept in the memory of the process that hears how attempts end: nothing is read or written for a job."""

    def __init__(self) -> None:
        self._records: dict[str, dict[str, KindRecord]] = {}
        """By miner and kind; only of those with faults since their last success."""

    def record(self, attempt: AttemptRow | AttemptValue) -> None:
        """Note how an attempt ended."""
        if attempt.ended == Ended.SUCCEEDED:
            if attempt.miner in self._records:
                self._forget(attempt.miner, attempt.kind)
        elif counts_against(attempt.ended or "", attempt.fault, attempt.reason):
            if attempt.miner not in self._records and len(self._records) >= MINERS_MAX:
                del self._records[next(iter(self._records))]
            kinds = self._records.setdefault(attempt.miner, {})
            note_fault(kinds.setdefault(attempt.kind, KindRecord()), now())
        else:
            self._end_probe(attempt.miner, attempt.kind)

    def resting(self, miner: str) -> tuple[str, ...]:
        """The kinds of a miner that are out of the choice now."""
        records, at = self._records.get(miner, {}), now()
        return tuple(kind for kind, record in records.items() if is_resting(record, at))

    def narrowed(self, claim: Claim) -> Claim:
        """The claim without the kinds that rest; where one may be probed, it is for one job only."""
        records = self._records.get(claim.miner)
        if records is None:
            return claim
        at, out, slots = now(), set[str](), claim.slots
        until: list[datetime] = []
        for kind in claim.capabilities.kinds:
            record = records.get(kind)
            if record is None or record.rests_until is None:
                continue
            if is_resting(record, at):
                out.add(kind)
                until.append(asks_again_at(record) or at)
            else:
                record.probed_until, slots = at + PROBE, 1
        if not out and slots == claim.slots:
            return claim
        kinds = tuple(kind for kind in claim.capabilities.kinds if kind not in out)
        wait = min([claim.wait_seconds, *((end - at).total_seconds() for end in until)])
        capabilities = msgspec.structs.replace(claim.capabilities, kinds=kinds)
        return msgspec.structs.replace(claim, capabilities=capabilities, slots=slots, wait_seconds=wait)

    def end_unused_probes(self, claim: Claim, leases: Sequence[Lease]) -> None:
        """A claim is over: a kind of which it got no job may be probed by the next."""
        if claim.miner in self._records:
            for kind in set(claim.capabilities.kinds) - {lease.kind for lease in leases}:
                self._end_probe(claim.miner, kind)

    def _end_probe(self, miner: str, kind: str) -> None:
        record = self._records.get(miner, {}).get(kind)
        if record is not None:
            record.probed_until = None

    def _forget(self, miner: str, kind: str) -> None:
        self._records[miner].pop(kind, None)
        if not self._records[miner]:
            del self._records[miner]
