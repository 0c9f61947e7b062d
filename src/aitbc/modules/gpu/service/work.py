"""Work: how it reaches a miner, and how it comes back as a result, a failure or a release."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, Struct

from aitbc.kernel.database.batcher import Batcher
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.http.admission import Admitted
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.errors import TooMany, Unauthenticated, Unavailable
from aitbc.modules.ai.api import (
    AiApi,
    Capabilities,
    Claim,
    Failure,
    Lease,
    LeaseLost,
    Liveness,
    LogLine,
    ManyPartsKept,
    Outcome,
    Part,
    Parts,
    PartsKept,
    Result,
)
from aitbc.modules.gpu.api import SLOTS_MAX, MinerState
from aitbc.modules.gpu.batched.poll_contexts import read_poll_contexts
from aitbc.modules.gpu.models.life import ALIVE, Status
from aitbc.modules.gpu.models.offer import MODELS_MAX, Model, capabilities_of
from aitbc.modules.gpu.models.values import PollContext
from aitbc.modules.gpu.service.enrolment import Signature, Slots
from aitbc.modules.gpu.service.heartbeats import LEASES_MAX, AttemptId, Heartbeats, Token
from aitbc.modules.gpu.service.miner_rows import miner_of_key

WAIT_SECONDS_MAX = 60
PARTS_MAX = 64
PART_LENGTH_MAX = 16_384
LINES_MAX = 1000
LINE_LENGTH_MAX = 16_384
"""The longest line that is accepted; of long ones less is kept."""
STALE_SECONDS = 0.05
"""Work that took longer than this to come is given only after another look at whether its miner may have it."""
NOT_TAKING = "not_taking_work"
PUBLIC_KEYS_MAX = 50_000

POLLS_MAX = 8
"""How many polls of one miner may wait at one time."""

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


Session = Annotated[
    str,
    Meta(min_length=8, max_length=40, pattern=r"^[0-9a-zA-Z_-]+\Z"),
    Meta(extra_json_schema={"pattern": "^[0-9a-zA-Z_-]+$", "examples": ["8f14e45fceea167a"]}),
]


class TooManyPolls(TooMany):
    """Several polls of this miner are waiting already; wait for their answers."""

    code = "too_many_polls"


class AskForWork(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A miner has room for work."""

    slots: Slots
    """How many jobs it can take now. For example `1`."""
    wait_seconds: Annotated[float, Meta(ge=0, le=WAIT_SECONDS_MAX)] = 30.0
    """How long the answer may wait for work to appear."""
    run_seconds_max: Annotated[int, Meta(ge=1, le=86_400)] | None = None
    """Only jobs that may run no longer than this, in seconds: what would outlive its hours is for others.
    For example `3600`."""
    models_free: Annotated[dict[Model, Annotated[int, Meta(ge=0, le=SLOTS_MAX)]], Meta(max_length=MODELS_MAX)] = {}
    """How many more jobs each of these models can take now; one that is not named takes as many as there are slots.
    For example `{"llama3.2:3b": 2}`."""
    session: Session | None = None
    """A word of the miner's own for this run of its program, which then polls one time after the other. A lease that it
    was given before, that `leases` does not name and under which no work began, never arrived: it gets that very one
    again, at once. For example `8f14e45fceea167a`."""
    leases: Annotated[tuple[AttemptId, ...], Meta(max_length=LEASES_MAX)] = ()
    """All leases that the program has at hand, by their attempts; heeded with `session` only. For example
    `["att_01k0000000000000000000000a"]`."""


class Work(Struct, frozen=True, kw_only=True):
    """Leases, or why there are none."""

    leases: tuple[Lease, ...]
    """The leases that it got; may be none."""
    status: MinerState
    """Where the miner is."""
    message: str | None
    """Why it gets none, where its status is the reason. For example `drained by its owner`."""


class Leases(Struct, frozen=True, kw_only=True):
    """The live leases of a miner."""

    leases: tuple[Lease, ...]
    """Those that have not ended."""


