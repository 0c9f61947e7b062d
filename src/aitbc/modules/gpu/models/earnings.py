"""What miners earned, by GPU, and what one may expect to earn by what others were paid; pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from msgspec import Struct

from aitbc.kernel.primitives import money
from aitbc.modules.trading.api import DeviceEarnings, KindPaid

ESTIMATE_DAYS = 7
"""Over so many days what was paid is looked at."""
NO_DATA = "no data"


class DeviceEarned(Struct, frozen=True, kw_only=True):
    """What the work on one GPU earned; what was paid for work on several is divided by the memory it had of each."""

    uuid_digest: str | None
    """The digest of the GPU's uuid, as receipts name it; null for work that no GPU was reserved for. For example
    `sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08`."""
    jobs: int
    """How many paid jobs had it, alone or with others. For example `17`."""
    earned: str
    """What it earned, after fees, in AITBC. For example `0.0121875`."""


class EarningsEstimate(Struct, frozen=True, kw_only=True):
    """What miners of this sort were paid in a day: from receipts of paid work alone, divided by all who compete."""

    per_day: str | None
    """What one would have earned in a day, had the work been divided by slots, in AITBC; null where there is no data.
    For example `0.12`."""
    basis: str
    """What it rests on, or `no data`. For example
    `120 receipts of 7 days for embed, 2 of 12 slots`."""


class MinerEarnings(Struct, frozen=True, kw_only=True):
    """What a miner was paid, from its receipts, and what is set aside for its jobs."""

    miner: str
    """The miner. For example `mnr_01k0000000000000000000000a`."""
    since: datetime | None
    """Only receipts from this time on; none for all."""
    jobs: int
    """How many jobs were paid. For example `17`."""
    earned: str
    """What was paid for them, after fees. For example `0.0121875`."""
    pending_jobs: int
    """Jobs that it works on now, or delivered and was not yet paid for."""
    pending: str
    """What requesters set aside for those: the most they can cost, before the fee. It earns what is metered of it.
    For example `0.05`."""
    own_jobs: int
    """How many of the paid jobs were its own account's: money that only went round. For example `3`."""
    own: str
    """What was paid for those. For example `0.002`."""
    by_device: tuple[DeviceEarned, ...]
    """All of what was earned, by the GPU that did the work: the parts add up to `earned` exactly."""
    estimate: EarningsEstimate
    """What miners like this one were paid for others' work in the last seven days."""


def by_device(rows: Iterable[DeviceEarnings]) -> tuple[DeviceEarned, ...]:
    """What each GPU earned, the most first; the parts add up exactly, whatever is divided."""
    jobs: dict[str | None, int] = defaultdict(int)
    earned: dict[str | None, int] = defaultdict(int)
    for row in rows:
        for device, units in _divided(row):
            jobs[device] += row.jobs
            earned[device] += units
    order = sorted(earned, key=lambda device: (-earned[device], device or ""))
    return tuple(DeviceEarned(uuid_digest=one, jobs=jobs[one], earned=money.render(earned[one])) for one in order)


def _divided(row: DeviceEarnings) -> list[tuple[str | None, int]]:
    """What a row earned, by GPU in proportion to the memory that the work had; the last takes what rounding leaves."""
    if not row.devices:
        return [(None, row.earned_units)]
    memory = sum(mib for _, mib in row.devices) or 1
    found: list[tuple[str | None, int]] = []
    left = row.earned_units
    for device, mib in row.devices[:-1]:
        part = row.earned_units * mib // memory
        found.append((device, part))
        left -= part
    return [*found, (row.devices[-1][0], left)]


def estimate(
    kinds: Sequence[str], slots: int, competing: Mapping[str, int], paid: Iterable[KindPaid]
) -> EarningsEstimate:
    """What `slots` for these kinds would have earned in a day of the last seven.

    `competing` says of each kind how many slots there are for it in all, these included.
    """
    receipts, units, named = 0, 0, []
    for one in sorted(paid, key=lambda row: row.kind):
        if one.kind in kinds and competing.get(one.kind):
            receipts += one.receipts
            units += one.earned_units * slots // competing[one.kind]
            named.append(f"{one.kind}, {slots} of {competing[one.kind]} slots")
    if not receipts:
        return EarningsEstimate(per_day=None, basis=NO_DATA)
    basis = f"{receipts} receipts of {ESTIMATE_DAYS} days for {'; '.join(named)}"
    return EarningsEstimate(per_day=money.render(units // ESTIMATE_DAYS), basis=basis)
