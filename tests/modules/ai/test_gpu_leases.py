"""Jobs that ask for GPUs: bound to those of one miner in the claim, never more than there is, and named afterwards."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.identity.principal import Principal
from aitbc.modules.ai.api import GpuClass, Lease
from aitbc.modules.ai.models.devices import LeasableDevice
from aitbc.modules.ai.service.planner import DevicesNotLeased
from tests.modules.ai.make import AITBC, Market, Worker, a_key, ai_on
from tests.modules.ai.test_device_choice import gpu
from tests.scale import scaled

pytestmark = pytest.mark.anyio

WC: dict[str, Any] = {"program": "wc"}


@pytest.fixture
async def market(owner: Target) -> AsyncIterator[Market]:
    async with ai_on(owner) as made:
        yield made


async def rig(market: Market, *devices: LeasableDevice, version: int = 1, of: Worker | None = None) -> Worker:
    """A miner with these GPUs, as gpu tells of it."""
    counts = Counter((one.name, one.memory_mib, one.compute_capability) for one in devices if one.rests is None)
    classes = tuple(
        GpuClass(name=name, memory_mib=mib, compute_capability=capability, count=count)
        for (name, mib, capability), count in counts.items()
    )
    offer: dict[str, Any] = {"device": "gpu", "gpus": classes, "vram_mib": 81_079, "gpu_models": ("NVIDIA H100",)}
    worker = of or Worker(market, **offer)
    worker.capabilities = msgspec.structs.replace(worker.capabilities, **offer)
    async with market.ai.db.unit_of_work() as uow:
        await market.ai.fleet_view.apply(uow, [worker.changed(version=version, devices=devices)])
    return worker


async def program(market: Market, who: Principal, **requirements: Any) -> str:
    return await market.submit(who, kind="command", value=WC, max_price="0.05", **requirements)


def named(lease: Lease) -> list[tuple[int | None, int, bool]]:
    assert lease.devices is not None
    return [(one.index, one.memory_mib, one.is_whole) for one in lease.devices]


DONE = {"exit_code": 0, "stdout": "", "stderr": "", "truncated": False}


async def test_two_jobs_share_a_gpu_and_a_third_waits_until_one_of_them_has_ended(market: Market) -> None:
    alice, one = market.person(), await rig(market, gpu(0))
    jobs = [await program(market, alice, vram_mib=40_000) for _ in range(3)]
    first, second = await one.claim(8)
    assert [named(lease) for lease in (first, second)] == [[(0, 40_000, False)]] * 2
    assert first.devices is not None and first.devices[0].uuid == "GPU-00000000"
    assert await one.claim(8) == []
    explained = await market.ai.explanations.explain(alice, jobs[2])
    assert (explained.filters[-1].filter, explained.filters[-1].after) == ("gpus_free", 0)
    assert (explained.reason, "none of them has the GPUs" in explained.summary) == ("submitted", True)
    assert explained.suggestion.startswith("Wait until a GPU is free")
    await one.deliver(first, DONE)
    (third,) = await one.claim(8)
    assert (third.job, named(third)) == (jobs[2], [(0, 40_000, False)])
    await market.require_sound()


async def test_a_waiting_miner_is_woken_when_its_gpu_is_free(owner: Target) -> None:
    async with ai_on(owner, started=True) as market:
        alice, one = market.person(), await rig(market, gpu(0))
        await program(market, alice, gpus=1)
        (first,) = await one.claim(2)
        job = await program(market, alice, gpus=1)
        waiting = asyncio.create_task(one.claim(1, wait_seconds=60))
        await until_waiting(market, 1)
        await one.deliver(first, DONE)
        async with asyncio.timeout(20):
            (second,) = await waiting
        assert second.job == job


async def test_a_miner_whose_gpu_is_taken_is_passed_over_for_one_whose_is_free(market: Market) -> None:
    alice, busy, free = market.person(), await rig(market, gpu(0)), await rig(market, gpu(1))
    for _ in range(2):
        await program(market, alice, gpus=1)
    assert len(await busy.claim(2)) == 1
    first = asyncio.create_task(busy.claim(1, wait_seconds=60))
    await until_waiting(market, 1)
    (lease,) = await free.claim(1)
    await free.deliver(lease, DONE)
    third = await program(market, alice, gpus=1)  # the first of those who wait is not woken for it
    assert len(market.ai.wakeups.miners) == 1
    assert [one.job for one in await free.claim(1)] == [third]
    assert not first.done()
    first.cancel()


async def until_waiting(market: Market, count: int) -> None:
    async with asyncio.timeout(20):
        while len(market.ai.wakeups.miners) < count:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("ended", ["fail", "release", "cancel", "lose"])
async def test_however_an_attempt_ends_its_gpu_is_free(market: Market, ended: str) -> None:
    alice, one = market.person(), await rig(market, gpu(0))
    job = await program(market, alice, gpus=1)
    lease = await one.take()
    if ended == "fail":
        await one.fail(lease, "requester")
    elif ended == "release":
        await market.ai.release(one.id, lease.attempt, lease.token, "away")
    elif ended == "cancel":
        await market.ai.stops.cancel(alice, job, a_key(alice))
    else:
        await market.later(120)
    if await market.state(job) == "queued":
        await market.ai.stops.cancel(alice, job, a_key(alice))
    await program(market, alice, gpus=1)
    assert named(await one.take()) == [(0, 81_079, True)]


async def test_jobs_that_ask_for_no_gpu_pass_those_that_wait_for_one_and_get_none(market: Market) -> None:
    alice, one = market.person(), await rig(market, gpu(0))
    busy, waits = await program(market, alice, gpus=1), await program(market, alice, gpus=1)
    text, plain = await market.submit(alice), await program(market, alice)
    leases = {lease.job: lease for lease in await one.claim(3)}
    assert set(leases) == {busy, text, plain}
    assert (leases[plain].devices, leases[text].devices) == ((), None)
    assert await market.state(waits) == "queued"


async def test_a_gpu_that_rests_is_leased_to_nobody_until_it_works_again(market: Market) -> None:
    alice, one = market.person(), await rig(market, gpu(0), gpu(1, rests="draining: 812 MiB are still held"))
    await program(market, alice, gpus=2)
    await program(market, alice, gpus=1)
    assert [named(lease) for lease in await one.claim(4)] == [[(0, 81_079, True)]]
    await rig(market, gpu(0), gpu(1), version=2, of=one)
    assert await one.claim(4) == []  # both at once are not free
    (lease,) = await market.ai.leases_of(one.id)
    assert named(lease) == [(0, 81_079, True)]
    await one.deliver(lease, DONE)
    assert [named(lease) for lease in await one.claim(4)] == [[(0, 81_079, True), (1, 81_079, True)]]


async def test_attempts_name_their_gpus_for_the_owner_of_the_job(market: Market) -> None:
    alice, one = market.person(), await rig(market, gpu(3))
    job = await program(market, alice, vram_mib=8000, min_compute_capability="8.0", gpu_model="h100")
    lease = await one.take()
    await one.renew(lease)
    explained = await market.ai.explanations.explain(alice, job)
    (attempt,) = explained.attempts
    (used,) = attempt.devices
    assert (used.index, used.memory_mib, used.is_whole, used.name) == (3, 8000, False, "NVIDIA H100 80GB HBM3")
    assert f"GPU 3 ({used.uuid_digest[:15]}), 8000 MiB of it" in explained.summary


@pytest.mark.parametrize(
    "wish",
    [
        {"kind": "embed", "gpus": 1},
        {"kind": "command", "value": WC, "gpus": 1, "device": "cpu"},
        {"kind": "command", "value": WC, "gpus": 2, "vram_mib": 8000},
        {"kind": "command", "value": WC, "vram_mib": 100},
    ],
)
async def test_gpus_that_no_lease_could_bind_are_refused_before_money_moves(
    market: Market, wish: dict[str, Any]
) -> None:
    alice = market.person()
    with pytest.raises(DevicesNotLeased):
        await market.submit(alice, **wish)
    assert market.trading.holds == {}


async def test_a_program_that_asks_for_a_gpu_at_all_gets_one_whole(market: Market) -> None:
    alice, one = market.person(), await rig(market, gpu(0), gpu(1, 24_000))
    for wish in ({"device": "gpu"}, {"min_vram_mib": 40_000}):
        await program(market, alice, **wish)
    assert sorted(map(named, await one.claim(4))) == [[(0, 81_079, True)], [(1, 24_000, True)]]


async def test_concurrent_claims_of_one_miner_never_pass_what_its_gpus_have(owner: Target) -> None:
    async with ai_on(owner) as one, ai_on(owner, trading=one.trading) as other:
        alice = one.person(1000 * AITBC)
        worker = await rig(one, *(gpu(index) for index in range(4)))
        wishes = ({"gpus": 1}, {"vram_mib": 30_000}, {"vram_mib": 41_000}, {"gpus": 2})
        for number in range(scaled(16, 60)):
            await program(one, alice, **wishes[number % len(wishes)])
        twin = Worker(other)
        twin.id, twin.account, twin.key, twin.capabilities = worker.id, worker.account, worker.key, worker.capabilities
        live: dict[str, Lease] = {}
        for _ in range(scaled(4, 20)):
            claimed = await asyncio.gather(*(who.claim(2) for who in (worker, twin) for _ in range(3)))
            live |= {lease.attempt: lease for leases in claimed for lease in leases}
            require_no_overlap(live.values())
            for lease in list(live.values())[::2]:
                await worker.deliver(lease, DONE)
                del live[lease.attempt]
        assert live or await one.sql("SELECT 1 FROM ai.attempts WHERE ended = 'succeeded'")
        await one.require_sound()


def require_no_overlap(leases: Any) -> None:
    held: dict[str, list[tuple[int, bool]]] = defaultdict(list)
    for lease in leases:
        for one in lease.devices or ():
            held[one.uuid].append((one.memory_mib, one.is_whole))
    for shares in held.values():
        assert sum(mib for mib, _ in shares) <= 81_079
        assert len(shares) == 1 or not any(whole for _, whole in shares)


async def test_a_miner_whose_hours_end_gets_only_what_ends_before(market: Market) -> None:
    alice = market.person()
    long, short = [await market.submit(alice, clocks={"run_seconds": seconds}) for seconds in (600, 60)]
    hurried = Worker(market, run_seconds_max=120)
    assert [lease.job for lease in await hurried.claim(4)] == [short]
    assert [lease.job for lease in await Worker(market).claim(4)] == [long]
