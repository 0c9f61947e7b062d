"""The face of ai: all that the other modules may know."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Protocol

from msgspec import Meta, Struct

from aitbc.kernel.primitives.json_schema import one_of
from aitbc.modules.ai.api.demand import UnservedModel as UnservedModel
from aitbc.modules.ai.api.devices import Capabilities as Capabilities
from aitbc.modules.ai.api.devices import GpuClass as GpuClass
from aitbc.modules.ai.api.devices import LeasedDevice as LeasedDevice
from aitbc.modules.ai.api.devices import ModelFacts as ModelFacts
from aitbc.modules.ai.api.devices import UsedDevice as UsedDevice
from aitbc.modules.ai.api.orders import AgreedTerms as AgreedTerms
from aitbc.modules.ai.api.orders import OrderJob as OrderJob
from aitbc.modules.ai.api.orders import SubmitFor as SubmitFor
from aitbc.modules.ai.api.parts import Liveness as Liveness
from aitbc.modules.ai.api.parts import LogLine as LogLine
from aitbc.modules.ai.api.parts import ManyPartsKept as ManyPartsKept
from aitbc.modules.ai.api.parts import Part as Part
from aitbc.modules.ai.api.parts import Parts as Parts
from aitbc.modules.ai.api.parts import PartsKept as PartsKept
from aitbc.modules.ai.api.prospects import CanaryResult as CanaryResult
from aitbc.modules.ai.api.prospects import CanaryStep as CanaryStep
from aitbc.modules.ai.api.prospects import JobsPassedBy as JobsPassedBy
from aitbc.modules.ai.api.prospects import MinerProspects as MinerProspects
from aitbc.modules.ai.api.refusals import ArtifactNotFound as ArtifactNotFound
from aitbc.modules.ai.api.refusals import BookingNotFound as BookingNotFound
from aitbc.modules.ai.api.refusals import BookingNotOpen as BookingNotOpen
from aitbc.modules.ai.api.refusals import HoldExpired as HoldExpired
from aitbc.modules.ai.api.refusals import JobNotFound as JobNotFound
from aitbc.modules.ai.api.refusals import LeaseLost as LeaseLost
from aitbc.modules.ai.api.refusals import NotToldInParts as NotToldInParts
from aitbc.modules.ai.api.refusals import OutputTooLarge as OutputTooLarge
from aitbc.modules.ai.api.refusals import PartsTooLarge as PartsTooLarge
from aitbc.modules.ai.api.refusals import StopAsked as StopAsked
from aitbc.modules.ai.api.refusals import TooManyOpenJobs as TooManyOpenJobs
from aitbc.modules.ai.api.refusals import WrongDigest as WrongDigest
from aitbc.modules.ai.api.refusals import WrongSignature as WrongSignature
from aitbc.modules.ai.api.service_levels import ServiceLevel as ServiceLevel
from aitbc.modules.ai.api.service_levels import ServiceLimits as ServiceLimits
from aitbc.modules.ai.api.speeds import MeasuredSpeed as MeasuredSpeed
from aitbc.modules.ai.api.speeds import MeasuredSpeeds as MeasuredSpeeds
from aitbc.modules.ai.api.verification import CheckedToken as CheckedToken
from aitbc.modules.ai.api.verification import JobVerification as JobVerification
from aitbc.modules.ai.api.verification import LeaseCheck as LeaseCheck

JobState = Annotated[str, one_of(("queued", "leased", "running", "succeeded", "failed", "canceled", "expired"))]
AttemptState = Annotated[
    str, one_of(("leased", "running", "succeeded", "failed", "lost", "released", "canceled", "delivered"))
]
_REASONS = """
submitted retrying taken working completed stopped_early requester_fault attempts_exhausted deadline_passed undecodable
canceled_by_owner stop_unanswered canceled_by_operator queue_timeout hold_expired booking_ended verifying no_majority
"""
JobReason = Annotated[str, one_of(_REASONS.split())]
Blamed = Annotated[str, one_of(("none", "requester", "miner", "platform", "unknown"))]


class Claim(Struct, frozen=True, kw_only=True):
    """A miner asks for work."""

    miner: str
    miner_account: str
    capabilities: Capabilities
    slots: int
    """How many jobs it can take now, 1 to 64."""
    wait_seconds: float
    """How long the answer may wait for a job to appear, 0 to 60."""
    newcomer: bool = False
    """A miner without history: it gets a stated share of the work."""
    reputation: float = 0.5
    slots_total: int | None = None
    """How many jobs it may have at once, those it works on already included; none sets no limit."""
    models_free: dict[str, int] = {}
    """How many more jobs it can take of each of these models; others take as many as there are slots."""
    session: str | None = None
    """The run of its miner's program, which asks one time after the other: what that was given before and does not have
    never arrived, and is given again."""
    at_hand: tuple[str, ...] = ()
    """The leases that the program has, by their attempts."""


class InputFile(Struct, frozen=True, kw_only=True):
    """An artifact that a job's input refers to."""

    field: str
    """The field of the input that refers to it. For example `image`."""
    artifact: str
    """The artifact, to be downloaded. For example `art_01k0000000000000000000000a`."""
    digest: str
    """SHA-256 of its content. For example `sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08`."""
    bytes: int
    """Its size in bytes. For example `48213`."""


