"""Heartbeats: how a miner shows that it lives and works on its leases."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from sqlalchemy import update

from aitbc.kernel.database.batcher import Batcher
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.request_id import current_request_id
from aitbc.kernel.primitives.text import Text
from aitbc.modules.ai.api import AiApi, LeaseStatus, Renewal
from aitbc.modules.gpu.api import SLOTS_MAX, Inventory, MinerState
from aitbc.modules.gpu.batched.heartbeats import record_heartbeats
from aitbc.modules.gpu.models.devices import shown_gpus
from aitbc.modules.gpu.models.life import Status
from aitbc.modules.gpu.models.tables import MinerRow
from aitbc.modules.gpu.models.values import Heartbeat, MinerStatus
from aitbc.modules.gpu.service.enrolment import Slots
from aitbc.modules.gpu.service.miner_rows import miner_of_key
from aitbc.modules.gpu.service.settings import GpuSettings

LEASES_MAX = 256
BookingId = Annotated[
    str,
    Meta(max_length=31, pattern=r"^book_[0-9a-z]{26}\Z"),
    Meta(extra_json_schema={"pattern": "^book_[0-9a-z]{26}$", "examples": ["book_01kb2c3d4e5f6g7h8j9kamnpqr"]}),
]
AttemptId = Annotated[
    str,
    Meta(max_length=30, pattern=r"^att_[0-9a-z]{26}\Z"),
    Meta(extra_json_schema={"pattern": "^att_[0-9a-z]{26}$", "examples": ["att_01kb2c3d4e5f6g7h8j9kamnpqr"]}),
]
Token = Annotated[int, Meta(ge=1, le=2**31 - 1, description="The lease's fencing token.")]


class KeepLease(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A lease that the miner still works on."""

    attempt: AttemptId
    """The attempt. For example `att_01k0000000000000000000000a`."""
    token: Token
    """The fencing token of the lease. For example `7`."""
    progress: Annotated[float, Meta(ge=0, le=1)] | None = None
    """The fraction done."""


class SendHeartbeat(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A miner's heartbeat, and that of its leases."""

    slots: Slots
    """How many jobs it takes at once. For example `2`."""
    slots_busy: Annotated[int, Meta(ge=0, le=SLOTS_MAX)]
    """How many it works on. For example `1`."""
    leases: Annotated[tuple[KeepLease, ...], Meta(max_length=LEASES_MAX)] = ()
    """Those that it works on, each to be renewed."""
    telemetry: Inventory | None = None
    """The inventory with fresh readings; left out, the last one stays."""
    pause: Text | None = None
    """Why the miner takes no new work now: a disk that is full, a GPU that was lost. It drains while it says so."""
    leaving: bool = False
    """The miner stops: it is offline at once."""
    machine: BookingId | None = None
    """The booking whose machine is still here, running or not; null for none.
    For example `book_01k0000000000000000000000a`."""


class HeartbeatAnswer(Struct, frozen=True, kw_only=True):
    """What the platform knows of the miner and of its leases."""

    status: MinerState
    """Where the miner is now."""
    message: str | None
    """Why the status is what it is, where there is something to say. For example `drained by its owner`."""
    leases: tuple[LeaseStatus, ...]
    """Stop the work on each that is not `live`; of one that is to `stop`, deliver what was sent in parts."""
    server_time: datetime
    """The platform's clock."""
    heartbeat_seconds: float
    """Send the next one after so long."""
    booking: str | None = None
    """The booking that the miner is in: its booker may want a machine, see `watch_machine`.
    For example `book_01k0000000000000000000000a`."""


class Heartbeats:
    """Recording heartbeats, those of many miners in one transaction, and renewing the leases that they name."""

    def __init__(self, db: Database, ai: AiApi, settings: GpuSettings) -> None:
        self._db = db
        self._ai = ai
        self._interval_seconds = settings.heartbeat_seconds
        grace = timedelta(seconds=settings.offline_seconds)
        self._records: Batcher[Heartbeat, MinerStatus] = Batcher(partial(record_heartbeats, db, grace=grace))

    async def receive(self, who: Principal, sent: SendHeartbeat) -> HeartbeatAnswer:
        """Record a heartbeat, and extend the leases it names. Raises `MinerNotFound`."""
        heartbeat = Heartbeat(
            miner=miner_of_key(who),
            slots=sent.slots,
            slots_busy=sent.slots_busy,
            readings=None if sent.telemetry is None else readings_of(sent.telemetry),
            gpus=None if sent.telemetry is None else shown_gpus(sent.telemetry),
            pause=sent.pause,
            leaving=sent.leaving,
            request_id=current_request_id(),
        )
        miner, leases = await self.renew(
            heartbeat,
            [Renewal(attempt=one.attempt, token=one.token, progress=one.progress) for one in sent.leases],
            machine=sent.machine,
        )
        return HeartbeatAnswer(
            status=miner.status,
            message=miner.reason,
            leases=tuple(leases),
            server_time=now(),
            heartbeat_seconds=self._interval_seconds,
            booking=miner.booking,
        )

    async def renew(
        self, heartbeat: Heartbeat, renewals: Sequence[Renewal], *, machine: str | None = None
    ) -> tuple[MinerStatus, Sequence[LeaseStatus]]:
        """Record a heartbeat and extend leases; a miner that was removed has lost all of them.

        `machine` is the booking whose machine it still has: one of an earlier booking is still to be stopped.

        Raises `MinerNotFound`.
        """
        miner = await self._records.do(heartbeat)
        if miner.status == Status.REMOVED:
            return miner, [LeaseStatus(attempt=one.attempt, status="lost") for one in renewals]
        leases = await self._ai.renew(heartbeat.miner, renewals) if renewals else ()
        has_stopped = machine in (None, miner.booking) and all(lease.status == "live" for lease in leases)
        if miner.stopping_since is not None and has_stopped:
            await self._note_stopped(heartbeat.miner, miner.stopping_since)
        return miner, leases

    async def _note_stopped(self, miner: str, since: datetime) -> None:
        """A miner works on nothing that is over: whoever wants it next may book it."""
        stopped = update(MinerRow).where(MinerRow.id == miner, MinerRow.stopping_since == since)
        async with self._db.unit_of_work() as uow:
            await uow.session.execute(stopped.values(stopping_since=None))

    async def record(self, miner: str) -> MinerStatus:
        """Record that a miner was there, and nothing else of it. Raises `MinerNotFound`."""
        return await self._records.do(Heartbeat(miner=miner, request_id=current_request_id()))


def readings_of(telemetry: Inventory) -> str:
    """An inventory with fresh readings, as it is stored."""
    return msgspec.json.encode(telemetry).decode()
