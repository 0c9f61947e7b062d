"""A server on which bids, agreements, bookings and disputes go on is killed at random: nothing is lost, and nothing paid twice."""

import asyncio
import os
import random
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.chaos.audit import NOTHING, connected, open_work
from tests.chaos.load import Acknowledged, Client, enrol
from tests.chaos.server_process import ServerProcess
from tests.chaos.test_crashes import QUICK, free_port, funded
from tests.scale import scaled

KILLS = int(os.environ.get("CHAOS_MARKET_KILLS", scaled(2, 200)))
TRADED_MIN = scaled(2, 50)
"""So many bookings are disputed at least: else nothing was under way when the server died."""
BUYERS = 2
FUNDS = 100_000
PATIENCE = 90.0 + 4 * KILLS
MARKET = "/api/v1/marketplace"
TRADING = "/api/v1/trading"
GPU = "NVIDIA GeForce RTX 4090"


@pytest.fixture
def server(tmp_path: Path) -> Any:
    """An installation of its own, started."""
    made = ServerProcess(tmp_path / "state", free_port(), **QUICK)
    made.start()
    yield made
    made.stop()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """Connections for the load."""
    timeout = aiohttp.ClientTimeout(total=8)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:
        yield session


class Trader:
    """Somebody who has one miner of an owner's again and again, by each door, and disputes what was paid."""

    def __init__(self, buyer: Client, owner: Client, miner: str, offer: str) -> None:
        self._buyer, self._owner, self._miner, self._offer = buyer, owner, miner, offer
        self.bids: set[str] = set()
        self.agreements: set[str] = set()
        self.disputes: set[str] = set()

    async def trade(self, over: asyncio.Event) -> None:
        """One booking after the other, each to the end of its dispute."""
        while not over.is_set():
            booking = await random.choice([self._bid, self._book, self._agree])()
            if booking is not None:
                await self._use(booking)

    async def _bid(self) -> str | None:
        wish = {"filter": f"miner = {self._miner}", "duration_seconds": 600, "price_hour": "4000"}
        status, bid = await self._buyer.until_known(f"{MARKET}/bids", wish, uuid.uuid4().hex)
        assert status == 201, bid
        self.bids.add(bid["id"])
        bid = await self._until(self._buyer, f"{MARKET}/bids/{bid['id']}", "filled", "canceled", "expired")
        return str(bid["trades"][0]["booking"]) if bid["trades"] else None

    async def _book(self) -> str | None:
        wish = {"offer": self._offer, "duration_seconds": 600, "max_price": "1000"}
        status, booking = await self._buyer.until_known(f"{MARKET}/bookings", wish, uuid.uuid4().hex)
        assert status in (201, 409), booking
        if status == 409:  # its miner is not heard of yet, or stops for the booker before
            await asyncio.sleep(0.2)
            return None
        return str(booking["id"])

    async def _agree(self) -> str | None:
        """Ask for its time among trades, take the match, and wait for the booking that the market places."""
        wish = {"trade_type": "compute_resources", "title": "x", "specifications": {"hours": 0.25, "vram_gb": 8}}
        status, request = await self._buyer.until_known(f"{TRADING}/requests", wish, uuid.uuid4().hex)
        assert status == 201, request
        status, found = await self._buyer.until_known(
            f"{TRADING}/requests/{request['id']}/matches", None, uuid.uuid4().hex
        )
        assert status == 200, found
        mine = [one["id"] for one in found["data"] if one["offer"].removeprefix("toff_") in self._offer]
        if not mine:  # its offer is not heard of yet
            return None
        status, signed = await self._buyer.until_known(f"{TRADING}/matches/{mine[0]}/accept", {}, uuid.uuid4().hex)
        assert status == 201, signed
        self.agreements.add(signed["id"])
        path = f"{TRADING}/agreements/{signed['id']}"
        signed = await self._until(self._buyer, path, "settling", "completed", "failed", "cancelled")
        return None if signed["booking"] is None else str(signed["booking"])

    async def _use(self, booking: str) -> None:
        if (await self._until(self._buyer, f"{MARKET}/bookings/{booking}", "active", "ended"))["state"] == "active":
            await asyncio.sleep(random.uniform(0, 0.3))
            await self._done(self._buyer, f"bookings/{booking}/end")
        ended = await self._until(self._buyer, f"{MARKET}/bookings/{booking}", "ended")
        if float(ended["paid"]) > 0.001:
            await self._dispute(booking)

    async def _dispute(self, booking: str) -> None:
        body = {"subject": booking, "reason": "x"}
        status, dispute = await self._buyer.until_known(f"{MARKET}/disputes", body, uuid.uuid4().hex)
        assert status == 201, dispute
        await self._until(self._owner, f"{MARKET}/disputes/{dispute['id']}", "open")
        who, end = random.choice([(self._owner, "concede"), (self._buyer, "withdraw")])
        await self._done(who, f"disputes/{dispute['id']}/{end}")
        await self._until(who, f"{MARKET}/disputes/{dispute['id']}", "closed")
        self.disputes.add(dispute["id"])

    async def _done(self, who: Client, path: str) -> None:
        status, told = await who.until_known(f"{MARKET}/{path}", {})
        assert status == 200, told

    async def _until(self, who: Client, path: str, *states: str) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE):
            while True:
                status, seen = await who.get(path)
                assert status == 200, seen
                if seen["state"] in states:
                    return dict(seen)
                await asyncio.sleep(0.1)