class Lease(Struct, frozen=True, kw_only=True):
    """A job given to one miner for a while."""

    attempt: str
    """The attempt. For example `att_01k0000000000000000000000a`."""
    job: str
    """The job. For example `job_01k0000000000000000000000a`."""
    token: int
    """The fencing token: only the newest of a job is valid."""
    number: int
    """Which attempt at the job this is, from 1."""
    kind: str
    """The kind of work, one of `GET /api/v1/ai/kinds`. For example `chat`."""
    input: Any
    """What to work on, as the kind's input schema has it."""
    input_digest: str
    """SHA-256 of the input as canonical JSON. For example
    `sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08`."""
    files: tuple[InputFile, ...]
    """The artifacts that the input refers to."""
    run_seconds: float
    """How long the attempt may work, in seconds. For example `300.0`."""
    expires_at: datetime
    """Renew before this, or the job goes to another."""
    devices: tuple[LeasedDevice, ...] | None = None
    """The GPUs that the work has, and no others: none of them where it is empty. Null leaves the choice to the miner.
    """
    request_id: str | None
    """The request that submitted the job, for logs. For example `req_01k0000000000000000000000a`."""
    check: LeaseCheck | None = None
    """The answer to be checked, where another miner has answered already and this one is to evaluate that."""


class Renewal(Struct, frozen=True, kw_only=True):
    """A lease that its miner still works on, with how far the work is."""

    attempt: str
    token: int
    progress: float | None = None
    """The fraction done, 0 to 1."""


class LeaseStatus(Struct, frozen=True, kw_only=True):
    """What became of a lease: `live`; `stop` (finish now, with what was sent in parts); `canceled` (stop the work); or
    `lost` (expired, taken over, ended).
    """

    attempt: str
    """The attempt. For example `att_01k0000000000000000000000a`."""
    status: Liveness
    """Whether to go on with the work."""
    expires_at: datetime | None = None
    """Until when it is valid; null once it is not `live`."""


class Result(Struct, frozen=True, kw_only=True):
    """A miner delivers."""

    miner: str
    miner_key: str
    """The miner's Ed25519 public key, as enrolled."""
    attempt: str
    token: int
    output: Any
    """The output as JSON; large parts are artifacts referred to as {"artifact": "art_…"}."""
    output_digest: str
    """`value_digest` of the output as delivered."""
    usage: dict[str, int]
    """What the miner counted: evidence, not authority."""
    signature: str


class Failure(Struct, frozen=True, kw_only=True):
    """A miner gives up on an attempt."""

    miner: str
    attempt: str
    token: int
    fault: str
    """Whose fault: `requester`, `miner`, `platform` or `unknown`."""
    reason: str
    message: str


class Outcome(Struct, frozen=True, kw_only=True):
    """What a result, failure or release led to."""

    job: str
    """The job. For example `job_01k0000000000000000000000a`."""
    state: JobState
    """Where the job is now."""
    receipt: str | None = None
    """The receipt of a job that succeeded, else null. For example `rcpt_01k0000000000000000000000a`."""
    price: str | None = None
    """What the job cost, in AITBC; null unless it succeeded. For example `0.0125`."""
    earned: str | None = None
    """What the miner gets of it, after the fee, in AITBC. For example `0.01219`."""
    verifying: bool = False
    """Whether the answer is kept, to be paid once others confirm it."""


class Pending(Struct, frozen=True, kw_only=True):
    """Money that is set aside for a miner's jobs.

    Those it works on, and those it delivered and was not yet paid for.
    """

    miner: str
    jobs: int
    held_units: int


