"""The HTTP of the fleet: enrolment, and what owners see and steer."""

from datetime import datetime, timedelta
from typing import Annotated, Literal

from litestar import Controller, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from msgspec import Meta, Struct

from aitbc.kernel.http.positions import after_id
from aitbc.kernel.identity.accounts import KeyBeingReplaced
from aitbc.kernel.identity.principal import PUBLIC, Principal
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.pagination import Cursor, InvalidCursor, Limit, Page
from aitbc.kernel.primitives.text import Text
from aitbc.modules.ai.api import MinerProspects
from aitbc.modules.gpu.api import Miner, MinerNotFound
from aitbc.modules.gpu.models.earnings import EarningsEstimate, MinerEarnings
from aitbc.modules.gpu.models.readings import Reading, Step
from aitbc.modules.gpu.routes.protocol import MinerProtocolUnsupported, require_protocol
from aitbc.modules.gpu.service.earned import Earned
from aitbc.modules.gpu.service.enrolment import (
    Enrol,
    Enrolled,
    Enrolment,
    EnrolmentToken,
    EnrolmentTokenUsed,
    InvalidEnrolmentToken,
    MakeEnrolmentToken,
    PublicKeyTaken,
    TooManyMiners,
    TooManyTokens,
    WrongProof,
)
from aitbc.modules.gpu.service.miners import MinerRemoved, Miners
from aitbc.modules.gpu.service.readings import Readings
from aitbc.modules.gpu.service.reputation import Reputation, Reputations

LIST = "gpu.miners"
A_DAY = timedelta(days=1)
StatusName = Literal["enrolled", "online", "draining", "offline", "removed"]
READ = {"permission": "miners:read", "errors": (MinerNotFound,)}
STEER = {"permission": "miners:manage", "idempotency": "natural", "errors": (MinerNotFound, MinerRemoved)}


