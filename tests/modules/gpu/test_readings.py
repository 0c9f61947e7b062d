"""What GPUs read, over time: one a minute for a day, one an hour for 90 days, null for what is not given."""

from datetime import timedelta
from typing import Any

import pytest

from aitbc.kernel.primitives import clock, ids
from aitbc.kernel.primitives.clock import now
from tests.modules.gpu.make import GPU, Fleet, Rig, gpu_device

pytestmark = pytest.mark.anyio


async def reads(rig: Rig, **readings: Any) -> None:
    """Show the one GPU with these readings, and have them kept."""
    device = {name: value for name, value in rig.devices[0].items() if value is not None} | readings
    await rig.heartbeat(telemetry={"devices": [device], "host": {}})
    await rig.fleet.gpu.keep_readings()


async def minute(fleet: Fleet, minutes: float = 1) -> None:
    clock.move(timedelta(minutes=minutes))


async def test_a_minute_is_kept_for_a_day_and_an_hour_for_ninety(fleet: Fleet) -> None:
    owner = await fleet.owner()
    rig = await fleet.rig(owner, devices=[gpu_device()])
    clock.move(timedelta(hours=1) - (now() - now().replace(minute=0, second=0)))  # the beginning of an hour
    full = {"memory_used_mib": 4000, "temperature_celsius": 50.0, "power_watts": 100.0, "brake_reasons": []}
    await reads(rig, utilization=10.0, **full)
    await fleet.gpu.keep_readings()  # the same minute once more
    await minute(fleet)
    warmer = {"memory_used_mib": 9000, "temperature_celsius": 70.5, "power_watts": 300.0}
    await reads(rig, utilization=90.0, brake_reasons=["power_cap", "thermal"], **warmer)
    path = f"{GPU}/miners/{rig.id}/readings"
    newest, oldest = (await owner.get(path)).json()["data"]
    assert (newest["utilization"], newest["memory_used_mib"], newest["memory_total_mib"]) == (90.0, 9000, 24_564)
    assert (newest["brake_reasons"], oldest["brake_reasons"]) == (["power_cap", "thermal"], [])
    assert (newest["uuid"], newest["samples"]) == (rig.devices[0]["uuid"], 1)
    assert [len((await owner.get(path, **asked)).json()["data"]) for asked in ({"limit": 1}, {"gpu": "GPU-0"})] == [
        1,
        0,
    ]
    assert len((await owner.get(path, since=newest["at"])).json()["data"]) == 1
    assert (await owner.get(path, step="hour")).json()["data"] == []
    await minute(fleet, 60)
    await fleet.gpu.keep_readings()
    (hour,) = (await owner.get(path, step="hour")).json()["data"]
    assert (hour["samples"], hour["utilization"], hour["power_watts"]) == (2, 50.0, 200.0)
    assert (hour["memory_used_mib"], hour["temperature_celsius"]) == (9000, 70.5)
    assert (hour["brake_reasons"], hour["at"]) == (["power_cap", "thermal"], oldest["at"])
    await minute(fleet, 24 * 60)
    await fleet.gpu.keep_readings()
    assert [len((await owner.get(path, step=step)).json()["data"]) for step in ("minute", "hour")] == [0, 1]
    clock.move(timedelta(days=90))
    await fleet.gpu.keep_readings()
    kept = await fleet.sql("SELECT count(*) FROM gpu.readings WHERE miner = $1", ids.decode("mnr", rig.id))
    assert kept[0][0] == 0


async def test_what_a_driver_does_not_give_is_null_and_a_miner_that_is_away_reads_nothing(fleet: Fleet) -> None:
    owner = await fleet.owner()
    rig = await fleet.rig(owner, devices=[gpu_device(mib=None)])
    await reads(rig)
    path = f"{GPU}/miners/{rig.id}/readings"
    (found,) = (await owner.get(path)).json()["data"]
    missing = ("utilization", "memory_used_mib", "memory_total_mib", "temperature_celsius", "power_watts")
    assert {found[name] for name in (*missing, "brake_reasons")} == {None}
    await minute(fleet, 10)
    await fleet.gpu.keep_readings()
    assert len((await owner.get(path)).json()["data"]) == 1


async def test_readings_are_the_owners_and_asked_for_within_bounds(fleet: Fleet) -> None:
    owner, other = await fleet.owner(), await fleet.owner()
    rig = await fleet.rig(owner, devices=[gpu_device()])
    path = f"{GPU}/miners/{rig.id}/readings"
    assert (await other.get(path)).status_code == 404
    for wrong in ({"limit": 0}, {"limit": 5001}, {"step": "second"}, {"gpu": "G" * 129}):
        assert (await owner.get(path, **wrong)).status_code == 422, wrong


async def test_metrics_have_the_gpus_by_what_their_drivers_call_them(fleet: Fleet) -> None:
    owner = await fleet.owner()
    name = f"Card {ids.new_id('gpu')[-8:]}"
    for load, fault in ((40.0, None), (80.0, "GPU is lost")):
        rig = await fleet.rig(owner, devices=[gpu_device(name)])
        await reads(rig, utilization=load, memory_used_mib=100, **({"fault": fault} if fault else {}))
    found = {
        (metric.name, *sorted(sample.labels.values())): sample.value
        for metric in await fleet.gpu.measure()
        for sample in metric.samples
        if sample.labels.get("model") == name
    }
    assert found == {
        ("aitbc_gpus", *sorted((name, "working"))): 1.0,
        ("aitbc_gpus", *sorted((name, "faulty"))): 1.0,
        ("aitbc_gpus", *sorted((name, "resting"))): 0.0,
        ("aitbc_gpu_memory_used_bytes", name): 200.0 * 2**20,
        ("aitbc_gpu_utilization_ratio", name): pytest.approx(0.6),
    }
