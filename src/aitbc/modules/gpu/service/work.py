"""Work: how it reaches a miner, how the miner keeps it and shows that it lives, and how it comes back."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import TooMany, Unavailable
from aitbc.kernel.primitives.request_id import current_request_id
from aitbc.kernel.primitives.text import Text
from aitbc.modules.ai.api import (
    Capabilities,
    Claim,
    Failure,
    Lease,
    LeaseLost,
    LeaseStatus,
    LogLine,
    Outcome,
    Part,
    Parts,
    PartsKept,
    Renewal,
    Result,
)
from aitbc.modules.gpu.api import SLOTS_MAX, Inventory
from aitbc.modules.gpu.models.life import ALIVE, Status
from aitbc.modules.gpu.models.offer import capabilities_of
from aitbc.modules.gpu.models.values import Heartbeat, PollContext
from aitbc.modules.gpu.service.desk import Desk, miner_of_key
from aitbc.modules.gpu.service.enrolment import Signature, Slots

WAIT_SECONDS_MAX = 60
LEASES_MAX = 256
PARTS_MAX = 64
PART_LENGTH_MAX = 16_384
LINES_MAX = 1000
LINE_LENGTH_MAX = 16_384
"""What a line may bring; of long ones less is kept."""
STALE_SECONDS = 0.05
"""Work that took longer than this to come is given only after another look at whether its miner may have it."""
NOT_TAKING = "not_taking_work"
PUBLIC_KEYS_MAX = 50_000

POLLS_MAX = 8
"""How many polls of one miner may wait at one time."""

AttemptId = Annotated[
    str,
    Meta(max_length=30, pattern=r"^att_[0-9a-z]{26}\Z"),
    Meta(extra_json_schema={"pattern": "^att_[0-9a-z]{26}$", "examples": ["att_01kb2c3d4e5f6g7h8j9kamnpqr"]}),
]
Token = Annotated[int, Meta(ge=1, le=2**31 - 1, description="The lease's fencing token.")]
Digest = Annotated[
    str,
    Meta(max_length=71, pattern=r"^sha256:[0-9a-f]{64}\Z"),
    Meta(extra_json_schema={"pattern": "^sha256:[0-9a-f]{64}$"}),
]
Reason = Annotated[
    str,
    Meta(max_length=40, pattern=r"^[a-z][a-z0-9_]*\Z"),
    Meta(extra_json_schema={"pattern": "^[a-z][a-z0-9_]*$", "examples": ["out_of_memory"]}),
]


class TooManyPolls(TooMany):
    """Several polls of this miner are waiting already; wait for their answers."""

    code = "too_many_polls"


class KeepLease(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A lease that the miner still works on."""

    attempt: AttemptId
    token: Token
    progress: Annotated[float, Meta(ge=0, le=1)] | None = None
    """The fraction done."""