class WatchLeases(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Leases that a miner works on, and how long the answer may wait for one of them to end."""

    leases: Annotated[tuple[AttemptId, ...], Meta(min_length=1, max_length=LEASES_MAX)]
    """Their attempts. For example `["att_01k0000000000000000000000a"]`."""
    wait_seconds: Annotated[float, Meta(ge=0, le=WAIT_SECONDS_MAX)] = 30.0
    """How many seconds the answer may wait. For example `30.0`."""


class EndedLeases(Struct, frozen=True, kw_only=True):
    """The leases that are over, or that are to stop; a heartbeat says what became of each."""

    ended: tuple[str, ...]
    """Their attempts. For example `["att_01k0000000000000000000000a"]`."""


class DeliverResult(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The output of an attempt, signed."""

    takes_keys: ClassVar = frozenset({"output"})
    """It is what was signed: one with a key in it is refused as a whole."""
    token: Token
    """The fencing token of the lease. For example `7`."""
    output: Any
    """As JSON; one of more than 64 KiB is uploaded first and referred to as {"artifact", "digest"}."""
    output_digest: Digest
    """SHA-256 of the output as canonical JSON."""
    usage: Annotated[
        dict[Annotated[str, Meta(max_length=40)], Annotated[int, Meta(ge=0, le=2**53 - 1)]], Meta(max_length=32)
    ] = {}
    """What the miner counted: evidence, not authority."""
    signature: Signature
    """Over the canonical work statement."""


class ReportFailure(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An attempt failed."""

    token: Token
    """The fencing token of the lease. For example `7`."""
    fault: Literal["requester", "miner", "platform", "unknown"]
    """Whose fault it was."""
    reason: Reason
    """Why, in one word of the miner's. For example `out_of_memory`."""
    message: Annotated[str, Meta(max_length=16_384)] = ""
    """What happened, for the job's owner. For example `CUDA out of memory`."""


class ReleaseLease(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A lease is released unworked."""

    token: Token
    """The fencing token of the lease. For example `7`."""
    reason: Reason
    """Why, in one word of the miner's. For example `out_of_memory`."""


class AddLine(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of a job's log."""

    sequence: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    """Its number within the attempt, from 1. For example `1`."""
    at: Annotated[datetime, Meta(tz=True)]
    """When it was written."""
    text: Annotated[str, Meta(max_length=LINE_LENGTH_MAX)]
    """The line. For example `loading the model`."""


class AddLines(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Lines of a job's log."""

    token: Token
    """The fencing token of the lease. For example `7`."""
    lines: Annotated[tuple[AddLine, ...], Meta(min_length=1, max_length=LINES_MAX)]
    """The lines, by their sequence."""


class TellPart(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A piece of an output's text."""

    sequence: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    """Its number within the attempt, from 1. For example `1`."""
    text: Annotated[str, Meta(min_length=1, max_length=PART_LENGTH_MAX)]
    """The text. For example `Hello`."""


class TellParts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Pieces of an output while it is made; without any it only asks whether to go on."""

    token: Token
    """The fencing token of the lease. For example `7`."""
    parts: Annotated[tuple[TellPart, ...], Meta(max_length=PARTS_MAX)] = ()
    """The pieces, by their sequence."""


class LeaseParts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Pieces of one lease's output."""

    attempt: AttemptId
    """The attempt. For example `att_01k0000000000000000000000a`."""
    token: Token
    """The fencing token of the lease. For example `7`."""
    parts: Annotated[tuple[TellPart, ...], Meta(max_length=PARTS_MAX)] = ()
    """The pieces, by their sequence; without any it only asks whether to go on."""


class TellAllParts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Pieces of the outputs that a miner makes at one moment."""

    leases: Annotated[tuple[LeaseParts, ...], Meta(min_length=1, max_length=SLOTS_MAX)]
    """Each lease that streams, once."""


class LeasePartsKept(Struct, frozen=True, kw_only=True):
    """How far one lease's parts are kept, and whether its work should go on."""

    attempt: str
    """The attempt. For example `att_01k0000000000000000000000a`."""
    status: Liveness
    """`live`; `stop` (nothing more is kept: deliver the parts up to `kept` as the result); `canceled`; or `lost`."""
    kept: int
    """The highest sequence that is stored. 0 where `refused` says why. For example `3`."""
    heard: int
    """The highest sequence that came, stored or soon to be: send the parts after it, and hold on to those after `kept`,
    which a crash of the server may lose. Without parts to send, ask with none: then all that came is stored first. For
    example `5`."""
    refused: str | None = None
    """The code of the error that refused these parts, as the route of a single lease answers it; else null.
    For example `parts_too_large`."""


class AllPartsKept(Struct, frozen=True, kw_only=True):
    """What became of the parts."""

    leases: tuple[LeasePartsKept, ...]
    """Each lease that was named, in the same order."""


class Kept(Struct, frozen=True, kw_only=True):
    """How far the log is kept."""

    kept: int
    """The highest sequence; send the lines after it."""


class MinerWork:
    """The calls of a miner for its work. All act for the miner that the key belongs to, and for no other."""

    def __init__(self, db: Database, ai: AiApi, heartbeats: Heartbeats) -> None:
        self._ai = ai
        self._heartbeats = heartbeats
        self._contexts: Batcher[str, PollContext] = Batcher(lambda batch: read_poll_contexts(db, batch))
        self._public_keys: dict[str, str] = {}
        """Those of miners that have delivered to this process: a miner has one for as long as it lives."""
        self._returns: set[asyncio.Task[None]] = set()
        """The releases of leases that nobody received."""
        self._polls: Counter[str] = Counter()
        """How many polls of each miner wait in this process."""

    async def poll(self, who: Principal, wish: AskForWork, admission: Admitted | None = None) -> Work:
        """Work for a miner, as soon as there is some; none where its key ended meanwhile.

        Raises `MinerNotFound`, `TooManyPolls`, `Unauthenticated`.
        """
        miner = miner_of_key(who)
        with self._waiting(miner):
            return await self._poll(miner, wish, admission)

    @contextmanager
    def _waiting(self, miner: str) -> Iterator[None]:
        """Count a call that waits. Raises `TooManyPolls`."""
        if self._polls[miner] >= POLLS_MAX:
            raise TooManyPolls
        self._polls[miner] += 1
        try:
            yield
        finally:
            self._polls[miner] -= 1
            if not self._polls[miner]:
                del self._polls[miner]

    async def watch(self, who: Principal, wish: WatchLeases) -> EndedLeases:
        """Wait for the end of leases that others end: the job's owner, a clock. Raises `TooManyPolls`."""
        miner = miner_of_key(who)
        with self._waiting(miner):
            return EndedLeases(ended=tuple(await self._ai.until_over(miner, wish.leases, wish.wait_seconds)))

    async def _poll(self, miner: str, wish: AskForWork, admission: Admitted | None) -> Work:
        context = await self._contexts.do(miner)
        if context.status not in ALIVE and context.status != Status.REMOVED:
            miner_now = await self._heartbeats.record(context.id)  # who asks is there
            context = msgspec.structs.replace(context, status=miner_now.status, reason=miner_now.reason)
        if context.status != Status.ONLINE:
            return Work(leases=(), status=context.status, message=context.reason)
        return await self._claim(context, wish, admission)

    async def _claim(self, context: PollContext, wish: AskForWork, admission: Admitted | None) -> Work:
        """Claim; a claim that took longer than `STALE_SECONDS` is checked again before the miner gets its leases."""
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        claim = Claim(
            miner=context.id,
            miner_account=context.account,
            capabilities=_offered(context, wish),
            slots=wish.slots,
            slots_total=context.slots,
            models_free=wish.models_free,
            wait_seconds=wish.wait_seconds,
            newcomer=context.score.newcomer,
            reputation=context.score.value,
            session=wish.session,
            at_hand=wish.leases,
        )
        leases = await self._ai.claim(claim)
        if loop.time() - asked_at <= STALE_SECONDS:
            return Work(leases=tuple(leases), status=context.status, message=context.reason)
        try:
            return await self._give_checked(context, leases, admission)
        except asyncio.CancelledError:  # the client disconnected, or its key ended: nobody receives them
            self.take_back(context.id, leases)
            raise

    async def _give_checked(self, before: PollContext, leases: Sequence[Lease], admission: Admitted | None) -> Work:
        """The leases, after another look at whether the miner may have them, and its key is still one."""
        context = before
        with suppress(Unavailable):  # what is leased already is better given than lost
            context = await self._contexts.do(before.id)
        if leases and admission is not None and not await admission.is_valid():
            await self._release_all(context.id, leases)
            raise Unauthenticated
        changed = (context.booking, context.capabilities) != (before.booking, before.capabilities)
        if changed or context.status not in (Status.ONLINE, Status.OFFLINE):
            await self._release_all(context.id, leases)
            leases = ()
        return Work(leases=tuple(leases), status=context.status, message=context.reason)

    def take_back(self, miner: str, leases: Sequence[Lease]) -> None:
        """Release leases that were made for a request which was cancelled, after it."""
        if leases:
            task = asyncio.create_task(self._release_all(miner, leases))
            self._returns.add(task)
            task.add_done_callback(self._returns.discard)

    async def _release_all(self, miner: str, leases: Sequence[Lease]) -> None:
        for lease in leases:
            with suppress(LeaseLost, Unavailable):  # else it is lost by its clock
                await self._ai.release(miner, lease.attempt, lease.token, NOT_TAKING)

    async def leases(self, who: Principal) -> Leases:
        """What the miner has at hand, for one that lost an answer or was restarted. Raises `MinerNotFound`."""
        return Leases(leases=tuple(await self._ai.leases_of(miner_of_key(who))))

    async def deliver(self, who: Principal, attempt: str, result: DeliverResult) -> Outcome:
        """Deliver a result, under the public key that the miner enrolled with.

        Raises `MinerNotFound`, `LeaseLost`, `HoldExpired`, `WrongSignature`, `WrongDigest`, `OutputTooLarge`.
        """
        miner = miner_of_key(who)
        return await self._ai.complete(
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
        known = self._public_keys.get(miner)
        if known is None:
            known = (await self._contexts.do(miner)).public_key
            if len(self._public_keys) >= PUBLIC_KEYS_MAX:
                self._public_keys.clear()
            self._public_keys[miner] = known
        return known

    async def fail(self, who: Principal, attempt: str, report: ReportFailure) -> Outcome:
        """Give up on an attempt. Raises `MinerNotFound`, `LeaseLost`."""
        return await self._ai.fail(
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
        return await self._ai.release(miner_of_key(who), attempt, wish.token, wish.reason)

    async def keep_parts(self, who: Principal, attempt: str, sent: TellParts) -> PartsKept:
        """Pass on pieces of an output while it is made. Raises `MinerNotFound`, `LeaseLost`, `PartsTooLarge`."""
        return await self._ai.tell_parts(_parts(who, attempt, sent))

    async def keep_all_parts(self, who: Principal, sent: TellAllParts) -> AllPartsKept:
        """Pass on pieces of many outputs at once. Raises `MinerNotFound`."""
        told = [_parts(who, lease.attempt, lease, may_wait=True) for lease in sent.leases]
        all_kept = await self._ai.tell_all_parts(told)
        return AllPartsKept(leases=tuple(map(_kept, told, all_kept)))

    async def log(self, who: Principal, attempt: str, sent: AddLines) -> Kept:
        """Keep log lines. Raises `MinerNotFound`, `LeaseLost`."""
        lines = [LogLine(sequence=line.sequence, at=line.at, text=line.text) for line in sent.lines]
        return Kept(kept=await self._ai.log(miner_of_key(who), attempt, sent.token, lines))


def _parts(who: Principal, attempt: str, sent: TellParts | LeaseParts, *, may_wait: bool = False) -> Parts:
    parts = tuple(Part(sequence=part.sequence, text=part.text) for part in sent.parts)
    return Parts(miner=miner_of_key(who), attempt=attempt, token=sent.token, parts=parts, may_wait=may_wait)


def _kept(told: Parts, kept: ManyPartsKept) -> LeasePartsKept:
    return LeasePartsKept(
        attempt=told.attempt, status=kept.status, kept=kept.kept, heard=kept.heard, refused=kept.refused
    )


def _offered(context: PollContext, wish: AskForWork) -> Capabilities:
    """What a miner offers; one that is booked offers it to the jobs of that booking only."""
    offered = capabilities_of(context.capabilities, context.shown)
    if wish.run_seconds_max is not None:
        offered = msgspec.structs.replace(offered, run_seconds_max=wish.run_seconds_max)
    if full := {model for model, free in wish.models_free.items() if not free}:
        models = {kind: tuple(one for one in served if one not in full) for kind, served in offered.models.items()}
        offered = msgspec.structs.replace(offered, models=models)
    if context.booking is None:
        return offered
    return msgspec.structs.replace(offered, booking=context.booking, booker=context.booker)
