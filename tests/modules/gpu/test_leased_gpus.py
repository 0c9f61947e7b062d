"""The GPUs that miners show are what jobs lease: from the heartbeat to the receipt."""

import asyncio
import uuid
from typing import Any

import pytest

from aitbc.modules.gpu.models.devices import LEASABLE_MAX, ShownGpu, leasable_devices, leasable_of, leasable_text
from tests.app import Caller
from tests.modules.gpu.make import Fleet, Rig, gpu_device

pytestmark = pytest.mark.anyio

DONE = {"exit_code": 0, "stdout": "", "stderr": "", "truncated": False}
MEMORY = {"memory_reserved_mib": 480, "memory_sellable_mib": 81_079, "compute_capability": "9.0"}


def h100(index: int = 0, **changes: Any) -> dict[str, Any]:
    return gpu_device("NVIDIA H100 80GB HBM3", 81_559, index=index, **MEMORY, **changes)


async def rig_of(fleet: Fleet, owner: Caller, region: str, *devices: dict[str, Any]) -> Rig:
    offer: dict[str, Any] = {"kinds": ["command"], "programs": ["train"], "device": "gpu", "region": region}
    return await fleet.rig(owner, devices=devices, gpu_models=["NVIDIA H100 80GB HBM3"], vram_mib=81_079, **offer)


async def program(fleet: Fleet, buyer: Caller, region: str, **needs: Any) -> str:
    wish: dict[str, Any] = {
        "kind": "command",
        "input": {"program": "train"},
        "requirements": {"region": region, **needs},
    }
    return str((await fleet.submit(buyer, **wish))["id"])


async def take(rig: Rig, count: int) -> list[dict[str, Any]]:
    """So many leases, once ai has heard which GPUs there are."""
    found: list[dict[str, Any]] = []
    for _ in range(400):
        found += (await rig.poll(slots=8))["leases"]
        if len(found) >= count:
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(found)


async def test_a_lease_names_its_gpus_and_so_do_the_attempt_and_the_receipt(fleet: Fleet) -> None:
    owner, buyer, region = await fleet.owner(), await fleet.owner(funds="10"), f"r-{uuid.uuid4().hex[:8]}"
    rig = await rig_of(fleet, owner, region, h100(0), h100(1))
    rig.slots = 8
    await rig.heartbeat()
    whole = await program(fleet, buyer, region, gpus=1)
    share = await program(fleet, buyer, region, vram_mib=20_000, min_compute_capability="9.0")
    plain = await program(fleet, buyer, region)
    leases = {lease["job"]: lease for lease in await take(rig, 3)}
    uuids = [device["uuid"] for device in rig.devices]
    assert leases[whole]["devices"] == [{"uuid": uuids[0], "index": 0, "memory_mib": 81_079, "is_whole": True}]
    assert leases[share]["devices"] == [{"uuid": uuids[1], "index": 1, "memory_mib": 20_000, "is_whole": False}]
    assert leases[plain]["devices"] == []
    listed = (await rig.call("GET", "/leases")).json()["leases"]
    assert {one["job"]: one["devices"] for one in listed} == {job: one["devices"] for job, one in leases.items()}
    paid = (await rig.deliver(leases[share], DONE)).json()
    assert (await rig.deliver(leases[plain], DONE)).status_code == 200
    (attempt,) = (await buyer.get(f"/api/v1/ai/jobs/{share}")).json()["history"]
    (used,) = attempt["devices"]
    assert (used["index"], used["memory_mib"], used["name"]) == (1, 20_000, "NVIDIA H100 80GB HBM3")
    receipt = (await buyer.get(f"/api/v1/trading/receipts/{paid['receipt']}")).json()["receipt"]
    (named,) = receipt["devices"]
    assert named == {
        "index": 1,
        "is_whole": False,
        "memory_mib": 20_000,
        "uuid_digest": used["uuid_digest"],
    }
    told = (await buyer.get(f"/api/v1/ai/jobs/{plain}")).json()
    without = (await buyer.get(f"/api/v1/trading/receipts/{told['receipt']}")).json()["receipt"]
    assert "devices" not in without and told["history"][0]["devices"] == []


async def test_a_gpu_that_its_miner_rests_is_not_leased_and_what_it_says_is_shown(fleet: Fleet) -> None:
    owner, buyer, region = await fleet.owner(), await fleet.owner(funds="10"), f"r-{uuid.uuid4().hex[:8]}"
    said = "draining: 812 MiB of its memory are still held"
    rig = await rig_of(fleet, owner, region, h100(0, rests=said))
    job = await program(fleet, buyer, region, gpus=1)
    assert (await rig.poll())["leases"] == []
    explained = (await buyer.get(f"/api/v1/ai/jobs/{job}/explain")).json()
    assert {one["filter"]: one["after"] for one in explained["filters"]}["gpus"] == 0
    assert (await fleet.see(owner, rig))["inventory"]["devices"][0]["rests"] == said
    del rig.devices[0]["rests"]
    await rig.heartbeat(telemetry=rig.inventory())
    (lease,) = await take(rig, 1)
    assert lease["devices"][0]["uuid"] == rig.devices[0]["uuid"]


