"""Lines to booked machines where modules have processes of their own, and where two servers serve one installation."""

import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from aitbc.kernel.database.unit_of_work import Target
from tests.app import Caller
from tests.journeys.hand_miner import HandMiner
from tests.journeys.shapes import REPLICAS, TestInstallation, installed
from tests.scale import only_in_full

pytestmark = only_in_full
NAME = "NVIDIA H100 80GB HBM3"


@pytest.fixture(scope="module", params=("gpu split", REPLICAS))
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], Target]
) -> Iterator[TestInstallation]:
    """Each of them."""
    with installed(request.param, tmp_path_factory.mktemp("lines"), new_database) as installation:
        yield installation


@asynccontextmanager
async def line(url: str, key: str, path: str) -> AsyncIterator[Any]:
    """A WebSocket with a key."""
    headers = {"Authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(headers=headers) as session, session.ws_connect(url + path) as socket:
        yield socket


async def booked(place: TestInstallation) -> tuple[Caller, HandMiner, str]:
    """Somebody, the miner that they have booked, and the booking."""
    owner, buyer = await place.who("owner"), await place.who("buyer", funds="10")
    miner = await HandMiner.enrol(place, owner, gpus=[NAME])
    await miner.beat()
    offer = {"kinds": ["embed"], "device": "gpu", "gpu_models": [NAME], "machine": {"available": True, "images": ["x"]}}
    told = await miner.client.put(f"/api/v1/gpu/miners/{miner.id}/capabilities", json=offer)
    assert told.status_code == 200, told.text
    wanted = {"model": "H100", "price_per_hour": "1", "miner": miner.id}
    listing = (await owner.post("/api/v1/gpu/listings", wanted)).json()["id"]
    made = await buyer.post("/api/v1/gpu/bookings", {"gpu": listing, "duration_seconds": 600, "max_price": "1"})
    assert made.status_code == 201, made.text
    return buyer, miner, made.json()["id"]


async def test_both_ends_meet_and_are_closed_with_the_booking_and_with_the_key(place: TestInstallation) -> None:
    buyer, miner, booking = await booked(place)
    path, first, last = f"/api/v1/gpu/bookings/{booking}/sessions", place.servers[0].url, place.servers[-1].url
    made = (await buyer.post(path, {"purpose": "shell"}, once=secrets.token_hex(8))).json()
    heard = (await miner.client.post("/api/v1/gpu/machine/watch", json={"wait_seconds": 20})).json()
    [wanted] = heard["sessions"]
    assert wanted["id"] == made["id"]
    miner_key = miner.client.headers["authorization"].removeprefix("Bearer ")
    async with line(first, buyer.secret, made["path"]) as client:
        if len(place.servers) > 1:  # the other end is at the first
            with pytest.raises(aiohttp.WSServerHandshakeError) as elsewhere:
                async with line(last, miner_key, wanted["path"]):
                    raise AssertionError("it was let in")
            assert elsewhere.value.status == 421
        async with line(first, miner_key, wanted["path"]) as other:
            await other.send_str('{"started": true}')
            await client.send_bytes(b"x" * 65_536)
            assert await client.receive_str(timeout=40) == '{"started": true}'
            assert await other.receive_bytes(timeout=40) == b"x" * 65_536
            ended = await buyer.post(f"/api/v1/gpu/bookings/{booking}/release", once=secrets.token_hex(8))
            assert ended.status_code == 200, ended.text
            for end in (client, other):
                closed = await end.receive(timeout=40)
                assert (closed.type, closed.data, closed.extra) == (aiohttp.WSMsgType.CLOSE, 1008, "booking_not_active")


async def test_a_line_ends_with_its_key(place: TestInstallation) -> None:
    buyer, _, booking = await booked(place)
    path = f"/api/v1/gpu/bookings/{booking}/sessions"
    made = (await buyer.post(path, {"purpose": "shell"}, once=secrets.token_hex(8))).json()
    async with line(place.servers[0].url, buyer.secret, made["path"]) as client:
        admin = await place.admin()
        revoked = await admin.post(f"/api/v1/identity/keys/{buyer.principal.key}/revoke")
        assert revoked.status_code == 200, revoked.text
        closed = await client.receive(timeout=40)
        assert (closed.type, closed.extra) == (aiohttp.WSMsgType.CLOSE, "unauthenticated")
