"""The HTTP of miners: heartbeats, polls, and what becomes of their leases."""

from litestar import Controller, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from aitbc.kernel.http.admission import Admitted
from aitbc.kernel.identity.principal import Principal
from aitbc.modules.ai.api import (
    HoldExpired,
    LeaseLost,
    NotToldInParts,
    Outcome,
    OutputTooLarge,
    PartsKept,
    PartsTooLarge,
    StopAsked,
    WrongDigest,
    WrongSignature,
)
from aitbc.modules.gpu.api import Miner, MinerNotFound
from aitbc.modules.gpu.models.offer import Offer
from aitbc.modules.gpu.routes.protocol import MinerProtocolUnsupported, require_protocol
from aitbc.modules.gpu.service.heartbeats import HeartbeatAnswer, Heartbeats, SendHeartbeat
from aitbc.modules.gpu.service.miners import MinerRemoved, Miners
from aitbc.modules.gpu.service.work import (
    AddLines,
    AllPartsKept,
    AskForWork,
    DeliverResult,
    EndedLeases,
    Kept,
    Leases,
    MinerWork,
    ReleaseLease,
    ReportFailure,
    TellAllParts,
    TellParts,
    TooManyPolls,
    WatchLeases,
    Work,
)

MINER = {
    "permission": "miners:work",
    "idempotency": "natural",  # a fencing token or a newest value makes each of them harmless to repeat
    "errors": (MinerNotFound, MinerProtocolUnsupported),
}
LEASE = MINER | {"errors": (MinerNotFound, LeaseLost, MinerProtocolUnsupported)}
POLL = MINER | {"waits": True, "errors": (MinerNotFound, TooManyPolls, MinerProtocolUnsupported)}
DELIVER_ERRORS = (
    *(MinerNotFound, LeaseLost, HoldExpired, StopAsked, WrongSignature, WrongDigest, OutputTooLarge),
    MinerProtocolUnsupported,
)


