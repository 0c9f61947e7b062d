"""Machines of bookers over HTTP: what a booking gives, who may open connections, what their miner hears, and their time."""

import asyncio
import json
import uuid
from typing import Any

import pytest

from aitbc.kernel.crypto.booking_receipt import verify_booking
from aitbc.kernel.crypto.chain_format import ChainError
from aitbc.kernel.identity.principal import Principal
from aitbc.modules.gpu.service import GpuSettings
from aitbc.modules.gpu.service.machine_relay import MachineRelay
from aitbc.modules.gpu.service.machines import MachineSessionElsewhere, SessionEnd
from tests.app import Caller
from tests.modules.gpu.make import Fleet, Rig, gpu_device

pytestmark = pytest.mark.anyio
GIVEN = {"available": True, "images": ["python"], "network": False}


class Let:
    """A miner that gives machines, listed, and somebody who has it booked."""

    def __init__(self, owner: Caller, buyer: Caller, rig: Rig, booking: str) -> None:
        self.owner, self.buyer, self.rig, self.booking = owner, buyer, rig, booking

    async def open(self, who: Caller | None = None, *, once: str | None = None, **wanted: Any) -> Any:
        """The answer to opening a connection."""
        path = f"/api/v1/gpu/bookings/{self.booking}/sessions"
        return await (who or self.buyer).post(path, {"purpose": "shell", **wanted}, once=once or uuid.uuid4().hex)

    async def view(self) -> Any:
        """What the booking gives."""
        return (await self.buyer.get(f"/api/v1/gpu/bookings/{self.booking}/machine")).json()

    async def watch(self, **sent: Any) -> Any:
        """What is wanted of the miner."""
        answer = await self.rig.call("POST", "/machine/watch", {"wait_seconds": 0, **sent})
        assert answer.status_code == 200, answer.text
        return answer.json()


async def let(fleet: Fleet, machine: dict[str, Any] | None = GIVEN, seconds: int = 3600) -> Let:
    """The above."""
    owner, buyer = await fleet.owner(), await fleet.stage.who("booker", funds="10")
    rig = await fleet.rig(owner, devices=[gpu_device()])
    offer = {**rig.offer, **({} if machine is None else {"machine": machine})}
    told = await rig.call("PUT", f"/miners/{rig.id}/capabilities", offer)
    full = machine and {"reason": None, "images": [], "network": False, **machine}
    assert told.status_code == 200 and told.json()["machine"] == full, told.text
    wanted = {"model": "RTX 4090", "price_per_hour": "1", "miner": rig.id}
    listing = (await owner.post("/api/v1/gpu/listings", wanted, once=uuid.uuid4().hex)).json()
    assert listing["machine"] == told.json()["machine"]
    hour = {"gpu": listing["id"], "duration_seconds": seconds, "max_price": "10"}
    booked = await buyer.post("/api/v1/gpu/bookings", hour, once=uuid.uuid4().hex)
    assert booked.status_code == 201, booked.text
    return Let(owner, buyer, rig, booked.json()["id"])


async def test_a_booking_says_beforehand_what_it_gives_and_refuses_what_it_does_not(fleet: Fleet) -> None:
    none = await let(fleet, {"available": False, "reason": "no podman"})
    seen = await none.view()
    assert (seen["offered"], seen["reason"], seen["usable"]) == (False, "no podman", False)
    refused = await none.open()
    assert (refused.status_code, refused.json()["code"]) == (409, "machine_not_offered")
    older = await let(fleet, None)
    assert "does not say" in (await older.view())["reason"]
    assert (await older.open()).status_code == 409
    given = await let(fleet)
    for one, available in ((none, False), (older, False), (given, True)):
        told = await one.buyer.get(f"/api/v1/gpu/miners/{one.rig.id}/machine")
        assert told.json()["available"] == available
    assert (await given.view())["usable"]
    for wanted, status in (
        ({"purpose": "port"}, 422),
        ({"purpose": "put"}, 422),
        ({"purpose": "get", "path": "x", "command": ["y"]}, 422),
        ({"image": "other"}, 409),
        ({"network": True}, 409),
    ):
        assert (await given.open(**wanted)).status_code == status, wanted
    assert (await given.view())["sessions"] == 0


async def test_only_the_payer_opens_connections_and_only_the_booked_miner_hears_of_them(fleet: Fleet) -> None:
    mine, other = await let(fleet), await let(fleet)
    assert (await mine.rig.heartbeat())["booking"] == mine.booking
    for stranger in (mine.owner, other.buyer, await fleet.stage.admin()):
        assert (await mine.open(stranger)).status_code == 404
    reading = await fleet.stage.who("reader", scopes=frozenset({"jobs:read"}))
    assert (await mine.open(reading)).status_code == 403
    once = uuid.uuid4().hex
    made, again = (await mine.open(once=once)).json(), (await mine.open(once=once)).json()
    assert made == again
    heard = await mine.watch()
    assert (heard["booking"], heard["state"]) == (mine.booking, "paid")
    [wanted] = heard["sessions"]
    assert (wanted["id"], wanted["wanted"]["purpose"]) == (made["id"], "shell")
    assert (await other.watch())["sessions"] == []
    machines, place = fleet.gpu.machines, "a:1:0"
    await machines.admit(mine.buyer.principal, made["id"], "client", place)
    with pytest.raises(MachineSessionElsewhere, match=place):
        await machines.admit(
            Principal("acct_x", "key_x", "miner", frozenset(), mine.rig.id), made["id"], "miner", "b:2:0"
        )
    assert (await mine.watch(known=[made["id"]]))["sessions"] != []  # it waits still; the miner knows it has it


