"""Legacy miners at `/v1/miners`: they register, send heartbeats, poll and deliver, on the module's port and the
coordinator's."""

import secrets
from typing import Any

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
from aitbc.kernel.legacy.task_types import kind_named
from aitbc.kernel.legacy.times import time_of
from aitbc.kernel.primitives.money import ASSET
from aitbc.modules.ai.api import Outcome
from aitbc.modules.gpu.api import Inventory, Miner
from aitbc.modules.gpu.legacy.caller import (
    AS_MINER,
    ENROL,
    MANAGE,
    MINER,
    POLL,
    READ_AS_MINER,
    READ_BY_POST_AS_MINER,
    UPDATE,
    Gpu,
)
from aitbc.modules.gpu.legacy.capabilities import capabilities_of, read_capabilities, read_update, with_readings
from aitbc.modules.gpu.legacy.outputs import output_of, payload_of, says_failed, usage_of
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
    job_view,
)
from aitbc.modules.gpu.models.gpus import gpus_of
from aitbc.modules.gpu.service import GpuService
from aitbc.modules.gpu.service.enrolment import Enrolled
from aitbc.modules.gpu.service.legacy_miners import LegacyMiner, RegisterLegacyMiner
from aitbc.modules.gpu.service.legacy_work import FAILED, LegacyHeartbeat
from aitbc.modules.gpu.service.miner_history import WorkedJobFilter, is_busy

HISTORY_MAX = 100
POLL_SECONDS_MAX = 4.0
"""How long a poll waits at most: legacy clients give up after 5 s, whatever they ask for."""
LEAVING = frozenset({"offline", "stopped", "shutdown"})
PAUSED = frozenset({"maintenance", "paused", "draining"})


class MinerController(Controller):
    """What both addresses do alike; the answers that differ are made by the subclasses."""

    path = "/v1/miners"
    updated_word = "ok"
    """The status of new capabilities."""
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

    @post("/heartbeat", status_code=200, opt=AS_MINER)
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
        """Wait for a job, for as long as a legacy client waits for an answer."""
        wait = POLL_SECONDS_MAX if data.max_wait_seconds is None else min(data.max_wait_seconds, POLL_SECONDS_MAX)
        lease = await gpu.legacy_work.poll(who, MINER.find(headers, query, data.miner_id), wait, admission)
        if lease is None:
            return Response(None, status_code=self.no_work_status)
        model = lease.input.get("model") if isinstance(lease.input, dict) else None
        constraints = {"models": [model]} if isinstance(model, str) else {}
        payload = payload_of(lease)
        return Response(
            Assigned(job_id=lease.job, payload=payload, constraints=constraints, expires_at=lease.expires_at)
        )

    @post("/{name:str}/result", status_code=200, opt=AS_MINER)
    async def result(
        self, gpu: Gpu, who: Who, headers: Headers, query: QueryParams, name: FromPath[str], data: JSONBody[ResultBody]
    ) -> Struct:
        """Deliver the result of a job, or what says that there is none; a second result is refused with 409."""
        lease = await gpu.legacy_leases.find(who, MINER.find(headers, query, data.miner_id), name)
        if says_failed(data.result, success=data.success):
            return self.delivered(await gpu.legacy_work.fail(who, lease, FAILED, str(data.result)))
        usage = usage_of(data.result, data.metrics or {})
        return self.delivered(await gpu.legacy_work.deliver(who, lease, output_of(lease.kind, data.result), usage))

    def delivered(self, outcome: Outcome) -> Struct:
        """The answer to a result."""
        raise NotImplementedError

    @post("/{name:str}/fail", status_code=200, opt=AS_MINER)
    async def fail(
        self, gpu: Gpu, who: Who, headers: Headers, query: QueryParams, name: FromPath[str], data: JSONBody[FailBody]
    ) -> Struct:
        """Give a job up: another miner may have it."""
        lease = await gpu.legacy_leases.find(who, MINER.find(headers, query, data.miner_id), name)
        error = "" if data.error is None else str(data.error)
        code = data.error_code or FAILED
        return self.failed(await gpu.legacy_work.fail(who, lease, code, data.error_message or error))

    def failed(self, outcome: Outcome) -> Struct:
        """The answer to a failure."""
        raise NotImplementedError

    @post("/{name:str}/earnings", status_code=200, opt=READ_BY_POST_AS_MINER)
    async def earnings(self, gpu: Gpu, who: Who, query: QueryParams, name: FromPath[str]) -> EarningsView:
        """What a miner earned in a time, and what is set aside for it."""
        found, wish = await gpu.legacy_miners.find(who, MINER.check(name)), read_query(query, EarningsQuery)
        since, until = time_of(wish.from_time, "from_time"), time_of(wish.to_time, "to_time")
        earned = await gpu.earned.of(who, found.miner.id, since, until)
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

    @put("/{name:str}/capabilities", opt=UPDATE)
    async def capabilities(self, gpu: Gpu, who: Who, name: FromPath[str], data: JSONBody[RegisterBody]) -> Struct:
        """Record what a registered miner can do from now on; what it says nothing of stays."""
        row, _ = await gpu.legacy_keys.acting_miner(who, MINER.check(name))
        before = await gpu.legacy_miners.find(who, row.legacy_id)
        can = read_update(data.capabilities, data.region, before.miner)
        command = RegisterLegacyMiner(
            legacy_id=row.legacy_id,
            offer=can.offer,
            slots=data.concurrency or before.miner.slots,
            inventory=can.inventory,
            price_units=before.price_units if can.price_units is None else can.price_units,
        )
        return await self.updated(gpu, who, command)

    async def updated(self, gpu: GpuService, who: Principal, command: RegisterLegacyMiner) -> Struct:
        """Record new capabilities, and say which they are; the keys of the miner stay."""
        await gpu.legacy_miners.update(who, command)
        miner = await gpu.legacy_miners.find(who, command.legacy_id)
        return Updated(status=self.updated_word, miner_id=miner.legacy_id, capabilities=capabilities_of(miner))

    @delete("/{name:str}", status_code=200, opt=MANAGE)
    async def remove(self, gpu: Gpu, who: Who, name: FromPath[str]) -> Struct:
        """Remove a miner for good; what it works on goes to others."""
        return self.removed(await gpu.legacy_miners.remove(who, MINER.check(name)))

    def removed(self, miner: LegacyMiner) -> Struct:
        """The answer to a removal."""
        raise NotImplementedError