class DrainMiner(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a miner takes no more work; it is shown wherever the miner is."""

    message: Text = "drained by its owner"
    """The reason, for people. For example `new fans`."""


DeviceUuid = Annotated[str, Meta(max_length=128)]
OfGpu = Annotated[DeviceUuid | None, QueryParameter(name="gpu")]
"""Named otherwise than the service `gpu`, which handlers may take."""
ReadingsLimit = Annotated[int, Meta(ge=1, le=1000, description="How many are listed at most.")]


EstimatedKinds = Annotated[list[Annotated[str, Meta(min_length=1, max_length=64)]], Meta(min_length=1, max_length=16)]
EstimatedSlots = Annotated[int, Meta(ge=1, le=64, description="How many jobs it would work on at once.")]


class ReadingList(Struct, frozen=True, kw_only=True):
    """What GPUs read, the newest first."""

    data: tuple[Reading, ...]
    """The readings."""


class EnrolmentController(Controller):
    """How a machine becomes a miner."""

    tags = ("miners",)

    @post(
        "/enrolment-tokens",
        operation_id="create_enrolment_token",
        summary="Make an enrolment token",
        opt={"permission": "miners:enrol", "idempotency": "natural", "errors": (TooManyTokens, KeyBeingReplaced)},
    )
    async def create_token(
        self, enrolment: NamedDependency[Enrolment], who: NamedDependency[Principal], data: JSONBody[MakeEnrolmentToken]
    ) -> EnrolmentToken:
        """Make a token that enrols one miner of the caller's account, once, within its time.

        The token is in this answer and is never shown again, so the answer is not kept for a replay.
        """
        return await enrolment.create_token(who, data.expires_seconds)

    @post(
        "/enrolments",
        operation_id="enrol_miner",
        summary="Enrol a miner",
        guards=[require_protocol],
        opt={
            "permission": PUBLIC,
            "idempotency": "natural",
            "errors": (
                InvalidEnrolmentToken,
                EnrolmentTokenUsed,
                PublicKeyTaken,
                TooManyMiners,
                WrongProof,
                MinerProtocolUnsupported,
            ),
        },
    )
    async def enrol(self, enrolment: NamedDependency[Enrolment], data: JSONBody[Enrol]) -> Enrolled:
        """Enrol the machine that sends this: the token admits it, the signature shows that it holds the private key.

        Sending it again with the same public key answers the same miner with a fresh API key and ends the earlier ones,
        so a lost answer costs nothing; a miner whose key has run out comes back with a new token.
        """
        return await enrolment.enrol(data)


class MinerController(Controller):
    """Miners, as their owners see and steer them."""

    path = "/miners"
    tags = ("miners",)

    @get(
        "/",
        operation_id="list_miners",
        summary="List miners",
        opt={"permission": "miners:read", "errors": (InvalidCursor,)},
    )
    async def list_miners(
        self,
        miners: NamedDependency[Miners],
        who: NamedDependency[Principal],
        status: FromQuery[StatusName | None] = None,
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[Miner]:
        """List the caller's miners from the newest on, those of everybody for an admin."""
        bound = (status or "",)
        after = after_id(LIST, cursor, "mnr", bound_to=bound)
        found = await miners.page(who, status=status, after=after, limit=limit + 1)
        return Page.of(LIST, found, limit, lambda miner: miner.id, bound_to=bound)

    @get("/{miner:str}", operation_id="get_miner", summary="Get a miner", opt=READ)
    async def get_miner(
        self, miners: NamedDependency[Miners], who: NamedDependency[Principal], miner: FromPath[str]
    ) -> Miner:
        """Get one miner: where it is and why, what it offers, what it found in itself, what its reputation is."""
        return await miners.owned(who, miner)

    @post("/{miner:str}/drain", operation_id="drain_miner", summary="Drain a miner", status_code=200, opt=STEER)
    async def drain(
        self,
        miners: NamedDependency[Miners],
        who: NamedDependency[Principal],
        miner: FromPath[str],
        data: JSONBody[DrainMiner],
    ) -> Miner:
        """Let a miner finish what it works on and give it nothing new, until it is resumed."""
        return await miners.drain(who, miner, data.message)

    @post("/{miner:str}/resume", operation_id="resume_miner", summary="Resume a miner", status_code=200, opt=STEER)
    async def resume(
        self, miners: NamedDependency[Miners], who: NamedDependency[Principal], miner: FromPath[str]
    ) -> Miner:
        """Let a drained miner have work again."""
        return await miners.drain(who, miner, None)

    @delete(
        "/{miner:str}",
        operation_id="remove_miner",
        summary="Remove a miner",
        status_code=200,
        opt={"permission": "miners:manage", "idempotency": "natural", "errors": (MinerNotFound,)},
    )
    async def remove(
        self, miners: NamedDependency[Miners], who: NamedDependency[Principal], miner: FromPath[str]
    ) -> Miner:
        """Remove a miner for good: its key ends, what it works on goes to others, its history stays."""
        return await miners.remove(who, miner)

    @get("/{miner:str}/reputation", operation_id="get_reputation", summary="Explain a reputation", opt=READ)
    async def reputation(
        self, reputations: NamedDependency[Reputations], who: NamedDependency[Principal], miner: FromPath[str]
    ) -> Reputation:
        """Work a miner's reputation out from its stored attempts, and show what went into it.

        Only two things count: attempts that succeeded, and attempts that ended by the miner's own fault.
        """
        return await reputations.explain(who, miner)

    @get("/{miner:str}/readings", operation_id="list_readings", summary="List what a miner's GPUs read", opt=READ)
    async def readings(
        self,
        readings: NamedDependency[Readings],
        who: NamedDependency[Principal],
        miner: FromPath[str],
        step: FromQuery[Literal["minute", "hour"]] = "minute",
        of_gpu: OfGpu = None,
        since: FromQuery[datetime | None] = None,
        limit: FromQuery[ReadingsLimit] = 100,
    ) -> ReadingList:
        """List the newest readings of a miner's GPUs: by minute for a day, by hour for 90 days.

        Null is what a GPU's driver does not give.
        """
        found = await readings.of(who, miner, step=Step(step), uuid=of_gpu, since=since, limit=limit)
        return ReadingList(data=tuple(found))

    @get("/{miner:str}/why", operation_id="explain_miner", summary="See why a miner got work, or did not", opt=READ)
    async def why(
        self,
        miners: NamedDependency[Miners],
        who: NamedDependency[Principal],
        miner: FromPath[str],
        since: FromQuery[datetime | None] = None,
    ) -> MinerProspects:
        """Count the jobs since a time, a day if none is given: those the miner took, those it cannot do and why, and
        those it could do and did not get, by what it offers now.
        """
        return await miners.why(who, miner, since or now() - A_DAY)

    @get("/{miner:str}/earnings", operation_id="get_earnings", summary="Read what a miner earned", opt=READ)
    async def earnings(
        self,
        earned: NamedDependency[Earned],
        who: NamedDependency[Principal],
        miner: FromPath[str],
        since: FromQuery[datetime | None] = None,
    ) -> MinerEarnings:
        """Sum up a miner's receipts, all of them or those since a time, by GPU, and what is set aside for its jobs now;
        and say what miners like it were paid for others' work in the last seven days.
        """
        return await earned.of(who, miner, since)

    @get(
        "/earnings-estimate",
        operation_id="estimate_earnings",
        summary="Read what a further miner would have earned",
        opt={"permission": "miners:read"},
    )
    async def estimate(
        self,
        earned: NamedDependency[Earned],
        kinds: FromQuery[EstimatedKinds],
        slots: FromQuery[EstimatedSlots] = 1,
    ) -> EarningsEstimate:
        """Divide what was paid in the last seven days for work of these kinds by all slots that compete for it, those
        of the further miner included. Null, and `no data`, where nothing was paid.
        """
        return await earned.expected(kinds, slots)