class SendHeartbeat(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A miner's sign of life, and that of its leases."""

    slots: Slots
    slots_busy: Annotated[int, Meta(ge=0, le=SLOTS_MAX)]
    leases: Annotated[tuple[KeepLease, ...], Meta(max_length=LEASES_MAX)] = ()
    telemetry: Inventory | None = None
    """The inventory with fresh readings; left out, the last one stays."""
    pause: Text | None = None
    """Why the miner takes no new work now: a disk that is full, a GPU that was lost. It drains while it says so."""
    leaving: bool = False
    """Good-bye: the miner is offline at once."""


class HeartbeatAnswer(Struct, frozen=True, kw_only=True):
    """What the platform knows of the miner and of its leases."""

    status: str
    message: str | None
    """Why the status is what it is, where there is something to say."""
    leases: tuple[LeaseStatus, ...]
    """Stop the work on each that is not `live`; of one that is to `stop`, deliver what was told in parts."""
    server_time: datetime
    heartbeat_seconds: float
    """Send the next one after so long."""


class AskForWork(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A miner has room for work."""

    slots: Slots
    wait_seconds: Annotated[float, Meta(ge=0, le=WAIT_SECONDS_MAX)] = 30.0
    """How long the answer may wait for work to appear."""


class Work(Struct, frozen=True, kw_only=True):
    """Leases, or why there are none."""

    leases: tuple[Lease, ...]
    status: str
    message: str | None


class Leases(Struct, frozen=True, kw_only=True):
    """The live leases of a miner."""

    leases: tuple[Lease, ...]


class DeliverResult(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The output of an attempt, signed."""

    token: Token
    output: Any
    """As JSON; one of more than 64 KiB is uploaded first and referred to as {"artifact", "digest"}."""
    output_digest: Digest
    usage: Annotated[
        dict[Annotated[str, Meta(max_length=40)], Annotated[int, Meta(ge=0, le=2**53 - 1)]], Meta(max_length=32)
    ] = {}
    """What the miner counted: evidence, not authority."""
    signature: Signature
    """Over the canonical work statement."""


class ReportFailure(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An attempt failed."""

    token: Token
    fault: Literal["requester", "miner", "platform", "unknown"]
    reason: Reason
    message: Annotated[str, Meta(max_length=16_384)] = ""


class ReleaseLease(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A lease goes back unworked."""

    token: Token
    reason: Reason


class AddLine(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of a job's log."""

    sequence: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    at: Annotated[datetime, Meta(tz=True)]
    text: Annotated[str, Meta(max_length=LINE_LENGTH_MAX)]


class AddLines(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Lines of a job's log."""

    token: Token
    lines: Annotated[tuple[AddLine, ...], Meta(min_length=1, max_length=LINES_MAX)]


class TellPart(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A piece of an output's text."""

    sequence: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    text: Annotated[str, Meta(min_length=1, max_length=PART_LENGTH_MAX)]


class TellParts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Pieces of an output while it is made; without any it only asks whether to go on."""

    token: Token
    parts: Annotated[tuple[TellPart, ...], Meta(max_length=PARTS_MAX)] = ()


class Kept(Struct, frozen=True, kw_only=True):
    """How far the log is kept."""

    kept: int
    """The highest sequence; send the lines after it."""


class Working(Desk):
    """The calls of a miner. All act for the miner that the key speaks for, and for no other."""

    async def heartbeat(self, who: Principal, sign: SendHeartbeat) -> HeartbeatAnswer:
        """Hear a sign of life, and extend the leases it names. Raises `MinerNotFound`."""
        miner = miner_of_key(who)
        readings = None if sign.telemetry is None else msgspec.json.encode(sign.telemetry).decode()
        beat = Heartbeat(
            miner=miner,
            slots=sign.slots,
            slots_busy=sign.slots_busy,
            readings=readings,
            pause=sign.pause,
            leaving=sign.leaving,
            request_id=current_request_id(),
        )
        standing = await self.beat(beat)
        if standing.status == Status.REMOVED:
            leases: Sequence[LeaseStatus] = [LeaseStatus(attempt=one.attempt, status="lost") for one in sign.leases]
        else:
            renewals = [Renewal(attempt=one.attempt, token=one.token, progress=one.progress) for one in sign.leases]
            leases = await self.ai.renew(miner, renewals) if renewals else ()
        return HeartbeatAnswer(
            status=standing.status,
            message=standing.reason,
            leases=tuple(leases),
            server_time=now(),
            heartbeat_seconds=self.settings.heartbeat_seconds,
        )

    async def poll(self, who: Principal, wish: AskForWork) -> Work:
        """Work for a miner, as soon as there is some. Raises `MinerNotFound`, `TooManyPolls`."""
        miner = miner_of_key(who)
        if self.polls[miner] >= POLLS_MAX:
            raise TooManyPolls
        self.polls[miner] += 1
        try:
            return await self._poll(miner, wish)
        finally:
            self.polls[miner] -= 1
            if not self.polls[miner]:
                del self.polls[miner]

    async def _poll(self, miner: str, wish: AskForWork) -> Work:
        asking = await self.askings.do(miner)
        if asking.status not in ALIVE and asking.status != Status.REMOVED:
            standing = await self.beat(Heartbeat(miner=asking.id, request_id=current_request_id()))  # who asks is there
            asking = msgspec.structs.replace(asking, status=standing.status, reason=standing.reason)
        if asking.status != Status.ONLINE:
            return Work(leases=(), status=asking.status, message=asking.reason)
        return await self._claim(asking, wish)

    async def _claim(self, asking: PollContext, wish: AskForWork) -> Work:
        """Claim, and where that took a while make sure that the miner may still have what it got."""
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        claim = Claim(
            miner=asking.id,
            miner_account=asking.account,
            capabilities=_offered(asking),
            slots=wish.slots,
            slots_total=asking.slots,
            wait_seconds=wish.wait_seconds,
            newcomer=asking.score.newcomer,
            reputation=asking.score.value,
        )
        booking = asking.booking
        leases = await self.ai.claim(claim)
        if loop.time() - asked_at > STALE_SECONDS:
            with suppress(Unavailable):  # what is leased already is better given than lost
                asking = await self.askings.do(asking.id)
            if asking.status not in (Status.ONLINE, Status.OFFLINE) or asking.booking != booking:
                await self._give_back(asking.id, leases)
                leases = ()
        return Work(leases=tuple(leases), status=asking.status, message=asking.reason)

    async def _give_back(self, miner: str, leases: Sequence[Lease]) -> None:
        for lease in leases:
            with suppress(LeaseLost):
                await self.ai.release(miner, lease.attempt, lease.token, NOT_TAKING)

    async def leases(self, who: Principal) -> Leases:
        """What the miner has at hand, for one that lost an answer or was restarted. Raises `MinerNotFound`."""
        return Leases(leases=tuple(await self.ai.leases_of(miner_of_key(who))))

    async def deliver(self, who: Principal, attempt: str, result: DeliverResult) -> Outcome:
        """Bring a result, under the public key that the miner enrolled with.

        Raises `MinerNotFound`, `LeaseLost`, `WrongSignature`, `WrongDigest`, `OutputTooLarge`.
        """
        miner = miner_of_key(who)
        return await self.ai.complete(
            Result(
                miner=miner,
                miner_key=await self._public_key(miner),
                attempt=attempt,
                token=result.token,
                output=result.output,
                output_digest=result.output_digest,
                usage=result.usage,
                signature=result.signature,
            )
        )

    async def _public_key(self, miner: str) -> str:
        known = self.public_keys.get(miner)
        if known is None:
            known = (await self.askings.do(miner)).public_key
            if len(self.public_keys) >= PUBLIC_KEYS_MAX:
                self.public_keys.clear()
            self.public_keys[miner] = known
        return known

    async def fail(self, who: Principal, attempt: str, report: ReportFailure) -> Outcome:
        """Give up on an attempt. Raises `MinerNotFound`, `LeaseLost`."""
        return await self.ai.fail(
            Failure(
                miner=miner_of_key(who),
                attempt=attempt,
                token=report.token,
                fault=report.fault,
                reason=report.reason,
                message=report.message,
            )
        )

    async def release(self, who: Principal, attempt: str, wish: ReleaseLease) -> Outcome:
        """Give a lease back unworked. Raises `MinerNotFound`, `LeaseLost`."""
        return await self.ai.release(miner_of_key(who), attempt, wish.token, wish.reason)

    async def tell_parts(self, who: Principal, attempt: str, told: TellParts) -> PartsKept:
        """Pass on pieces of an output while it is made. Raises `MinerNotFound`, `LeaseLost`, `PartsTooLarge`."""
        parts = tuple(Part(sequence=part.sequence, text=part.text) for part in told.parts)
        return await self.ai.tell_parts(Parts(miner=miner_of_key(who), attempt=attempt, token=told.token, parts=parts))

    async def log(self, who: Principal, attempt: str, told: AddLines) -> Kept:
        """Keep log lines. Raises `MinerNotFound`, `LeaseLost`."""
        lines = [LogLine(sequence=line.sequence, at=line.at, text=line.text) for line in told.lines]
        return Kept(kept=await self.ai.log(miner_of_key(who), attempt, told.token, lines))


def _offered(asking: PollContext) -> Capabilities:
    """What a miner offers; one that is booked offers it to the jobs of that booking only."""
    offered = capabilities_of(asking.capabilities)
    if asking.booking is None:
        return offered
    return msgspec.structs.replace(offered, booking=asking.booking, booker=asking.booker)