async def test_a_machine_has_its_time_counted_and_the_miner_is_free_once_it_is_gone(fleet: Fleet) -> None:
    mine = await let(fleet)
    await mine.watch(booking=mine.booking, runs=True)
    for _ in range(3):
        await fleet.later(20)
        await mine.rig.heartbeat(machine=mine.booking)
        await mine.watch(booking=mine.booking, runs=True)
    seen = await mine.view()
    assert seen["running"] and 59 < seen["used_seconds"] < 65, seen
    early = await mine.buyer.get(f"/api/v1/gpu/bookings/{mine.booking}/receipt")
    assert early.json()["code"] == "booking_not_settled"
    await fleet.later(300)  # the miner is silent: a minute of it counts
    await mine.watch(booking=mine.booking, runs=False)
    assert 119 < (await mine.view())["used_seconds"] < 126
    await mine.rig.heartbeat(machine=mine.booking)
    await mine.watch(booking=mine.booking, runs=True)
    await mine.open()
    over = (await mine.buyer.post(f"/api/v1/gpu/bookings/{mine.booking}/release", once=uuid.uuid4().hex)).json()
    assert over["state"] == "released" and over["machine_seconds"] > 119
    assert (await mine.open()).json()["code"] == "booking_not_active"
    paid = (await mine.buyer.get(f"/api/v1/gpu/bookings/{mine.booking}")).json()
    record = (await mine.buyer.get(f"/api/v1/trading/transactions/{paid['transaction']}")).text
    assert "a machine ran for" in record
    receipt = f"/api/v1/gpu/bookings/{mine.booking}/receipt"
    saved = await mine.buyer.get(receipt)
    told = verify_booking(saved.content, trusted_keys=[fleet.stage.runtime.platform.node_key.public]).receipt
    used = round(over["paid_seconds"] * 1000)
    assert (told["machine_ms"], told["used_ms"]) == (min(round(over["machine_seconds"] * 1000), used), used)
    assert told["paid"] == over["cost"]
    assert told["slices"][0]["transaction"] == paid["transaction"]
    assert (await mine.owner.get(receipt)).json() == saved.json()
    assert (await (await fleet.owner()).get(receipt)).status_code == 404
    longer = {"receipt": told | {"machine_ms": told["machine_ms"] - 1000}}
    with pytest.raises(ChainError, match="signature"):
        verify_booking(json.dumps(longer).encode())
    told = await mine.watch(booking=mine.booking)
    assert (told["booking"], told["state"], told["sessions"]) == (None, "none", [])
    stopping = "SELECT stopping_since IS NOT NULL AS waits FROM gpu.miners WHERE public_key = $1"
    await mine.rig.heartbeat(machine=mine.booking)  # the old machine is there still
    assert (await fleet.sql(stopping, mine.rig.key.public))[0]["waits"]
    await mine.rig.heartbeat()
    assert not (await fleet.sql(stopping, mine.rig.key.public))[0]["waits"]


class End:
    """One end of a connection, open in this process."""

    def __init__(self) -> None:
        self.came: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.told: list[dict[str, Any]] = []

    async def receive(self) -> dict[str, Any]:
        return await self.came.get()

    async def send(self, message: dict[str, Any]) -> None:
        self.told.append(message)


@pytest.mark.parametrize("is_over", [False, True])
async def test_who_is_connected_hears_that_the_booking_is_over_though_the_miner_closed_first(
    fleet: Fleet, is_over: bool
) -> None:
    mine = await let(fleet)
    made = (await mine.open()).json()
    client, miner = End(), End()
    if is_over:
        await mine.buyer.post(f"/api/v1/gpu/bookings/{mine.booking}/release", once=uuid.uuid4().hex)
    miner.came.put_nowait({"type": "websocket.disconnect", "code": 1000})
    relay = fleet.gpu.machine_relay
    ends = ((client, "client"), (miner, "miner"))
    async with asyncio.timeout(30):
        await asyncio.gather(*(relay.carry(SessionEnd(made["id"], mine.booking, side), end) for end, side in ends))
    assert client.told[-1]["reason"] == ("booking_not_active" if is_over else "miner_closed")


async def test_a_connection_on_which_nothing_is_said_for_too_long_is_closed(fleet: Fleet) -> None:
    mine = await let(fleet)
    made = (await mine.open()).json()
    relay = MachineRelay(fleet.gpu.machines, GpuSettings(machine_idle_seconds=0.2), asyncio.Event())
    await relay.admit(mine.buyer.principal, made["id"], "client")
    ends = {"client": End(), "miner": End()}
    said = {"type": "websocket.receive", "bytes": b"hello"}
    ends["client"].came.put_nowait(said)
    async with asyncio.timeout(40):
        carried = [
            asyncio.create_task(relay.carry(SessionEnd(made["id"], mine.booking, side), end))
            for side, end in ends.items()
        ]
        while not all(task.done() for task in carried):
            await relay.look()
            await asyncio.sleep(0.02)
    assert ends["miner"].told[0] == {"type": "websocket.send", "text": None, "bytes": b"hello"}
    assert [end.told[-1]["reason"] for end in ends.values()] == ["idle", "idle"]
    assert (await mine.view())["sessions"] == 0
