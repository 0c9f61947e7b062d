"""Legacy miners at `/v1/miners`: they register, send heartbeats, poll and deliver, on the module's port and the
coordinator's."""

import secrets
from typing import Any

import msgspec
from litestar import Controller, Response, delete, get, post, put
from litestar.datastructures import Headers
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParams
from msgspec import UNSET, Struct

from aitbc.kernel.http.admission import Admitted
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.legacy.amounts import optional_amount_of, optional_units_of
from aitbc.kernel.legacy.caller import Who
from aitbc.kernel.legacy.paging import read_query
from aitbc.kernel.legacy.times import time_of
from aitbc.kernel.primitives.money import ASSET
from aitbc.modules.ai.api import Outcome
from aitbc.modules.gpu.api import Inventory, Miner, MinerNotFound
from aitbc.modules.gpu.legacy.caller import ENROL, MANAGE, MINER, POLL, READ, READ_BY_POST, Gpu
from aitbc.modules.gpu.legacy.capabilities import capabilities_of, gpus_of, read_capabilities, with_readings
from aitbc.modules.gpu.legacy.outputs import output_of, payload_of, reason_of, says_failed, usage_of
from aitbc.modules.gpu.legacy.shapes import (
    OUTCOMES,
    Assigned,
    Delivered,
    Done,
    Earned,
    EarningsQuery,
    EarningsView,
    FailBody,
    Failed,
    HeartbeatBody,
    MinerGpu,
    MinerJobs,
    MinerJobsQuery,
    MinerStatus,
    PollBody,
    Receipted,
    RegisterBody,
    Registered,
    Removed,
    ResultBody,
    Updated,
    UpdatedMiner,
    gpu_view,
    is_busy,
    job_view,
)
from aitbc.modules.gpu.models.life import Status
from aitbc.modules.gpu.service import GpuService
from aitbc.modules.gpu.service.enrolment import Enrolled
from aitbc.modules.gpu.service.legacy_miners import LegacyMiner, RegisterLegacyMiner
from aitbc.modules.gpu.service.legacy_work import LegacyHeartbeat
from aitbc.modules.gpu.service.miner_history import WorkedJobFilter
from aitbc.modules.gpu.service.work import ReportFailure

HISTORY_MAX = 100
ERROR_LENGTH_MAX = 2000
LEAVING = frozenset({"offline", "stopped", "shutdown"})
PAUSED = frozenset({"maintenance", "paused", "draining"})


