"""Offers: made, changed and withdrawn by a miner's owner, with what is known of it; and made by a rule."""

import asyncio
import uuid
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from aitbc.kernel.primitives import clock, ids
from aitbc.modules.gpu.events import MinerChanged
from aitbc.modules.marketplace.models.facts import told
from aitbc.modules.marketplace.service.offer_rows import remember
from tests.eventually import eventually
from tests.modules.gpu.make import Fleet, gpu_device
from tests.modules.marketplace.make import MARKET, OFFERS, changed, made, market_of

pytestmark = pytest.mark.anyio


def facts(offer: dict[str, Any]) -> dict[str, tuple[Any, str]]:
    """What an offer says of its miner, with how it is known."""
    return {fact["name"]: (fact["value"], fact["source"]) for fact in offer["facts"]}


async def test_work_and_a_gpu_of_ones_miner_are_put_on_sale_with_what_is_known_of_it(fleet: Fleet) -> None:
    owner, other = await fleet.owner(), await fleet.owner()
    rig = await fleet.rig(
        owner, region="eu", device="gpu", gpu_models=["RTX 4090"], vram_mib=24_000, devices=[gpu_device()]
    )
    body = {"miner": rig.id, "sells": "work", "kind": "embed", "price": "0.00002"}
    key = uuid.uuid4().hex
    answer = await owner.post(OFFERS, body, once=key)
    assert answer.status_code == 201, answer.text
    work = answer.json()
    expected = {"version": 1, "state": "open", "price": "0.00002", "capacity": 2, "origin": "owner", "verified": False}
    assert {name: work[name] for name in expected} == expected
    assert facts(work) == {
        "status": ("online", "measured"),
        "slots": (2, "claimed"),
        "region": ("eu", "claimed"),
        "gpu_model": ("RTX 4090", "claimed"),
        "vram_mib": (24_000, "claimed"),
    }
    assert all(fact["as_of"].endswith("Z") for fact in work["facts"])
    assert (await owner.post(OFFERS, body, once=key)).json() == work
    device = await made(owner, miner=rig.id, sells="device", price="0.8", interruptible=True, max_seconds=7200)
    assert (device["sells"], device["interruptible"], device["max_seconds"]) == ("device", True, 7200)
    assert (await other.get(f"{OFFERS}/{work['id']}")).json() == work
    assert [one["id"] for one in (await owner.get(OFFERS)).json()["data"]] == [device["id"], work["id"]]
    assert (await other.get(OFFERS)).json()["data"] == []


async def test_only_what_its_owners_miner_serves_is_offered_and_each_thing_once(fleet: Fleet) -> None:
    owner, other = await fleet.owner(), await fleet.owner()
    rig = await fleet.rig(owner, models={"embed": ["tiny"]})
    work = {"miner": rig.id, "sells": "work", "kind": "embed", "price": "0.1"}
    refused: list[tuple[Any, dict[str, Any], int, str]] = [
        (other, work, 404, "miner_not_found"),
        (owner, work | {"miner": ids.new_id("mnr")}, 404, "miner_not_found"),
        (owner, work | {"kind": "chat"}, 409, "market_not_served"),
        (owner, work | {"model": "large"}, 409, "market_not_served"),
        (owner, {"miner": rig.id, "sells": "device", "price": "1"}, 409, "market_not_served"),
        (owner, {"miner": rig.id, "sells": "work", "price": "1"}, 422, "invalid"),
        (owner, work | {"device": 0}, 422, "invalid"),
        (owner, work | {"price": "0"}, 422, "invalid_amount"),
        (owner, work | {"pricing": {"floor": "1", "ceiling": "2"}}, 422, "invalid"),
        (owner, {**work, "price": None}, 422, "invalid"),
        (owner, {**work, "price": None, "pricing": {"floor": "2", "ceiling": "1"}}, 422, "invalid"),
        (owner, work | {"max_seconds": 5}, 422, "invalid"),
        (owner, work | {"valid_until": "2020-01-01T00:00:00Z"}, 422, "invalid"),
    ]
    for who, body, status, code in refused:
        answer = await who.post(OFFERS, body)
        assert (answer.status_code, answer.json()["code"]) == (status, code), (body, answer.text)
    await made(owner, **work)
    await made(owner, **work, model="tiny")
    for body in (work, work | {"model": "tiny"}):
        answer = await owner.post(OFFERS, body)
        assert (answer.status_code, answer.json()["code"]) == (409, "market_offer_exists")
    rivals = await asyncio.gather(*(owner.post(OFFERS, work | {"kind": "embed"}) for _ in range(3)))
    assert {answer.status_code for answer in rivals} == {409}