async def beat(miner: Client) -> None:
    """Say again and again that a miner lives; ends by cancellation."""
    while True:
        await miner.once("/api/v1/gpu/heartbeats", {"slots": 2, "slots_busy": 0, "leases": []})
        await asyncio.sleep(0.3)


async def trader(number: int, server: ServerProcess, admin: Client, session: Any, told: Acknowledged) -> Any:
    """A buyer, an owner and a miner on sale, and the heartbeats of that miner."""
    keys = [await funded(admin, f"{role}-{number}", amount) for role, amount in (("buyer", str(FUNDS)), ("owner", "1"))]
    buyer, owner = (Client(server.url, key, session, told) for _, key in keys)
    _, miner, secret = await enrol(
        owner, Client(server.url, "", session, told), f"miner {number}", 2, gpus=[GPU], on_gpus=True
    )
    beating = asyncio.create_task(beat(Client(server.url, secret, session, told)))
    wish = {"miner": miner, "sells": "device", "device": 0, "price": "3600", "min_seconds": 60}
    for _ in range(200):  # until its first heartbeat was heard of
        status, offer = await owner.until_known(f"{MARKET}/offers", wish, uuid.uuid4().hex)
        if status == 201:
            return Trader(buyer, owner, miner, offer["id"]), beating
        await asyncio.sleep(0.3)
    raise AssertionError(offer)


@pytest.mark.timeout(300 + 8 * KILLS)
async def test_bids_bookings_and_disputes_are_whole_however_often_the_server_is_killed(
    server: ServerProcess, session: aiohttp.ClientSession
) -> None:
    told = Acknowledged()
    admin = Client(server.url, server.admin_key, session, told)
    made = [await trader(number, server, admin, session, told) for number in range(BUYERS)]
    over = asyncio.Event()
    trading = [asyncio.create_task(one.trade(over)) for one, _ in made]
    for _ in range(KILLS):
        await asyncio.sleep(random.uniform(0.1, 1.5))
        server.kill()
        await asyncio.to_thread(server.start)
    async with asyncio.timeout(PATIENCE):
        while sum(len(one.disputes) for one, _ in made) < TRADED_MIN:
            assert not any(task.done() for task in trading), await asyncio.gather(*trading)
            await asyncio.sleep(0.2)
    over.set()
    await asyncio.gather(*trading)
    async with asyncio.timeout(PATIENCE):
        while await open_work(server.database):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.3)
    for _, beating in made:
        beating.cancel()
    await sound(server, made)
    status, report = await admin.once("/api/v1/trading/ledger/verify", None)
    assert (status, report["ok"], told.unexpected) == (200, True, []), report


async def sound(server: ServerProcess, made: Any) -> None:
    """What the audit asks holds, each bid and agreement that was told of is there once, and all the money is."""
    connection = await connected(server.database)
    try:
        for name, query in NOTHING.items():
            assert await connection.fetch(query) == [], name
        for table, told in (("marketplace.bids", "bids"), ("trading.trade_agreements", "agreements")):
            count = await connection.fetchval(f"SELECT count(*) FROM {table}")
            assert count == sum(len(getattr(one, told)) for one, _ in made), table
        money = "SELECT sum(balance_units) FROM trading.accounts WHERE owner LIKE 'acct_%' OR purpose = 'fees'"
        assert await connection.fetchval(money) == BUYERS * (FUNDS + 1) * 10**8
    finally:
        await connection.close()
