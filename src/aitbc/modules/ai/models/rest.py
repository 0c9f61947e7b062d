"""When a kind of work of a miner rests: a circuit breaker for each; pure.

After `FAULTS_MAX` faults in a row the kind is out of the choice for a time that doubles with each further fault. Then
one attempt is let through: if it succeeds, the kind is back; if not, it rests again, for longer.
"""

from datetime import datetime, timedelta

from msgspec import Struct

from aitbc.modules.ai.models.life import Ended, Fault, is_misrouted

FAULTS_MAX = 3
"""How many faults in a row are tried before the kind rests."""
REST_FIRST = timedelta(seconds=30)
REST_MAX = timedelta(minutes=10)
PROBE = timedelta(seconds=60)
"""How long a probe is waited for before another may be made."""


class KindRecord(Struct):
    """The faults of a kind of a miner since its last success."""

    faults: int = 0
    rests_until: datetime | None = None
    probed_until: datetime | None = None
    """While an attempt is let through to see whether it works again."""


def counts_against(ended: str, fault: str, reason: str) -> bool:
    """Whether an attempt's end says that its miner cannot do the kind.

    A lost lease says nothing of it: the miner was away, which its status shows. Nor does a fault of the requester.
    """
    return ended == Ended.FAILED and (fault == Fault.MINER or is_misrouted(Fault(fault), reason))


def note_fault(record: KindRecord, at: datetime) -> None:
    """Count a fault; from the `FAULTS_MAX`-th on the kind rests."""
    record.faults += 1
    record.probed_until = None
    if record.faults >= FAULTS_MAX:
        doubled = min(record.faults - FAULTS_MAX, 10)
        record.rests_until = at + min(REST_FIRST * 2**doubled, REST_MAX)


def is_resting(record: KindRecord, at: datetime) -> bool:
    """Whether the kind is out of the choice, but for a probe that is under way."""
    return record.rests_until is not None and (
        at < record.rests_until or (record.probed_until is not None and at < record.probed_until)
    )


def asks_again_at(record: KindRecord) -> datetime | None:
    """When a resting kind may be probed next."""
    ends = [end for end in (record.rests_until, record.probed_until) if end is not None]
    return max(ends, default=None)