async def test_an_offer_is_changed_by_its_owner_and_only_as_it_was_seen(fleet: Fleet) -> None:
    owner, other = await fleet.owner(), await fleet.owner()
    offer = await made(owner, miner=(await fleet.rig(owner)).id, sells="work", kind="embed", price="0.5")
    key = uuid.uuid4().hex
    cheaper = await changed(owner, offer, once=key, price="0.25", note="for a while")
    assert (cheaper.status_code, cheaper.json()["version"], cheaper.json()["price"]) == (200, 2, "0.25")
    assert (await changed(owner, offer, once=key, price="0.25", note="for a while")).json() == cheaper.json()
    stale = await changed(owner, offer, price="0.3")
    assert (stale.status_code, stale.json()["code"]) == (409, "market_offer_changed")
    assert (await changed(other, cheaper.json(), price="0.3")).status_code == 404
    assert (await changed(owner, cheaper.json())).status_code == 422
    races = await asyncio.gather(*(changed(owner, cheaper.json(), price=f"0.{one}") for one in range(3, 8)))
    assert sorted(answer.status_code for answer in races) == [200, 409, 409, 409, 409]
    now = (await owner.get(f"{OFFERS}/{offer['id']}")).json()
    assert now["version"] == 3 and now["price"] in {"0.3", "0.4", "0.5", "0.6", "0.7"}


async def test_an_offer_is_withdrawn_once_and_its_history_stays(fleet: Fleet) -> None:
    owner, other = await fleet.owner(), await fleet.owner()
    rig = await fleet.rig(owner)
    offer = await made(owner, miner=rig.id, sells="work", kind="embed", price="0.5")
    path = f"{OFFERS}/{offer['id']}"
    assert (await other.post(f"{path}/withdraw")).status_code == 404
    for _ in range(2):
        answer = await owner.post(f"{path}/withdraw")
        assert (answer.status_code, answer.json()["state"], answer.json()["version"]) == (200, "withdrawn", 2)
    late = await changed(owner, answer.json(), price="0.4")
    assert (late.status_code, late.json()["code"]) == (409, "market_offer_not_open")
    again = await made(owner, miner=rig.id, sells="work", kind="embed", price="0.4")
    states = {one["id"]: one["state"] for one in (await owner.get(OFFERS)).json()["data"]}
    assert states == {again["id"]: "open", offer["id"]: "withdrawn"}
    assert [one["id"] for one in (await owner.get(OFFERS, state="withdrawn")).json()["data"]] == [offer["id"]]


async def test_a_rule_puts_online_miners_on_sale_and_what_was_withdrawn_stays_so(fleet: Fleet) -> None:
    owner = await fleet.owner()
    first = await fleet.rig(owner)
    missing = await owner.post(f"{MARKET}/rule/sync")
    assert (missing.status_code, missing.json()["code"]) == (404, "market_rule_not_found")
    rule = {"kinds": {"embed": "0.002", "chat": "0.003"}, "price_hour": "0.5", "valid_days": 7}
    set_ = await owner.client.put(f"{MARKET}/rule", json=rule)
    assert (set_.status_code, set_.json()["kinds"]) == (200, rule["kinds"]), set_.text
    synced = (await owner.post(f"{MARKET}/rule/sync")).json()
    (offer,) = (await owner.get(OFFERS, miner=first.id)).json()["data"]
    assert synced["made"] in ([offer], [])  # none where the event that the miner is online was faster
    assert (synced["miners"], offer["kind"], offer["price"]) == (1, "embed", "0.002")
    assert offer["origin"] == "rule"
    assert (await owner.post(f"{MARKET}/rule/sync")).json()["made"] == []
    await owner.post(f"{OFFERS}/{offer['id']}/withdraw")
    second = await fleet.rig(owner)  # comes online later

    async def on_sale() -> bool:
        found = (await owner.get(OFFERS, miner=second.id)).json()["data"]
        return [one["price"] for one in found] == ["0.002"]

    await eventually(on_sale)
    await first.call("PUT", "/capabilities", {"capabilities": first.offer | {"region": "north"}})
    states = [one["state"] for one in (await owner.get(OFFERS, miner=first.id)).json()["data"]]
    assert states == ["withdrawn"]
    (anew,) = (await owner.post(f"{MARKET}/rule/sync")).json()["made"]
    assert anew["miner"] == first.id
    assert (await owner.client.delete(f"{MARKET}/rule")).json() == {"removed": True}
    assert (await owner.client.delete(f"{MARKET}/rule")).json() == {"removed": False}


async def test_what_is_known_of_a_miner_reaches_its_offers(fleet: Fleet) -> None:
    owner = await fleet.owner()
    rig = await fleet.rig(owner)
    offer = await made(owner, miner=rig.id, sells="work", kind="embed", price="0.5")
    assert (await owner.client.delete(f"/api/v1/gpu/miners/{rig.id}")).status_code == 200

    async def withdrawn() -> bool:
        seen = (await owner.get(f"{OFFERS}/{offer['id']}")).json()
        return bool(seen["state"] == "withdrawn" and facts(seen)["status"][0] == "removed")

    await eventually(withdrawn)


