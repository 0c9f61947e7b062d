"""The HTTP of verification: whom operators trust, and how checked work went."""

from litestar import Controller, delete, get, put
from litestar.di import NamedDependency
from litestar.params import FromPath
from msgspec import Struct

from aitbc.kernel.identity.principal import Principal
from aitbc.modules.ai.service.checks.trusted_miners import MinerNotKnown, TrackRecord, TrustedMiner, TrustedMiners

OPERATE = {"permission": "jobs:operate", "idempotency": "natural", "errors": (MinerNotKnown,)}


class TrustedMinerList(Struct, frozen=True, kw_only=True):
    """The miners that check the work of others."""

    data: list[TrustedMiner]
    """The trusted miners, at most 1000."""


class TrackRecordList(Struct, frozen=True, kw_only=True):
    """How the checked work of a miner went."""

    data: list[TrackRecord]
    """By kind and model; none where nothing was checked yet."""


class VerificationController(Controller):
    """Verification."""

    path = "/verification"
    tags = ("ai",)

    @get(
        "/trusted-miners",
        operation_id="list_trusted_miners",
        summary="List the trusted miners",
        opt={"permission": "jobs:read"},
    )
    async def list_trusted(self, trusted_miners: NamedDependency[TrustedMiners]) -> TrustedMinerList:
        """List the miners whose word decides in jobs that are verified by `recheck` or `sampled`."""
        return TrustedMinerList(data=list(await trusted_miners.all()))

    @put("/trusted-miners/{miner:str}", operation_id="trust_miner", summary="Trust a miner", opt=OPERATE)
    async def trust(
        self, trusted_miners: NamedDependency[TrustedMiners], who: NamedDependency[Principal], miner: FromPath[str]
    ) -> TrustedMiner:
        """Let a miner check the work of others from its next claim on. Only for operators."""
        return await trusted_miners.set(who, miner, is_trusted=True)

    @delete(
        "/trusted-miners/{miner:str}",
        status_code=200,
        operation_id="distrust_miner",
        summary="Trust a miner no longer",
        opt=OPERATE,
    )
    async def distrust(
        self, trusted_miners: NamedDependency[TrustedMiners], who: NamedDependency[Principal], miner: FromPath[str]
    ) -> TrustedMiner:
        """Let a miner check nothing more; what it has begun to check it may finish. Only for operators."""
        return await trusted_miners.set(who, miner, is_trusted=False)

    @get(
        "/track-records/{miner:str}",
        operation_id="get_track_record",
        summary="See how a miner's checked work went",
        opt={"permission": "jobs:read", "errors": (MinerNotKnown,)},
    )
    async def record(self, trusted_miners: NamedDependency[TrustedMiners], miner: FromPath[str]) -> TrackRecordList:
        """Say how many answers of a miner were compared with others, how many were wrong, and how
        often it is checked.
        """
        return TrackRecordList(data=list(await trusted_miners.records(miner)))