class LegacyMinerController(MinerController):
    """Miners that speak to the module's own port."""

    no_work_status = 200

    @get("/{name:str}/gpus", opt=READ_AS_MINER)
    async def gpus(self, gpu: Gpu, who: Who, name: FromPath[str]) -> list[MinerGpu]:
        """List the GPUs of a miner."""
        return await gpu_views(gpu, await gpu.legacy_miners.find(who, MINER.check(name)))

    async def registered(self, gpu: GpuService, who: Principal, name: str, enrolled: Enrolled) -> Registered:
        """With the number of its GPUs."""
        count = len(gpus_of((await gpu.legacy_miners.find(who, name)).miner))
        return Registered(status="ok", miner_id=name, session_token=enrolled.api_key, gpu_count=count)

    def delivered(self, outcome: Outcome) -> Delivered:
        """Whether the result was accepted."""
        is_taken = outcome.receipt is not None or outcome.verifying
        result = "accepted" if is_taken else "failure recorded"
        return Delivered(status="ok", job_id=outcome.job, result=result, receipt_id=outcome.receipt)

    def failed(self, outcome: Outcome) -> Failed:
        """With the state of the job."""
        return Failed(status="ok", job_id=outcome.job, error="recorded", state=outcome.state)

    def removed(self, miner: LegacyMiner) -> Removed:
        """In words."""
        return Removed(status="ok", miner_id=miner.legacy_id, message=f"Miner {miner.legacy_id} was removed")


class CoordinatorMinerController(MinerController):
    """Miners that speak to the older coordinator."""

    updated_word = "updated"
    no_work_status = 204

    @post("/{name:str}/jobs", status_code=200, opt=READ_BY_POST_AS_MINER)
    async def jobs(self, gpu: Gpu, who: Who, query: QueryParams, name: FromPath[str]) -> MinerJobs:
        """List what a miner works on and worked on, from the newest on."""
        found, wish = await gpu.legacy_miners.find(who, MINER.check(name)), read_query(query, MinerJobsQuery)
        state, task = wish.job_status or wish.status, wish.job_type or wish.type
        jobs, total = await gpu.miner_history.jobs(
            who,
            found.miner.id,
            WorkedJobFilter(
                kind=None if task is None else kind_named(task),
                outcomes=None if state is None else frozenset(OUTCOMES.known_states(state, "?status")),
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

    async def updated(self, gpu: GpuService, who: Principal, command: RegisterLegacyMiner) -> Struct:
        """What the miner can do, and for its owner a new API key of it; one that comes with its own goes on with it."""
        if who.subject is not None:
            return await super().updated(gpu, who, command)
        enrolled = await gpu.legacy_miners.register(who, command, restarted=False)
        miner = await gpu.legacy_miners.find(who, command.legacy_id)
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