class MinerController(Controller):
    """What both addresses do alike; the answers that differ are made by the subclasses."""

    path = "/v1/miners"
    poll_seconds: float
    """How long a poll waits that does not say how long."""
    no_work_status: int
    """The status of a poll without work; its body is `null`, or none with 204."""

    @post("/register", status_code=200, opt=ENROL)
    async def register(
        self, gpu: Gpu, who: Who, headers: Headers, query: QueryParams, data: JSONBody[RegisterBody]
    ) -> Registered:
        """Register whoever calls, under the name it gives or a fresh one."""
        name = MINER.find(headers, query, data.miner_id) or f"miner_{secrets.token_hex(4)}"
        return await self.registered(gpu, who, name, await enrol(gpu, who, name, data))

    async def registered(self, gpu: GpuService, who: Principal, name: str, enrolled: Enrolled) -> Registered:
        """The answer to a registration."""
        raise NotImplementedError

    @post("/heartbeat", status_code=200, opt=MANAGE)
    async def heartbeat(
        self, gpu: Gpu, who: Who, headers: Headers, query: QueryParams, data: JSONBody[HeartbeatBody]
    ) -> Done:
        """Record a heartbeat."""
        row, _ = await gpu.legacy_keys.acting_miner(who, MINER.find(headers, query, data.miner_id))
        state = data.status.lower()
        heartbeat = LegacyHeartbeat(
            inflight=data.current_jobs if data.inflight is None else data.inflight,
            pause=f"the miner says that it is {state}" if state in PAUSED else None,
            leaving=state in LEAVING,
            telemetry=_readings((await gpu.legacy_miners.find(who, row.legacy_id)).miner, data),
        )
        await gpu.legacy_work.heartbeat(who, row.legacy_id, heartbeat)
        return Done()

    @post("/poll", status_code=200, opt=POLL)
    async def poll(
        self,
        gpu: Gpu,
        who: Who,
        admission: NamedDependency[Admitted],
        headers: Headers,
        query: QueryParams,
        data: JSONBody[PollBody],
    ) -> Response[Assigned | None]:
        """Wait for a job."""
        wait = self.poll_seconds if data.max_wait_seconds is None else data.max_wait_seconds
        lease = await gpu.legacy_work.poll(who, MINER.find(headers, query, data.miner_id), wait, admission)
        if lease is None:
            return Response(None, status_code=self.no_work_status)
        model = lease.input.get("model") if isinstance(lease.input, dict) else None
        constraints = {"models": [model]} if isinstance(model, str) else {}
        payload = payload_of(lease)
        return Response(
            Assigned(job_id=lease.job, payload=payload, constraints=constraints, expires_at=lease.expires_at)
        )

    @post("/{name:str}/result", status_code=200, opt=MANAGE)
    async def result(
        self, gpu: Gpu, who: Who, headers: Headers, query: QueryParams, name: FromPath[str], data: JSONBody[ResultBody]
    ) -> Struct:
        """Deliver the result of a job, or what says that there is none; a second result is refused with 409."""
        lease = await gpu.legacy_leases.find(who, MINER.find(headers, query, data.miner_id), name)
        if says_failed(data.result, success=data.success):
            message = str(data.result)[:ERROR_LENGTH_MAX]
            report = ReportFailure(token=lease.token, fault="unknown", reason="failed", message=message)
            return self.delivered(await gpu.legacy_work.fail(who, lease, report))
        usage = usage_of(data.result, data.metrics or {})
        return self.delivered(await gpu.legacy_work.deliver(who, lease, output_of(lease.kind, data.result), usage))

    def delivered(self, outcome: Outcome) -> Struct:
        """The answer to a result."""
        raise NotImplementedError

    @post("/{name:str}/fail", status_code=200, opt=MANAGE)
    async def fail(
        self, gpu: Gpu, who: Who, headers: Headers, query: QueryParams, name: FromPath[str], data: JSONBody[FailBody]
    ) -> Struct:
        """Give a job up: another miner may have it."""
        lease = await gpu.legacy_leases.find(who, MINER.find(headers, query, data.miner_id), name)
        error = "" if data.error is None else str(data.error)
        reason, fault = reason_of(data.error_code or "failed")
        message = (data.error_message or error)[:ERROR_LENGTH_MAX]
        report = {"token": lease.token, "fault": fault, "reason": reason, "message": message}
        return self.failed(await gpu.legacy_work.fail(who, lease, msgspec.convert(report, ReportFailure)))

    def failed(self, outcome: Outcome) -> Struct:
        """The answer to a failure."""
        raise NotImplementedError

    @post("/{name:str}/earnings", status_code=200, opt=READ_BY_POST)
    async def earnings(self, gpu: Gpu, who: Who, query: QueryParams, name: FromPath[str]) -> EarningsView:
        """What a miner earned in a time, and what is set aside for it."""
        found, wish = await gpu.legacy_miners.find(who, MINER.check(name)), read_query(query, EarningsQuery)
        since, until = time_of(wish.from_time, "from_time"), time_of(wish.to_time, "to_time")
        earned = await gpu.miners.earnings(who, found.miner.id, since, until)
        return EarningsView(
            miner_id=found.legacy_id,
            total_earnings=float(earned.earned),
            pending_earnings=float(earned.pending),
            completed_jobs=earned.jobs,
            currency=ASSET,
            from_time=since,
            to_time=until,
            earnings_history=[
                Earned(
                    job_id=job.job,
                    receipt_id=job.receipt,
                    amount=optional_amount_of(job.earned_units),
                    timestamp=job.ended_at,
                )
                for job in await gpu.miner_history.paid_jobs(found.miner.id, since, until, HISTORY_MAX)
            ],
        )

    @put("/{name:str}/capabilities", opt=ENROL)
    async def capabilities(self, gpu: Gpu, who: Who, name: FromPath[str], data: JSONBody[RegisterBody]) -> Struct:
        """Record what a registered miner can do from now on; what it says nothing of stays."""
        row, _ = await gpu.legacy_keys.acting_miner(who, MINER.check(name))
        before = await gpu.legacy_miners.find(who, row.legacy_id)
        can = read_capabilities(data.capabilities, data.region or before.miner.region)
        command = RegisterLegacyMiner(
            legacy_id=row.legacy_id,
            offer=can.offer,
            slots=data.concurrency or before.miner.slots,
            inventory=can.inventory,
            price_units=before.price_units if can.price_units is None else can.price_units,
        )
        enrolled = await gpu.legacy_miners.register(who, command, restarted=False)
        return self.updated(await gpu.legacy_miners.find(who, row.legacy_id), enrolled)

    def updated(self, miner: LegacyMiner, enrolled: Enrolled) -> Struct:
        """The answer to new capabilities."""
        raise NotImplementedError

    @delete("/{name:str}", status_code=200, opt=MANAGE)
    async def remove(self, gpu: Gpu, who: Who, name: FromPath[str]) -> Struct:
        """Remove a miner for good; what it works on goes to others."""
        return self.removed(await remove(gpu, who, name))

    def removed(self, miner: LegacyMiner) -> Struct:
        """The answer to a removal."""
        raise NotImplementedError


