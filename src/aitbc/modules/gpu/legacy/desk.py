"""What both older places do for a miner: the same acts behind `/v1/miners` of the service and of the coordinator."""

import secrets

import msgspec
from litestar.datastructures import Headers
from litestar.params import QueryParams

from aitbc.kernel.identity.principal import Principal
from aitbc.modules.ai.api import Lease, Outcome
from aitbc.modules.gpu.api import Inventory, Miner, MinerNotFound
from aitbc.modules.gpu.legacy.capabilities import gpus_of, read_capabilities, with_readings
from aitbc.modules.gpu.legacy.naming import amount_of, asked, miner_name, miner_named, moment, units_of
from aitbc.modules.gpu.legacy.outputs import output_of, payload_of, reason_of, says_failed, usage_of
from aitbc.modules.gpu.legacy.shapes import (
    ASSET,
    STATE,
    Assigned,
    Earned,
    EarningsView,
    FailBody,
    Gpu,
    HeartbeatBody,
    JobView,
    RegisterBody,
    ResultBody,
    as_number,
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
READ = {"permission": "miners:read"}
ASK = {"permission": "miners:read", "idempotency": "natural"}
"""Reads that the older dialect wrote as POST."""
ENROL = {"permission": "miners:enrol", "idempotency": "natural"}
STEER = {"permission": "miners:manage", "idempotency": "natural"}
POLL = STEER | {"waits": True}


async def register(
    gpu: GpuService, who: Principal, headers: Headers, query: QueryParams, data: RegisterBody
) -> tuple[str, Enrolled]:
    """Enrol whoever calls, under its name or a fresh one; answers the name."""
    name = miner_named(headers, query, data.miner_id) or f"miner_{secrets.token_hex(4)}"
    return name, await enrol(gpu, who, name, data)


async def enrol(gpu: GpuService, who: Principal, name: str, data: RegisterBody) -> Enrolled:
    """Enrol a miner under a name."""
    told = read_capabilities(data.capabilities, data.region)
    command = RegisterLegacyMiner(
        legacy_id=name,
        offer=told.offer,
        slots=data.concurrency or 1,
        inventory=told.inventory,
        price_units=told.price_units,
    )
    return await gpu.legacy_miners.register(who, command)


async def change(gpu: GpuService, who: Principal, name: str, data: RegisterBody) -> tuple[LegacyMiner, Enrolled]:
    """Note what a registered miner can do now; what it says nothing of stays."""
    row, _ = await gpu.legacy_keys.acting_miner(who, miner_name(name))
    before = await gpu.legacy_miners.find(who, row.legacy_id)
    told = read_capabilities(data.capabilities, data.region or before.miner.region)
    command = RegisterLegacyMiner(
        legacy_id=row.legacy_id,
        offer=told.offer,
        slots=data.concurrency or before.miner.slots,
        inventory=told.inventory,
        price_units=before.price_units if told.price_units is None else told.price_units,
    )
    enrolled = await gpu.legacy_miners.register(who, command, restarted=False)
    return await gpu.legacy_miners.find(who, row.legacy_id), enrolled


async def beat(gpu: GpuService, who: Principal, headers: Headers, query: QueryParams, data: HeartbeatBody) -> None:
    """Hear a sign of life."""
    row, _ = await gpu.legacy_keys.acting_miner(who, miner_named(headers, query, data.miner_id))
    busy = data.current_jobs if data.inflight is None else data.inflight
    state = data.status.lower()
    sign = LegacyHeartbeat(
        inflight=busy,
        pause=f"the miner says that it is {state}" if state in PAUSED else None,
        leaving=state in LEAVING,
        telemetry=_readings((await gpu.legacy_miners.find(who, row.legacy_id)).miner, data),
    )
    await gpu.legacy_work.heartbeat(who, row.legacy_id, sign)


async def poll(
    gpu: GpuService, who: Principal, headers: Headers, query: QueryParams, told: str | None, wait_seconds: float
) -> Assigned | None:
    """A job, as soon as there is one, or none in time."""
    lease: Lease | None = await gpu.legacy_work.poll(who, miner_named(headers, query, told), wait_seconds)
    if lease is None:
        return None
    model = lease.input.get("model") if isinstance(lease.input, dict) else None
    constraints = {"models": [model]} if isinstance(model, str) else {}
    return Assigned(job_id=lease.job, payload=payload_of(lease), constraints=constraints, expires_at=lease.expires_at)


async def deliver(
    gpu: GpuService, who: Principal, headers: Headers, query: QueryParams, job: str, data: ResultBody
) -> Outcome:
    """Bring a result, or what says that there is none."""
    lease = await gpu.legacy_leases.find(who, miner_named(headers, query, data.miner_id), job)
    if says_failed(data.result, success=data.success):
        message = str(data.result)[:ERROR_LENGTH_MAX]
        report = ReportFailure(token=lease.token, fault="unknown", reason="failed", message=message)
        return await gpu.legacy_work.fail(who, lease, report)
    output = output_of(lease.kind, data.result)
    return await gpu.legacy_work.deliver(who, lease, output, usage_of(data.result, data.metrics or {}))


async def give_up(
    gpu: GpuService, who: Principal, headers: Headers, query: QueryParams, job: str, data: FailBody
) -> Outcome:
    """Say that there will be no result."""
    lease = await gpu.legacy_leases.find(who, miner_named(headers, query, data.miner_id), job)
    error = "" if data.error is None else str(data.error)
    reason, fault = reason_of(data.error_code or "failed")
    message = (data.error_message or error)[:ERROR_LENGTH_MAX]
    assert fault in ("requester", "unknown")
    report = msgspec.convert(
        {"token": lease.token, "fault": fault, "reason": reason, "message": message}, ReportFailure
    )
    return await gpu.legacy_work.fail(who, lease, report)


async def earnings(gpu: GpuService, who: Principal, name: str, query: QueryParams) -> EarningsView:
    """What a miner earned in a time, and what is set aside for it."""
    older, wish = await gpu.legacy_miners.find(who, miner_name(name)), asked(query)
    since, until = moment(wish.from_time, "from_time"), moment(wish.to_time, "to_time")
    found = await gpu.miners.earnings(who, older.miner.id, since, until)
    paid = await gpu.miner_history.paid_jobs(older.miner.id, since, until, HISTORY_MAX)
    return EarningsView(
        miner_id=older.legacy_id,
        total_earnings=as_number(found.earned),
        pending_earnings=as_number(found.pending),
        completed_jobs=found.jobs,
        currency=ASSET,
        from_time=since,
        to_time=until,
        earnings_history=[
            Earned(
                job_id=one.job,
                receipt_id=one.receipt,
                amount=None if one.earned_units is None else amount_of(one.earned_units),
                timestamp=one.ended_at,
            )
            for one in paid
        ],
    )


async def jobs(
    gpu: GpuService, who: Principal, name: str, query: QueryParams
) -> tuple[LegacyMiner, list[JobView], int]:
    """A miner's jobs, and how many there are in all."""
    older, wish = await gpu.legacy_miners.find(who, miner_name(name)), asked(query)
    state = wish.job_status or wish.status
    outcomes = None if state is None else frozenset(one for one, older in STATE.items() if older == state.upper())
    least = None if wish.min_reward is None else units_of(wish.min_reward, "?min_reward")
    found, total = await gpu.miner_history.jobs(
        who,
        older.miner.id,
        WorkedJobFilter(
            kind=wish.job_type or wish.type,
            outcomes=outcomes,
            earned_min_units=least,
            offset=wish.offset,
            limit=wish.limit,
        ),
    )
    return older, [job_view(older.legacy_id, job) for job in found], total


async def remove(gpu: GpuService, who: Principal, name: str) -> LegacyMiner:
    """End a miner for good. Raises `MinerNotFound`, also for one that was removed before."""
    older = await gpu.legacy_miners.find(who, miner_name(name))
    if older.miner.status == Status.REMOVED:
        raise MinerNotFound
    await gpu.miners.remove(who, older.miner.id)
    return older


async def gpus(gpu: GpuService, who: Principal, older: LegacyMiner) -> list[Gpu]:
    """The GPUs of a miner, as it last told of them."""
    record = (await gpu.miner_history.records([older.miner]))[older.miner.id]
    busy = is_busy(older.miner, record)
    return [gpu_view(older, name, device, busy=busy) for name, device in gpus_of(older.miner)]


def _readings(miner: Miner, data: HeartbeatBody) -> Inventory | None:
    """What a heartbeat read of the only GPU; of several nobody can tell which it means."""
    gpus_here = gpus_of(miner)
    if len(gpus_here) != 1 or (data.gpu_utilization is None and data.memory_used is None):
        return None
    place = miner.inventory.devices.index(gpus_here[0][1])
    return with_readings(
        miner.inventory, place, utilization=data.gpu_utilization, used_mib=data.memory_used, celsius=None
    )