class Clocks(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The four clocks of a job, in seconds."""

    queue_seconds: Annotated[int, Meta(ge=1, le=604_800)] = 900
    """How long it may wait for a miner; each attempt anew."""
    start_seconds: Annotated[int, Meta(ge=5, le=600)] = 30
    """How long a miner that took it may go without a sign of work."""
    run_seconds: Annotated[int, Meta(ge=1, le=86_400)] = 300
    """How long one attempt may work."""
    retention_seconds: Annotated[int, Meta(ge=0, le=7_776_000)] = 604_800
    """How long input and output are kept after the end; the job itself stays."""


class Job(Struct, frozen=True, kw_only=True):
    """A job, without its input and output."""

    id: str
    """The job. For example `job_01k0000000000000000000000a`."""
    kind: str
    """The kind of work, one of `GET /api/v1/ai/kinds`. For example `chat`."""
    state: JobState
    """`queued`, `leased`, `running`, `succeeded`, `failed`, `canceled` or `expired`."""
    reason: JobReason
    """Why it is in that state. For example `completed`."""
    fault: Blamed
    """`none`, `requester`, `miner`, `platform` or `unknown`: of the last attempt that did not succeed."""
    needs: Any
    """What a miner must have to take it."""
    priority: int
    """0 (least) to 9 (most urgent). For example `4`."""
    max_price: str
    """The most it may cost, in AITBC: so much is held. For example `0.05`."""
    price: str | None
    """What it cost, with all answers that were paid to verify it; none unless it succeeded. For example `0.0125`."""
    unit: str
    """What is metered. For example `byte`."""
    unit_price: str
    """The price of one unit, in AITBC. For example `0.0000002`."""
    units: int | None
    """How many units were metered; null unless it succeeded. For example `62500`."""
    receipt: str | None
    """Its receipt; null unless it succeeded. For example `rcpt_01k0000000000000000000000a`."""
    input_digest: str
    """SHA-256 of the input as canonical JSON. For example
    `sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08`."""
    output_digest: str | None
    """SHA-256 of the output as canonical JSON; null before success. For example
    `sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08`."""
    verification: JobVerification | None = None
    """How its work is verified; null where it asked for nothing."""
    attempts: int
    """How many attempts counted so far."""
    attempts_max: int
    """How many attempts may count. For example `3`."""
    clocks: Clocks
    """How long it may take, in each part of its life."""
    created_at: datetime
    """When it was submitted."""
    started_at: datetime | None
    """When its first attempt began; null before."""
    completed_at: datetime | None
    """When it ended, in whichever way; null before."""
    expires_at: datetime | None
    """While it waits: when the queue's clock runs out."""
    kept_until: datetime | None
    """After its end: when input and output are removed; none once they are."""


class Attempt(Struct, frozen=True, kw_only=True):
    """One lease of a job and how it went."""

    id: str
    """The attempt. For example `att_01k0000000000000000000000a`."""
    number: int
    """Which attempt at the job this is, from 1. For example `1`."""
    miner: str
    """The miner. For example `mnr_01k0000000000000000000000a`."""
    state: AttemptState
    """`leased`, `running`, `succeeded`, `failed`, `lost`, `released` or `canceled`."""
    fault: Blamed
    """Whose fault it was that it did not succeed."""
    reason: str
    """How it ended, in one word of the platform or of the miner. For example `completed`."""
    message: str
    """What the miner or the platform says about the end, for people; may be empty. For example `out of memory`."""
    progress: float | None
    """The fraction done, 0 to 1, as the miner last reported; null before. For example `0.75`."""
    note: str | None
    """Where the miner's count and the platform's differ.
    For example `the miner counted 812 tokens, the platform 640`."""
    unit_price: str | None = None
    """What its miner asked for one unit when it took the job, in AITBC, and is paid for it; null where the unit price
    of the job holds. For example `0.00002`."""
    offer: str | None = None
    """The offer that asks it. For example `offer_01k0000000000000000000000a`."""
    devices: tuple[UsedDevice, ...] = ()
    """The GPUs that were reserved for it; none of a job that asked for none."""
    stop_asked_at: datetime | None
    """When the job's owner asked to finish early."""
    started_at: datetime
    """When the miner took it."""
    running_at: datetime | None
    """When the miner first showed a sign of work; null before."""
    ended_at: datetime | None
    """When it ended; null before."""


class JobDetail(Job, frozen=True, kw_only=True):
    """A job with its input, output and every attempt."""

    input: Any
    """None once its retention is over."""
    output: Any
    """The result; none before success, and once its retention is over."""
    history: tuple[Attempt, ...]
    """Every attempt, the first one first."""


class AiApi(Protocol):
    """What ai does for other modules."""

    async def claim(self, claim: Claim) -> Sequence[Lease]:
        """Lease up to `slots` matching jobs; waits for one to appear, and answers nothing when none did in time."""
        ...

    async def leases_of(self, miner: str) -> Sequence[Lease]:
        """The live leases of a miner: for one that lost an answer or was restarted."""
        ...

    async def pending_of(self, miner: str) -> Pending:
        """What is set aside for the jobs of a miner, until they are paid or end otherwise."""
        ...

    async def prospects_of(self, miner: str, since: datetime) -> MinerProspects:
        """What became of the jobs that were submitted since then, as seen by a miner with what it offers now."""
        ...

    async def renew(self, miner: str, renewals: Sequence[Renewal]) -> Sequence[LeaseStatus]:
        """Extend leases; answers for each what became of it."""
        ...

    async def until_over(self, miner: str, attempts: Sequence[str], wait_seconds: float) -> Sequence[str]:
        """Those of a miner's leases that are over or are to stop; waits for the first, none where none was in time."""
        ...

    async def complete(self, result: Result) -> Outcome:
        """Accept a result, settle it and answer.

        What it answers as succeeded is paid. Repeating it answers the same. Raises `LeaseLost`, `WrongSignature`, and
        `HoldExpired` where the money has gone back.
        """
        ...

    async def fail(self, failure: Failure) -> Outcome:
        """Note a failed attempt; the job is tried again or ends. Raises `LeaseLost`."""
        ...

    async def release(self, miner: str, attempt: str, token: int, reason: str) -> Outcome:
        """Give a lease back unworked: the attempt does not count. Raises `LeaseLost`."""
        ...

    async def log(self, miner: str, attempt: str, token: int, lines: Sequence[LogLine]) -> int:
        """Keep log lines; answers the highest sequence that is kept. Raises `LeaseLost`."""
        ...

    async def tell_parts(self, told: Parts) -> PartsKept:
        """Keep pieces of an output while it is made, and say whether to go on.

        Pieces that are kept already are passed over. Raises `LeaseLost` for a lease that never was this miner's, and
        `PartsTooLarge`.
        """
        ...

    async def tell_all_parts(self, told: Sequence[Parts]) -> Sequence[ManyPartsKept]:
        """The same for several outputs at once, each answered in its place; what is refused says so in `refused`."""
        ...

    async def order(self, order: OrderJob) -> Job:
        """Submit a job to a booked GPU; it costs one minor unit, since the booking pays for its time.

        Raises what a submission raises: `UnknownKind`, `InvalidInput`, `InsufficientFunds`, `IdempotencyKeyReused`,
        `TooManyOpenJobs`, `BookingNotOpen`.
        """
        ...

    async def submit_for(self, order: SubmitFor) -> Job:
        """Submit a job in the name of an account. Repeating it within a day gives the same job.

        Raises what a submission raises: `UnknownKind`, `InvalidInput`, `MaxPriceTooLow`, `InsufficientFunds`,
        `IdempotencyKeyReused`, `TooManyOpenJobs`.
        """
        ...

    async def job_of(self, account: str, job: str) -> JobDetail:
        """A job of an account with its output. Raises `JobNotFound`."""
        ...

    async def recent_jobs(self, account: str, limit: int) -> Sequence[Job]:
        """The jobs of an account from the newest on."""
        ...

    async def cancel_for(self, account: str, key: str, job: str) -> Job:
        """Cancel a job of an account; one that has ended stays as it is. Raises `JobNotFound`."""
        ...

    async def end_booking(self, booking: str, account: str) -> int:
        """End all work of a booking of this account's: leases are stopped, what waits is closed, and no more is taken.

        Answers how many leases there were. Repeating it is harmless.
        """
        ...

    async def may_read_artifact(self, miner: str, artifact: str) -> bool:
        """Whether a live lease of this miner refers to the artifact."""
        ...

    async def models_of(self, jobs: Sequence[str]) -> Sequence[tuple[str, str]]:
        """Job and model of those of these jobs that named a model; in any order."""
        ...

    async def measured_speeds(self, sorts: Sequence[tuple[str, str | None]]) -> Sequence[MeasuredSpeeds]:
        """How fast miners do these kinds of work, each of a model or of all; kinds that there are not are left out."""
        ...

    async def unserved(self) -> Sequence[UnservedModel]:
        """The models that jobs wait for and no miner that is online serves, by whoever has waited the longest."""
        ...

    async def not_failed(self, jobs: Sequence[str]) -> Sequence[str]:
        """Those of these jobs that have succeeded or may still, in any order."""
        ...

    async def service_level(
        self, account: str, limits: ServiceLimits, since: datetime, until: datetime
    ) -> ServiceLevel:
        """How the jobs of a kind that an account submitted in a time were served, as far as that is known now."""
        ...