class WorkController(Controller):
    """The calls of a miner, each for the miner that the key belongs to."""

    tags = ("work",)
    guards = (require_protocol,)

    @post("/heartbeats", operation_id="send_heartbeat", summary="Send a heartbeat", status_code=200, opt=MINER)
    async def heartbeat(
        self, heartbeats: NamedDependency[Heartbeats], who: NamedDependency[Principal], data: JSONBody[SendHeartbeat]
    ) -> HeartbeatAnswer:
        """Show that the miner lives and works on its leases: each that is still its own is extended.

        A miner that is silent for 30 seconds is offline; one that says why it cannot take work drains.
        """
        return await heartbeats.receive(who, data)

    @post("/polls", operation_id="poll_for_work", summary="Ask for work", status_code=200, opt=POLL)
    async def poll(
        self,
        work: NamedDependency[MinerWork],
        who: NamedDependency[Principal],
        admission: NamedDependency[Admitted],
        data: JSONBody[AskForWork],
    ) -> Work:
        """Ask for up to `slots` jobs; the answer waits for one to appear, and is empty when none did in time.

        A miner that drains or was removed gets none, and the answer says why. What an answer that was lost held is
        found again with `GET /api/v1/gpu/leases`.
        """
        return await work.poll(who, data, admission)

    @get(
        "/leases",
        operation_id="list_leases",
        summary="List the miner's leases",
        opt={"permission": "miners:work", "errors": (MinerNotFound, MinerProtocolUnsupported)},
    )
    async def leases(self, work: NamedDependency[MinerWork], who: NamedDependency[Principal]) -> Leases:
        """List the miner's live leases, all of them: for one that was restarted or lost an answer."""
        return await work.leases(who)

    @post("/leases/watch", operation_id="watch_leases", summary="Watch leases", status_code=200, opt=POLL)
    async def watch(
        self, work: NamedDependency[MinerWork], who: NamedDependency[Principal], data: JSONBody[WatchLeases]
    ) -> EndedLeases:
        """Wait until one of these leases is over or is to stop, so that canceled work ends at once.

        The answer is empty when none did in time. A heartbeat then says what became of each.
        """
        return await work.watch(who, data)

    @post(
        "/leases/{attempt:str}/result",
        operation_id="deliver_result",
        summary="Deliver a result",
        status_code=200,
        opt=MINER | {"errors": DELIVER_ERRORS},
    )
    async def result(
        self,
        work: NamedDependency[MinerWork],
        who: NamedDependency[Principal],
        attempt: FromPath[str],
        data: JSONBody[DeliverResult],
    ) -> Outcome:
        """Deliver a signed result: it is checked, metered, paid, and answered with its receipt.

        Delivering the same result again answers the same. A result for a lease that was lost is refused and not paid.
        """
        return await work.deliver(who, attempt, data)

    @post(
        "/leases/{attempt:str}/failure",
        operation_id="report_failure",
        summary="Report a failure",
        status_code=200,
        opt=LEASE,
    )
    async def failure(
        self,
        work: NamedDependency[MinerWork],
        who: NamedDependency[Principal],
        attempt: FromPath[str],
        data: JSONBody[ReportFailure],
    ) -> Outcome:
        """Say that an attempt failed, and whose fault it was: the job is tried again or ends."""
        return await work.fail(who, attempt, data)

    @post(
        "/leases/{attempt:str}/release",
        operation_id="release_lease",
        summary="Give a lease back",
        status_code=200,
        opt=LEASE,
    )
    async def release(
        self,
        work: NamedDependency[MinerWork],
        who: NamedDependency[Principal],
        attempt: FromPath[str],
        data: JSONBody[ReleaseLease],
    ) -> Outcome:
        """Give a lease back unworked: the attempt does not count, and another miner may have the job."""
        return await work.release(who, attempt, data)

    @post(
        "/leases/{attempt:str}/log", operation_id="add_log_lines", summary="Add log lines", status_code=200, opt=LEASE
    )
    async def log(
        self,
        work: NamedDependency[MinerWork],
        who: NamedDependency[Principal],
        attempt: FromPath[str],
        data: JSONBody[AddLines],
    ) -> Kept:
        """Add lines to the job's log; lines that are kept already are passed over."""
        return await work.log(who, attempt, data)

    @post(
        "/leases/{attempt:str}/parts",
        operation_id="tell_parts",
        summary="Tell parts of an output",
        status_code=200,
        opt=LEASE | {"errors": (MinerNotFound, LeaseLost, NotToldInParts, PartsTooLarge, MinerProtocolUnsupported)},
    )
    async def parts(
        self,
        work: NamedDependency[MinerWork],
        who: NamedDependency[Principal],
        attempt: FromPath[str],
        data: JSONBody[TellParts],
    ) -> PartsKept:
        """Send pieces of an output's text while it is made; the answer says whether to go on.

        Pieces that are kept already are passed over. On `stop` nothing more is kept: deliver the text up to `kept` as
        the result, within 10 seconds. Without a piece it is only the question; ask every second, so that a stop is
        noticed soon.
        """
        return await work.keep_parts(who, attempt, data)

    @post(
        "/parts",
        operation_id="tell_all_parts",
        summary="Tell parts of many outputs",
        status_code=200,
        opt=MINER,
    )
    async def all_parts(
        self, work: NamedDependency[MinerWork], who: NamedDependency[Principal], data: JSONBody[TellAllParts]
    ) -> AllPartsKept:
        """Send pieces of all outputs that are made at this moment, in one request; each lease has its own answer."""
        return await work.keep_all_parts(who, data)

    @put(
        "/miners/{miner:str}/capabilities",
        operation_id="set_capabilities",
        summary="Say what the miner can take",
        opt=MINER | {"errors": (MinerNotFound, MinerRemoved, MinerProtocolUnsupported)},
    )
    async def capabilities(
        self,
        miners: NamedDependency[Miners],
        who: NamedDependency[Principal],
        miner: FromPath[str],
        data: JSONBody[Offer],
    ) -> Miner:
        """Say what the miner can take from now on. Only the miner itself may."""
        return await miners.set_offer(who, miner, data)