async def test_an_offer_and_an_event_may_bring_a_miner_at_one_time(fleet: Fleet) -> None:
    owner = await fleet.owner()
    rig, market, new = await fleet.rig(owner), market_of(fleet), ids.new_id("mnr")
    (row,) = await fleet.sql("SELECT body FROM gpu.outbox WHERE body::json->>'miner' = $1 LIMIT 1", rig.id)
    event = replace(msgspec.json.decode(row["body"], type=MinerChanged), miner=new)

    written = asyncio.Event()

    async def hear() -> None:
        await written.wait()
        async with market.db.unit_of_work() as uow:
            await market.on_miners_changed(uow, [event])

    hearing = asyncio.create_task(hear())
    async with market.db.unit_of_work() as uow:
        known = told(event) | {"version": 0, "as_of": event.changed_at - timedelta(seconds=1)}
        await remember(uow, new, known)
        written.set()
        await asyncio.sleep(0.1)  # it has begun to write the same row
    await hearing
    (found,) = await fleet.sql("SELECT version FROM marketplace.miners WHERE id = $1", ids.decode("mnr", new))
    assert found["version"] == event.version


async def test_hardware_is_verified_while_each_gpu_of_the_miner_was_measured(fleet: Fleet) -> None:
    owner = await fleet.owner()
    gpu = gpu_device()
    rig = await fleet.rig(owner, device="gpu", gpu_models=["RTX 4090"], vram_mib=24_000, devices=[gpu])
    offer = await made(owner, miner=rig.id, sells="device", price="0.8")
    market = market_of(fleet)

    async def told(version: int, *verified: bool) -> list[str]:
        event = MinerChanged(
            miner=rig.id,
            account=owner.principal.account,
            version=version,
            status="online",
            kinds=("embed",),
            models={},
            programs=(),
            device="gpu",
            gpu_models=("RTX 4090",),
            vram_mib=24_000,
            region=None,
            devices=tuple({"uuid": gpu["uuid"], "memory_mib": 24_000, "verified": one} for one in verified),
            slots=2,
            changed_at=clock.now() + timedelta(seconds=version),
        )
        async with market.db.unit_of_work() as uow:
            await market.on_miners_changed(uow, [event])
        seen = (await owner.get(f"{OFFERS}/{offer['id']}")).json()
        filter_ = f"miner = {rig.id} and verified = true"
        found = (await owner.get(f"{MARKET}/search", filter=filter_)).json()["data"]
        assert [one["id"] for one in found] == [offer["id"]] * seen["verified"]
        return [facts(seen)["vram_mib"][1]]

    assert await told(1001, True) == ["measured"]
    assert await told(1000, False) == ["measured"]  # an older word changes nothing
    assert await told(1002, True, False) == ["claimed"]
    assert await told(1003) == ["claimed"]


async def test_a_price_follows_the_use_of_the_owners_miners_and_never_falls_under_its_floor(fleet: Fleet) -> None:
    owner = await fleet.owner()
    rig = await fleet.rig(owner)
    pricing = {"floor": "0.5", "ceiling": "1.5"}
    offer = await made(owner, miner=rig.id, sells="work", kind="embed", pricing=pricing)
    assert (offer["price"], offer["pricing"]) == ("0.5", pricing)
    seen = []
    for busy in (1, 2, 0):
        await rig.heartbeat(slots_busy=busy)
        await market_of(fleet).reprice()
        seen.append((await owner.get(f"{OFFERS}/{offer['id']}")).json()["price"])
    assert seen == ["1", "1.5", "0.5"]
    own = await changed(owner, (await owner.get(f"{OFFERS}/{offer['id']}")).json(), price="3")
    assert own.status_code == 422
    fixed = await changed(owner, (await owner.get(f"{OFFERS}/{offer['id']}")).json(), price="3", pricing=None)
    assert (fixed.json()["price"], fixed.json()["pricing"]) == ("3", None)


async def test_an_offer_ends_when_its_time_is_up(fleet: Fleet) -> None:
    owner = await fleet.owner()
    rig = await fleet.rig(owner)
    until = (clock.now() + timedelta(hours=1)).isoformat()
    body = {"miner": rig.id, "sells": "work", "kind": "embed", "price": "0.5"}
    offer = await made(owner, **body, valid_until=until)
    clock.move(timedelta(seconds=3700))
    assert (await owner.get(f"{OFFERS}/{offer['id']}")).json()["state"] == "expired"
    await made(owner, **body)  # it is in nobody's way
    seen = (await owner.get(f"{OFFERS}/{offer['id']}")).json()
    assert (seen["state"], seen["version"]) == ("expired", 2)
    answer = await owner.post(f"{OFFERS}/{offer['id']}/withdraw")
    assert (answer.status_code, answer.json()["code"]) == (409, "market_offer_not_open")
