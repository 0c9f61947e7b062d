"""Why a miner got work, or did not."""

from datetime import datetime
from typing import Annotated, Literal, get_args

from msgspec import Struct

from aitbc.kernel.primitives.json_schema import one_of


class JobsPassedBy(Struct, frozen=True, kw_only=True):
    """How many jobs a miner did not get for one reason."""

    reason: str
    """The condition that it does not meet, of those in a job's filters; or why another got the job, as `price`.
    For example `min_vram_mib`."""
    jobs: int
    """How many jobs. For example `12`."""


CANARY_STATES = ("waiting", "passed", "failed", "unsent")
CanaryStep = Literal["submitted", "taken", "started", "finished", "answer"]
"""The step that failed: the job could not be submitted; the miner did not take it though it was idle; it took it and
did not begin; it did not bring a result; its result was wrong."""


class CanaryResult(Struct, frozen=True, kw_only=True):
    """How the last canary job of a kind went on a miner."""

    kind: str
    """The kind of work, one of `GET /api/v1/ai/kinds`. For example `embed`."""
    state: Annotated[str, one_of(CANARY_STATES)]
    """`waiting` for its end; `failed`: this kind is not offered on the miner until one passes; `unsent`: it could not
    be submitted, which is nobody's fault but the platform's. For example `passed`."""
    step: Annotated[str, one_of(get_args(CanaryStep))] | None
    """The step that failed; null where none did. For example `taken`."""
    message: str
    """What was found, in words; empty where it passed. For example `The answer is empty.`."""
    job: str | None
    """The job; null where none was made. For example `job_01k0000000000000000000000a`."""
    at: datetime
    """When it was submitted or judged."""


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
    canaries: tuple[CanaryResult, ...] = ()
    """How the last canary job of each kind went on it: small paid jobs that the platform gives to idle miners."""
