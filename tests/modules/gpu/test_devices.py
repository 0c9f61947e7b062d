"""Believed hardware: who is matched and booked for a GPU has a live miner that shows it, each GPU is one account's, and one
with a fault is none."""

import asyncio
import uuid
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from aitbc.kernel.primitives import clock, ids
from aitbc.modules.ai.api import Capabilities
from aitbc.modules.gpu.models.devices import LAPSES, Shown, ShownGpu, believed, is_such
from aitbc.modules.gpu.models.offer import within
from tests.app import Caller
from tests.modules.gpu.make import GPU, Fleet, Rig, gpu_device
from tests.scale import scaled

pytestmark = pytest.mark.anyio
H100 = "NVIDIA H100 80GB HBM3"


def h100(**changes: Any) -> dict[str, Any]:
    return gpu_device(H100, 81_559, **changes)


async def listed(owner: Caller, rig: Rig | None, **changes: Any) -> dict[str, Any]:
    """A GPU on the market."""
    body = {"model": "H100", "price_per_hour": "0.25"} | ({} if rig is None else {"miner": rig.id}) | changes
    answer = await owner.post(f"{GPU}/listings", body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def book(buyer: Caller, gpu: str) -> Any:
    return await buyer.post(f"{GPU}/bookings", {"gpu": gpu, "duration_seconds": 600, "max_price": "1"})


async def shows(rig: Rig, *devices: dict[str, Any]) -> dict[str, Any]:
    """Its GPUs, with a heartbeat."""
    rig.devices = list(devices)
    return await rig.heartbeat(telemetry=rig.inventory())


async def eligible(fleet: Fleet, who: Caller, wanted: int, **needs: Any) -> dict[str, Any]:
    """The quote, once so many miners are eligible: the fleet is known by events."""
    body = {"kind": "embed", "input": {"texts": ["x"]}, "max_price": "1", "requirements": needs}
    for _ in range(600):
        quote = (await who.post("/api/v1/ai/quotes", body)).json()
        if quote["miners_eligible"] == wanted:
            break
        await asyncio.sleep(0.05)
    assert quote["miners_eligible"] == wanted, quote
    return dict(quote)


async def why(who: Caller, gpu: str) -> tuple[str, str | None]:
    found = (await who.get(f"{GPU}/listings/{gpu}")).json()
    return found["status"], found["status_reason"]


# Booking


async def test_a_gpu_that_no_live_miner_of_its_owner_shows_is_neither_available_nor_bookable(fleet: Fleet) -> None:
    owner, buyer = await fleet.owner(), await fleet.owner(funds="10")
    bare, other = await fleet.rig(owner), await fleet.rig(owner, devices=[gpu_device("NVIDIA A100-SXM4-80GB", 81_920)])
    asleep = await fleet.rig(owner, heartbeat=False, devices=[h100()])
    for rig, reason, code in (
        (None, "no_miner", "gpu_without_miner"),
        (bare, "gpu_not_shown", "gpu_not_shown"),
        (other, "gpu_not_shown", "gpu_not_shown"),
        (asleep, "miner_offline", "gpu_offline"),
    ):
        made = await listed(owner, rig)
        assert (made["status"], made["status_reason"]) == ("offline", reason)
        refused = await book(buyer, made["id"])
        assert (refused.status_code, refused.json()["code"]) == (409, code)
        found = (await buyer.get(f"{GPU}/listings", model="H100", available="true")).json()["data"]
        assert made["id"] not in {one["id"] for one in found}
        found = (await buyer.get(f"{GPU}/listings", model="H100", available="false")).json()["data"]
        assert made["id"] in {one["id"] for one in found}
    balance = (await buyer.get(f"/api/v1/trading/accounts/{buyer.principal.account}")).json()
    assert (balance["available"], balance["held"]) == ("10", "0")


async def test_one_that_its_miner_shows_is_booked_and_called_claimed(fleet: Fleet) -> None:
    owner, buyer = await fleet.owner(), await fleet.owner(funds="10")
    offer: dict[str, Any] = {"device": "gpu", "gpu_models": [H100], "region": "bookable"}
    rig = await fleet.rig(owner, devices=[gpu_device("NVIDIA T4", 15_360), h100()], **offer)
    made = await listed(owner, rig, memory_gb=80)
    assert (made["status"], made["status_reason"], made["hardware"]) == ("available", None, "claimed")
    found = (await buyer.get(f"{GPU}/listings", model="H100", available="true")).json()["data"]
    assert {one["id"]: one["hardware"] for one in found}[made["id"]] == "claimed"
    assert (await fleet.see(owner, rig))["hardware"] == "claimed"
    quote = await eligible(fleet, buyer, 1, gpu_model="H100", device="gpu", region="bookable")
    how = {one["filter"]: one["hardware"] for one in quote["filters"]}
    assert (how["gpu_model"], how["device"], how["kind"]) == ("claimed", "claimed", None)
    booking = await book(buyer, made["id"])
    assert (booking.status_code, booking.json()["hardware"]) == (201, "claimed")
    await fleet.gpu.miners.remove(owner.principal, rig.id)


async def test_more_memory_than_it_shows_is_not_sold(fleet: Fleet) -> None:
    owner, buyer = await fleet.owner(), await fleet.owner(funds="10")
    rig = await fleet.rig(owner, devices=[gpu_device(mib=24_564)])
    honest, too_much = [await listed(owner, rig, model="RTX 4090", memory_gb=memory) for memory in (24, 48)]
    assert (honest["status"], too_much["status"]) == ("available", "offline")
    assert (await book(buyer, too_much["id"])).json()["code"] == "gpu_not_shown"


async def test_a_gpu_with_a_fault_is_neither_available_nor_bookable_nor_matched(fleet: Fleet) -> None:
    owner, buyer = await fleet.owner(), await fleet.owner(funds="10")
    device, region = h100(), f"r-{uuid.uuid4().hex[:8]}"
    offer: dict[str, Any] = {"device": "gpu", "gpu_models": [H100], "vram_mib": 81_559, "region": region}
    rig = await fleet.rig(owner, devices=[device], **offer)
    made = await listed(owner, rig)
    needs = {"gpu_model": "H100", "region": region}
    await eligible(fleet, buyer, 1, **needs)
    assert (await shows(rig, device | {"fault": "GPU is lost"}))["status"] == "online"
    assert await why(buyer, made["id"]) == ("offline", "gpu_not_shown")
    assert (await book(buyer, made["id"])).json()["code"] == "gpu_not_shown"
    await eligible(fleet, buyer, 0, **needs)
    await fleet.submit(buyer, requirements=needs)
    assert (await rig.poll())["leases"] == []
    seen = await fleet.see(owner, rig)
    assert (seen["device"], seen["gpu_models"], seen["vram_mib"]) == ("cpu", [], 0)
    await shows(rig, device)
    assert await why(buyer, made["id"]) == ("available", None)
    assert (await rig.take())["kind"] == "embed"


async def test_what_a_heartbeat_no_longer_shows_is_gone(fleet: Fleet) -> None:
    owner = await fleet.owner()
    rig = await fleet.rig(owner, devices=[h100()])
    made = await listed(owner, rig)
    await shows(rig)
    assert await why(owner, made["id"]) == ("offline", "gpu_not_shown")
    await rig.heartbeat()
    assert await why(owner, made["id"]) == ("offline", "gpu_not_shown")


async def test_heartbeats_that_show_the_same_write_nothing_of_it_and_publish_nothing(fleet: Fleet) -> None:
    owner = await fleet.owner()
    rig = await fleet.rig(owner, devices=[h100()])
    of = ids.decode("mnr", rig.id)
    kept = "SELECT d.xmin::text AS x, m.version FROM gpu.devices d JOIN gpu.miners m ON m.id = d.miner WHERE m.id = $1"
    (before,) = await fleet.sql(kept, of)
    for celsius in (40.0, 70.0):
        await shows(rig, rig.devices[0] | {"temperature_celsius": celsius})
    (after,) = await fleet.sql(kept, of)
    assert tuple(after) == tuple(before)


async def test_an_offer_of_gpus_that_are_not_shown_is_not_matched(fleet: Fleet) -> None:
    owner, buyer = await fleet.owner(), await fleet.owner(funds="1")
    region = f"r-{uuid.uuid4().hex[:8]}"
    rig = await fleet.rig(owner, device="gpu", gpu_models=[H100], vram_mib=81_559, region=region)
    await eligible(fleet, buyer, 1, region=region)
    for needs in ({"gpu_model": "H100"}, {"device": "gpu"}, {"min_vram_mib": 8192}):
        await eligible(fleet, buyer, 0, region=region, **needs)
        await fleet.submit(buyer, requirements={"region": region, **needs})
        assert (await rig.poll())["leases"] == []


@pytest.mark.parametrize(
    ("stated", "name", "same"),
    [
        ("H100", H100, True),
        ("NVIDIA H100 80 GB", H100, True),
        ("RTX4090", "NVIDIA GeForce RTX 4090", True),
        ("rtx-4090", "NVIDIA GeForce RTX 4090", True),
        ("NVIDIA_GB10", "NVIDIA GB10", True),
        ("RTX 4090", "NVIDIA GeForce RTX 4090 Laptop GPU", False),
        ("RTX 4090 Laptop", "NVIDIA GeForce RTX 4090 Laptop GPU", True),
        ("RTX 4090", "NVIDIA GeForce RTX 4090 D", False),
        ("A100", "NVIDIA RTX A1000", False),
        ("A100", "NVIDIA H100 80GB HBM3", False),
        ("RTX 409", "NVIDIA GeForce RTX 4090", False),
        ("GTX 1660 Ti", "NVIDIA GeForce GTX 1660", False),
        ("", "NVIDIA H100", False),
        ("显卡", "NVIDIA H100", False),
    ],
)
def test_a_name_is_that_of_a_gpu_when_all_its_words_are_there_and_none_makes_it_less(
    stated: str, name: str, same: bool
) -> None:
    assert is_such(stated, name) == same


def test_an_offer_is_believed_as_far_as_working_gpus_show_it() -> None:
    def gpu(name: str | None, mib: int | None, fault: str | None = None) -> ShownGpu:
        return ShownGpu(uuid=None, name=name, memory_mib=mib, fault=fault)

    offered = Capabilities(kinds=("chat",), device="gpu", gpu_models=("A", "B"), vram_mib=90)
    for gpus, expected in (
        ([gpu("A", 40), gpu("B", 90)], ("gpu", ("A", "B"), 90)),
        ([gpu("A", 40), gpu("B", 90, "lost")], ("gpu", ("A",), 40)),
        ([gpu("A", 40, "lost"), gpu("B", 90, "lost")], ("cpu", (), 0)),
        ([gpu("A", None)], ("gpu", ("A",), 90)),
        ([gpu(None, 40)], ("gpu", (), 40)),
        ([], ("cpu", (), 0)),
    ):
        found = within(offered, msgspec.json.decode(believed(gpus), type=Shown))
        assert (found.device, found.gpu_models, found.vram_mib) == expected


# One GPU, one owner


async def test_a_gpu_of_another_account_keeps_its_second_miner_from_all_work(fleet: Fleet) -> None:
    first, second, buyer = await fleet.owner(), await fleet.owner(), await fleet.owner(funds="10")
    region = f"r-{uuid.uuid4().hex[:8]}"
    device = h100()
    offer: dict[str, Any] = {"device": "gpu", "gpu_models": [H100], "region": region, "devices": [device]}
    rig = await fleet.rig(first, **offer)
    twin = await fleet.rig(second, heartbeat=False, **offer)
    told = await twin.heartbeat()
    assert told["status"] == "draining" and device["uuid"] in told["message"]
    await eligible(fleet, buyer, 1, region=region, gpu_model="H100")
    made = await listed(second, twin)
    assert (made["status"], made["status_reason"]) == ("offline", "miner_offline")
    assert (await book(buyer, made["id"])).json()["code"] == "gpu_offline"
    await fleet.submit(buyer, requirements={"region": region})
    assert (await twin.poll())["leases"] == []
    assert (await rig.take())["kind"] == "embed"
    assert (await twin.heartbeat(telemetry=twin.inventory()))["status"] == "draining"
    seen = await fleet.see(second, twin)
    assert (seen["status"], seen["status_reason"]) == ("draining", told["message"])


async def test_one_that_it_shows_later_blocks_it_too_until_it_shows_it_no_more(fleet: Fleet) -> None:
    first, second = await fleet.owner(), await fleet.owner()
    device = h100()
    await fleet.rig(first, devices=[device])
    twin = await fleet.rig(second, devices=[h100()])
    assert (await shows(twin, h100(), device))["status"] == "draining"
    assert (await shows(twin, h100()))["status"] == "online"


async def test_what_is_sold_on_is_the_next_ones_once_the_first_has_removed_its_miner_or_shows_it_no_more(
    fleet: Fleet,
) -> None:
    first, second = await fleet.owner(), await fleet.owner()
    for how in ("removed", "shown no more", "gone for long"):
        device = h100()
        rig = await fleet.rig(first, devices=[device])
        twin = await fleet.rig(second, heartbeat=False, devices=[device])
        assert (await twin.heartbeat())["status"] == "draining"
        if how == "removed":
            await fleet.gpu.miners.remove(first.principal, rig.id)
        elif how == "shown no more":
            await shows(rig)
        else:
            await fleet.later(LAPSES.total_seconds() + 60)
        assert (await twin.heartbeat())["status"] == "online"
        if how == "gone for long":
            told = await rig.heartbeat()
            assert told["status"] == "draining" and device["uuid"] in told["message"]
        await fleet.gpu.miners.remove(second.principal, twin.id)


async def test_an_owner_may_have_several_miners_on_one_gpu_of_which_one_is_booked(fleet: Fleet) -> None:
    owner, buyers = await fleet.owner(), [await fleet.owner(funds="1") for _ in range(2)]
    device = h100()
    rigs = [await fleet.rig(owner, devices=[device]) for _ in range(2)]
    gpus = [(await listed(owner, rig))["id"] for rig in rigs]
    answers = await asyncio.gather(*(book(buyer, gpu) for buyer, gpu in zip(buyers, gpus, strict=True)))
    assert sorted(answer.status_code for answer in answers) == [201, 409]
    assert [answer.json()["code"] for answer in answers if answer.status_code == 409] == ["gpu_booked"]
    assert [(await why(owner, gpu))[0] for gpu in gpus] == ["booked", "booked"]


async def test_of_two_accounts_that_show_a_gpu_at_once_one_has_it(fleet: Fleet) -> None:
    for _ in range(scaled(2, 5)):
        device = h100()
        owners = [await fleet.owner() for _ in range(4)]
        rigs = [await fleet.rig(owner, heartbeat=False, devices=[device]) for owner in owners]
        told = await asyncio.gather(*(rig.heartbeat() for rig in rigs))
        assert sorted(one["status"] for one in told) == ["draining"] * 3 + ["online"]


async def test_the_time_until_the_first_inventory_is_no_way_around_it(fleet: Fleet) -> None:
    first, second = await fleet.owner(), await fleet.owner()
    device = h100()
    await fleet.rig(first, devices=[device])
    twin = await fleet.rig(second, heartbeat=False, devices=[device])
    assert (await twin.poll())["status"] == "draining"
    clock.move(timedelta(seconds=1))
    again = await twin.enrol(await fleet.token(second))
    assert again.status_code == 201
    assert (await twin.poll())["status"] == "draining"