def shown(**changes: Any) -> ShownGpu:
    fields: dict[str, Any] = {"uuid": "GPU-1", "name": "A", "memory_mib": 100, "fault": None}
    return ShownGpu(**(fields | changes))


def test_gpus_without_an_id_or_a_memory_that_is_known_are_not_leased() -> None:
    strange = [shown(uuid=None), shown(uuid="GPU 1;rm"), shown(uuid="G" * 49), shown(memory_mib=None)]
    assert leasable_devices(strange) == () and leasable_text(strange) is None and leasable_of(None) == ()
    assert [one.memory_mib for one in leasable_devices([shown(), shown(memory_mib=5)])] == [100]  # each id once
    assert [one.memory_mib for one in leasable_devices([shown(sellable_mib=90)])] == [90]
    many = [shown(uuid=f"GPU-{number}") for number in range(LEASABLE_MAX + 4)]
    assert len(leasable_devices(many)) == LEASABLE_MAX
    (lost,) = leasable_devices([shown(fault="GPU is lost", rests="draining")])
    assert lost.rests == "GPU is lost"
    assert leasable_of(leasable_text([shown()])) == ({"uuid": "GPU-1", "name": "A", "memory_mib": 100},)


async def leased_now(fleet: Fleet, owner: Caller, buyer: Caller, region: str, rigs: list[Rig]) -> list[str]:
    """The miners that get one of as many jobs for a GPU, once ai has heard of all of them."""
    jobs = [await program(fleet, buyer, region, gpus=1) for _ in rigs]
    for _ in range(400):
        explained = (await buyer.get(f"/api/v1/ai/jobs/{jobs[0]}/explain")).json()
        if {one["filter"]: one["after"] for one in explained["filters"]}["gpus"] == 1:
            break
        await asyncio.sleep(0.05)
    found: list[str] = []
    for _ in range(400):  # the last miner may be heard of later than the one before it is given up
        found += [rig.id for rig in rigs for _ in (await rig.poll())["leases"]]
        if found:
            break
        await asyncio.sleep(0.05)
    found += [rig.id for rig in rigs for _ in (await rig.poll())["leases"]]
    for job in jobs:
        await buyer.post(f"/api/v1/ai/jobs/{job}/cancel")
    return found


async def test_two_miners_of_one_owner_that_show_the_same_gpu_never_both_lease_it(fleet: Fleet) -> None:
    owner, buyer, region = await fleet.owner(), await fleet.owner(funds="10"), f"r-{uuid.uuid4().hex[:8]}"
    device = h100()
    first = await rig_of(fleet, owner, region, device)
    second = await rig_of(fleet, owner, region, dict(device))
    assert await leased_now(fleet, owner, buyer, region, [second, first]) == [first.id]
    for rig in (second, first):  # who has it keeps it
        await rig.heartbeat(telemetry=rig.inventory())
    assert await leased_now(fleet, owner, buyer, region, [second, first]) == [first.id]
    device["rests"] = "its owner gives programs no GPU"
    await first.heartbeat(telemetry=first.inventory())
    await second.heartbeat()
    assert await leased_now(fleet, owner, buyer, region, [first, second]) == [second.id]
    del device["rests"]
    await first.heartbeat(telemetry=first.inventory())
    assert await leased_now(fleet, owner, buyer, region, [first, second]) == [second.id]
    await fleet.gpu.miners.remove(owner.principal, second.id)
    await first.heartbeat()
    assert await leased_now(fleet, owner, buyer, region, [first]) == [first.id]


async def test_of_miners_of_one_owner_that_show_a_gpu_at_once_one_leases_it(fleet: Fleet) -> None:
    owner, buyer, region = await fleet.owner(), await fleet.owner(funds="10"), f"r-{uuid.uuid4().hex[:8]}"
    device = h100()
    offer: dict[str, Any] = {"kinds": ["command"], "programs": ["train"], "device": "gpu", "region": region}
    offer |= {"gpu_models": ["NVIDIA H100 80GB HBM3"], "vram_mib": 81_079}
    rigs = [await fleet.rig(owner, heartbeat=False, devices=[dict(device)], **offer) for _ in range(4)]
    await asyncio.gather(*(rig.heartbeat() for rig in rigs))
    assert len(await leased_now(fleet, owner, buyer, region, rigs)) == 1