class LegacyMinerController(MinerController):
    """Miners that speak to the module's own port."""

    poll_seconds = 5.0
    no_work_status = 200

    @get("/{name:str}/gpus", opt=READ)
    async def gpus(self, gpu: Gpu, who: Who, name: FromPath[str]) -> list[MinerGpu]:
        """List the GPUs of a miner."""
        return await gpu_views(gpu, await gpu.legacy_miners.find(who, MINER.check(name)))

    async def registered(self, gpu: GpuService, who: Principal, name: str, enrolled: Enrolled) -> Registered:
        """With the number of its GPUs."""
        count = len(gpus_of((await gpu.legacy_miners.find(who, name)).miner))
        return Registered(status="ok", miner_id=name, session_token=enrolled.api_key, gpu_count=count)

    def delivered(self, outcome: Outcome) -> Delivered:
        """Whether the result was accepted."""
        result = "accepted" if outcome.receipt is not None else "failure recorded"
        return Delivered(status="ok", job_id=outcome.job, result=result, receipt_id=outcome.receipt)

    def failed(self, outcome: Outcome) -> Failed:
        """With the state of the job."""
        return Failed(status="ok", job_id=outcome.job, error="recorded", state=outcome.state)

    def updated(self, miner: LegacyMiner, enrolled: Enrolled) -> Updated:
        """What the miner can do."""
        return Updated(status="ok", miner_id=miner.legacy_id, capabilities=capabilities_of(miner))

    def removed(self, miner: LegacyMiner) -> Removed:
        """In words."""
        return Removed(status="ok", miner_id=miner.legacy_id, message=f"Miner {miner.legacy_id} was removed")


