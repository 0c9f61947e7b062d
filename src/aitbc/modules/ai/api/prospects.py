"""Why a miner got work, or did not."""

from datetime import datetime

from msgspec import Struct


class JobsPassedBy(Struct, frozen=True, kw_only=True):
    """How many jobs a miner did not get for one reason."""

    reason: str
    """The condition that it does not meet, of those in a job's filters; or why another got the job, as `price`.
    For example `min_vram_mib`."""
    jobs: int
    """How many jobs. For example `12`."""


class MinerProspects(Struct, frozen=True, kw_only=True):
    """What became of the jobs of a time, as seen by one miner with what it offers now."""

    miner: str
    """The miner. For example `mnr_01k0000000000000000000000a`."""
    since: datetime
    """From when on the jobs were submitted."""
    jobs: int
    """How many jobs were considered: the newest 5000 at most. For example `40`."""
    taken: int
    """How many of them the miner took. For example `9`."""
    waiting: int
    """How many it could take now. For example `0`."""
    filtered: tuple[JobsPassedBy, ...]
    """Those that it cannot do, by the first condition that it does not meet, the most frequent first."""
    lost: tuple[JobsPassedBy, ...]
    """Those that it could do and did not get, the most frequent first.

    `price`: it asks more than they may cost. `prefer`: kept for the miners that their payers preferred. `owner`: a
    miner of the same owner had answered to verify it. `trusted`: only a trusted miner may check it. `earlier`: another
    that fits asked first, or has the better reputation. `untaken`: they ended before anybody took them.
    """
