"""Claims that reserve GPUs: what they cost beside claims of the same miners that need none."""

import asyncio
import time
from collections.abc import Sequence

import msgspec

from aitbc.kernel.database.migrations import Part, migrate
from aitbc.kernel.database.unit_of_work import Database, Target
from aitbc.kernel.database.write_batch import WriteBatch
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.modules.ai.api import Capabilities, Claim, GpuClass, Lease
from aitbc.modules.ai.batched.claim import Dealer
from aitbc.modules.ai.batched.submit import INSERT_JOBS
from aitbc.modules.ai.models.devices import LeasableDevice, devices_text
from aitbc.modules.ai.models.kinds.registry import kind_of
from aitbc.modules.ai.models.queue import Needs
from aitbc.modules.ai.models.submit_job import SubmitJob
from aitbc.modules.ai.models.tables import Base
from aitbc.modules.ai.service.planner import Plan, job_of
from aitbc.server.postgres.embedded import EmbeddedPostgres
from tests.bench.figures import Measured
from tests.bench.ground import Ground

MINERS, GPUS, BATCH = 1000, 8, 50
NAME = "NVIDIA H100 80GB HBM3"
MEMORY_MIB = 81_079
ADD_MINERS = """
INSERT INTO ai.miners (id, version, status, kinds, models, programs, device, gpu_models, vram_mib, slots, devices, changed_at)
SELECT id, 1, 'online', '{command}', '{}', '{train}', 'gpu', '{}', $3, 8, devices, now()
FROM unnest($1::uuid[], $2::text[]) AS v(id, devices)"""


def measure(ground: Ground) -> dict[str, Measured]:
    """`device_claim_us` and `device_claim_vs_plain`."""
    server = EmbeddedPostgres(ground.folder / "devices")
    address = server.start()
    try:
        owner = Target(host=str(address.host), port=address.port, user=address.user, database="postgres")
        rounds = asyncio.run(_rounds(owner, ground.rounds))
    finally:
        server.stop()
    with_gpu, without = [one for one, _ in rounds], [other for _, other in rounds]
    told = Measured.of(with_gpu, without=Measured.of(without).value or 0.0)
    ratio = Measured.of([one / other for one, other in rounds])
    return {"device_claim_us": told, "device_claim_vs_plain": ratio}


async def _rounds(owner: Target, count: int) -> list[tuple[float, float]]:
    """The CPU microseconds of a claim with and without a GPU, a pair for each round; the first warms up."""
    await migrate(owner, [Part("ai", Base.metadata)], secret=None)
    role = Target(host=owner.host, port=owner.port, user="aitbc_ai", database=owner.database)
    db = Database("ai", role, list(Base.metadata.tables.values()))
    try:
        miners = [ids.new_id("mnr") for _ in range(MINERS)]
        devices = [_devices(number) for number in range(MINERS)]
        async with db.raw(writes=True) as connection:
            await connection.execute(ADD_MINERS, [ids.decode("mnr", one) for one in miners], devices, MEMORY_MIB)
        dealer = Dealer(db, lambda kind, rank: None)
        pairs = []
        for _ in range(max(3, count) + 1):
            with_gpu = await _timed(db, dealer, miners, Needs(kind="command", program="train", gpus=1))
            pairs.append((with_gpu, await _timed(db, dealer, miners, Needs(kind="command", program="train"))))
        return pairs[1:]
    finally:
        await db.close()


def _devices(number: int) -> str:
    found = [
        LeasableDevice(uuid=f"GPU-{number:06d}-{index}", index=index, name=NAME, memory_mib=MEMORY_MIB)
        for index in range(GPUS)
    ]
    return devices_text([msgspec.to_builtins(one) for one in found]) or ""


async def _timed(db: Database, dealer: Dealer, miners: Sequence[str], needs: Needs) -> float:
    """The CPU of this process for each of as many claims as there are miners, in batches."""
    await _submit(db, needs, len(miners))
    offer = Capabilities(
        kinds=("command",),
        programs=("train",),
        device="gpu",
        vram_mib=MEMORY_MIB,
        gpus=(GpuClass(name=NAME, memory_mib=MEMORY_MIB, compute_capability=None, count=GPUS),),
    )
    claims = [
        Claim(miner=miner, miner_account=ids.new_id("acct"), capabilities=offer, slots=1, wait_seconds=0)
        for miner in miners
    ]
    leases: list[Lease] = []
    started = time.process_time()
    for first in range(0, len(claims), BATCH):
        for found in await dealer.claim_many(claims[first : first + BATCH]):
            leases += found
    spent = time.process_time() - started
    assert len(leases) == len(miners) and all(bool(one.devices) is bool(needs.gpus) for one in leases)
    async with db.raw(writes=True) as connection:  # what was leased has ended
        await connection.execute(
            "UPDATE ai.attempts SET ended = 'succeeded', ended_at = started_at WHERE ended IS NULL"
        )
    return spent / len(claims) * 1e6


async def _submit(db: Database, needs: Needs, count: int) -> None:
    who = Principal(account=ids.new_id("acct"), key=ids.new_id("key"), kind="live", scopes=frozenset(), subject=None)
    value = {"program": "train"}
    command = SubmitJob(kind="command", input=value, max_price="1")
    kind = kind_of("command")
    measure_ = kind.measure(kind.read(value), {}, run_seconds=command.clocks.run_seconds)
    plan = Plan(who.account, kind, value, measure_, (), needs, 4, 10**8, 10_000, 604_800)
    writes = WriteBatch()
    writes.write(INSERT_JOBS, [job_of(who, command, plan) for _ in range(count)])
    async with db.raw_transaction() as connection:
        await writes.do(connection)