class CoordinatorMinerController(MinerController):
    """Miners that speak to the older coordinator."""

    poll_seconds = 15.0
    no_work_status = 204

    @post("/{name:str}/jobs", status_code=200, opt=READ_BY_POST)
    async def jobs(self, gpu: Gpu, who: Who, query: QueryParams, name: FromPath[str]) -> MinerJobs:
        """List what a miner works on and worked on, from the newest on."""
        found, wish = await gpu.legacy_miners.find(who, MINER.check(name)), read_query(query, MinerJobsQuery)
        state = wish.job_status or wish.status
        jobs, total = await gpu.miner_history.jobs(
            who,
            found.miner.id,
            WorkedJobFilter(
                kind=wish.job_type or wish.type,
                outcomes=None if state is None else frozenset(OUTCOMES.states(state)),
                earned_min_units=optional_units_of(wish.min_reward, "?min_reward"),
                offset=wish.offset,
                limit=wish.limit,
            ),
        )
        views = [job_view(found.legacy_id, job) for job in jobs]
        return MinerJobs(jobs=views, total=total, limit=wish.limit, offset=wish.offset, miner_id=found.legacy_id)

    async def registered(self, gpu: GpuService, who: Principal, name: str, enrolled: Enrolled) -> Registered:
        """Without a number of GPUs."""
        return Registered(status="ok", miner_id=name, session_token=enrolled.api_key, gpu_count=UNSET)

    def delivered(self, outcome: Outcome) -> Receipted:
        """The receipt in short; none for a failure."""
        if outcome.receipt is None or outcome.price is None:
            return Receipted(status="ok", receipt=None)
        receipt: dict[str, Any] = {
            "receipt_id": outcome.receipt,
            "job_id": outcome.job,
            "status": "COMPLETED",
            "currency": ASSET,
            "price": float(outcome.price),
            "earned": None if outcome.earned is None else float(outcome.earned),
        }
        return Receipted(status="ok", receipt=receipt)

    def failed(self, outcome: Outcome) -> Done:
        """Nothing more."""
        return Done()

    def updated(self, miner: LegacyMiner, enrolled: Enrolled) -> UpdatedMiner:
        """What the miner can do, and its new API key."""
        return UpdatedMiner(
            miner_id=miner.legacy_id,
            status="updated",
            capabilities=capabilities_of(miner),
            session_token=enrolled.api_key,
        )

    def removed(self, miner: LegacyMiner) -> MinerStatus:
        """That it is gone."""
        return MinerStatus(miner_id=miner.legacy_id, status="deregistered")


async def enrol(gpu: GpuService, who: Principal, name: str, data: RegisterBody) -> Enrolled:
    """Enrol a miner under a name."""
    can = read_capabilities(data.capabilities, data.region)
    command = RegisterLegacyMiner(
        legacy_id=name,
        offer=can.offer,
        slots=data.concurrency or 1,
        inventory=can.inventory,
        price_units=can.price_units,
    )
    return await gpu.legacy_miners.register(who, command)


async def remove(gpu: GpuService, who: Principal, name: str) -> LegacyMiner:
    """End a miner for good. Raises `MinerNotFound`, also for one that was removed before."""
    found = await gpu.legacy_miners.find(who, MINER.check(name))
    if found.miner.status == Status.REMOVED:
        raise MinerNotFound
    await gpu.miners.remove(who, found.miner.id)
    return found


async def gpu_views(gpu: GpuService, found: LegacyMiner) -> list[MinerGpu]:
    """The GPUs of a miner, as it last reported them."""
    record = (await gpu.miner_history.records([found.miner]))[found.miner.id]
    busy = is_busy(found.miner, record)
    return [gpu_view(found, name, device, busy=busy) for name, device in gpus_of(found.miner)]


def _readings(miner: Miner, data: HeartbeatBody) -> Inventory | None:
    """What a heartbeat read of the only GPU; of several nobody knows which it means."""
    gpus = gpus_of(miner)
    if len(gpus) != 1 or (data.gpu_utilization is None and data.memory_used is None):
        return None
    place = miner.inventory.devices.index(gpus[0][1])
    return with_readings(
        miner.inventory, place, utilization=data.gpu_utilization, used_mib=data.memory_used, celsius=None
    )
