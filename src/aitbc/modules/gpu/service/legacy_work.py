"""Work of legacy miners: a job is given out under its own id, and the server remembers the lease and signs the
result."""

import asyncio
from typing import Any

import msgspec
from msgspec import Struct

from aitbc.kernel.crypto.signing import canonical, value_digest, work_statement
from aitbc.kernel.http.admission import Admitted
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import money
from aitbc.kernel.primitives.errors import Invalid
from aitbc.kernel.primitives.request_id import current_request_id
from aitbc.modules.ai.api import Lease, LeaseLost, Outcome, Renewal
from aitbc.modules.gpu.api import Inventory
from aitbc.modules.gpu.models.devices import shown_gpus
from aitbc.modules.gpu.models.legacy import LegacyLeaseRow
from aitbc.modules.gpu.models.values import Heartbeat
from aitbc.modules.gpu.service.heartbeats import Heartbeats, readings_of
from aitbc.modules.gpu.service.legacy_keys import LegacyKeys
from aitbc.modules.gpu.service.legacy_leases import LegacyLeases
from aitbc.modules.gpu.service.work import WAIT_SECONDS_MAX, AskForWork, DeliverResult, MinerWork, ReportFailure

ERROR_LENGTH_MAX = 2000
CODE_LENGTH_MAX = 40
FAILED = "failed"
"""The reason where a miner gives none."""
REQUESTER = frozenset({"invalid_input", "invalid_request", "bad_request", "validation_error", "unsupported"})
"""Codes by which a miner says that the request itself cannot be fulfilled."""
OVER = "This job was delivered, given up or lost before."


class OutputNotTaken(Invalid):
    """The result is not what this kind of work gives; the job goes to another miner."""

    code = "output_not_taken"


class LegacyHeartbeat(Struct, frozen=True, kw_only=True):
    """A heartbeat of a legacy miner."""

    inflight: int | None = None
    """How many jobs it works on; none leaves what it said before."""
    pause: str | None = None
    leaving: bool = False
    telemetry: Inventory | None = None


class LegacyWork:
    """Polls, results and heartbeats of miners whose keys the server keeps."""

    def __init__(self, keys: LegacyKeys, leases: LegacyLeases, work: MinerWork, heartbeats: Heartbeats) -> None:
        self._keys = keys
        self._leases = leases
        self._work = work
        self._heartbeats = heartbeats

    async def poll(
        self, who: Principal, name: str | None, wait_seconds: float, admission: Admitted | None = None
    ) -> Lease | None:
        """One job, as soon as there is one, or none. Raises `MinerNotFound`, `TooManyPolls`."""
        row, miner = await self._keys.acting_miner(who, name)
        assert row.miner is not None
        await self._heartbeats.record(row.miner)  # each poll of a legacy miner is a heartbeat
        work = await self._work.poll(
            miner, AskForWork(slots=1, wait_seconds=min(max(wait_seconds, 0.0), WAIT_SECONDS_MAX)), admission
        )
        if not work.leases:
            return None
        (lease,) = work.leases
        try:
            await self._leases.add(row.miner, lease)
        except asyncio.CancelledError:  # the client disconnected, or its key ended: nobody receives it
            self._work.take_back(row.miner, [lease])
            raise
        return lease

    async def heartbeat(self, who: Principal, name: str | None, sent: LegacyHeartbeat) -> None:
        """Record a heartbeat, which is one of every job that the miner works on. Raises `MinerNotFound`."""
        row, _ = await self._keys.acting_miner(who, name)
        assert row.miner is not None
        heartbeat = Heartbeat(
            miner=row.miner,
            slots_busy=sent.inflight,
            readings=None if sent.telemetry is None else readings_of(sent.telemetry),
            gpus=None if sent.telemetry is None else shown_gpus(sent.telemetry),
            pause=sent.pause,
            leaving=sent.leaving,
            request_id=current_request_id(),
        )
        held = await self._leases.open_of(row.miner)
        _, leases = await self._heartbeats.renew(
            heartbeat, [Renewal(attempt=lease.attempt, token=lease.token) for lease in held]
        )
        await self._leases.close([lease.attempt for lease in leases if lease.status != "live"])

    async def deliver(self, who: Principal, lease: LegacyLeaseRow, output: Any, usage: dict[str, int]) -> Outcome:
        """Sign a result for its miner and deliver it, once.

        Raises `LeaseLost` for one that was delivered before or came too late, `OutputNotTaken`, `OutputTooLarge`,
        `LegacyKeyLost`.
        """
        if lease.ended_at is not None:
            raise LeaseLost(OVER)
        row, miner = await self._keys.acting_miner(who, lease.miner)
        digest = value_digest(output)
        statement = work_statement(
            job=lease.job,
            attempt=lease.attempt,
            token=lease.token,
            miner=lease.miner,
            kind=lease.kind,
            input_digest=lease.input_digest,
            output_digest=digest,
        )
        result = DeliverResult(
            token=lease.token,
            output=output,
            output_digest=digest,
            usage=usage,
            signature=self._keys.unsealed_key(row).sign(canonical(statement)),
        )
        outcome = await self._work.deliver(miner, lease.attempt, result)
        if outcome.receipt is None:
            await self._leases.close([lease.attempt])
            if outcome.verifying:
                return outcome
            raise OutputNotTaken(state=outcome.state)
        earned = None if outcome.earned is None else money.parse(outcome.earned, zero=True)
        if not await self._leases.close([lease.attempt], receipt=outcome.receipt, earned_units=earned):
            raise LeaseLost(OVER)  # another request delivered the same meanwhile
        return outcome

    async def fail(self, who: Principal, lease: LegacyLeaseRow, code: str, message: str) -> Outcome:
        """Give a job up, for the error code that the miner chose. Raises `LeaseLost`, `MinerNotFound`."""
        if lease.ended_at is not None:
            raise LeaseLost(OVER)
        reason, fault = reason_of(code)
        told = {"token": lease.token, "fault": fault, "reason": reason, "message": message[:ERROR_LENGTH_MAX]}
        report = msgspec.convert(told, ReportFailure)
        _, miner = await self._keys.acting_miner(who, lease.miner)
        outcome = await self._work.fail(miner, lease.attempt, report)
        await self._leases.close([lease.attempt])
        return outcome


def reason_of(code: str) -> tuple[str, str]:
    """The word and whose fault it is, of an error code that a miner chose."""
    plain = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in code.lower()).strip("_")
    word = plain[:CODE_LENGTH_MAX] if plain[:1].isalpha() else FAILED
    return word, "requester" if word in REQUESTER else "unknown"
