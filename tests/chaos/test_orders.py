"""A server that is killed while orders are placed, matched and canceled: each is there once, and its money too."""

import asyncio
import os
import random
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.chaos.audit import connected, faults
from tests.chaos.load import Acknowledged, Client
from tests.chaos.server_process import ServerProcess
from tests.chaos.test_crashes import QUICK, free_port, funded
from tests.scale import scaled

KILLS = int(os.environ.get("CHAOS_ORDER_KILLS", scaled(1, 200)))
TRADERS = 3
TRADING = "/api/v1/trading"


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
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield session


async def trade(trader: Client, placed: list[str], over: asyncio.Event) -> None:
    """Place orders near one price, and cancel some, each as often as it takes to know what became of it."""
    while not over.is_set():
        price = f"{random.choice((0.9, 1.0, 1.1)):.1f}"
        wish = {"pair": "GOLD-AITBC", "side": random.choice(("buy", "sell")), "quantity": "0.5", "price": price}
        status, order = await trader.until_known(f"{TRADING}/exchange/orders", wish, uuid.uuid4().hex)
        if status == 422 and order["code"] == "insufficient_funds":
            continue
        assert status == 201, order
        placed.append(order["id"])
        if random.random() < 0.4:
            path = f"{TRADING}/exchange/orders/{random.choice(placed[-5:])}/cancel"
            status, answer = await trader.until_known(path, None, uuid.uuid4().hex)
            assert status == 200, answer


@pytest.mark.timeout(120 + 10 * KILLS)
async def test_orders_and_their_money_are_there_once_however_often_the_server_is_killed(
    server: ServerProcess, session: aiohttp.ClientSession
) -> None:
    told = Acknowledged()
    admin = Client(server.url, server.admin_key, session, told)
    for path, body in (("assets", {"code": "GOLD", "name": "Gold"}), ("exchange/pairs", {"base": "GOLD"})):
        status, answer = await admin.until_known(f"{TRADING}/{path}", body, uuid.uuid4().hex)
        assert status == 201, answer
    traders, placed = list[Client](), [list[str]() for _ in range(TRADERS)]
    for number in range(TRADERS):
        account, key = await funded(admin, f"trader-{number}", "100")
        gold = {"account": account, "amount": "100", "asset": "GOLD"}
        assert (await admin.until_known(f"{TRADING}/deposits", gold, uuid.uuid4().hex))[0] == 201
        traders.append(Client(server.url, key, session, told))
    over = asyncio.Event()
    running = [asyncio.create_task(trade(*each, over)) for each in zip(traders, placed, strict=True)]
    for _ in range(KILLS):
        await asyncio.sleep(random.uniform(0.2, 0.9))
        server.kill()
        await asyncio.to_thread(server.start)
    over.set()
    await asyncio.gather(*running)
    known = {order for orders in placed for order in orders}
    connection = await connected(server.database)
    try:
        assert await connection.fetchval("SELECT count(*) FROM trading.exchange_orders") == len(known) > 0
        sums = await connection.fetch("SELECT asset, sum(balance_units) AS all FROM trading.accounts GROUP BY asset")
        assert {row["asset"]: row["all"] for row in sums} == {"AITBC": 0, "GOLD": 0}
    finally:
        await connection.close()
    found = [fault for fault in await faults(server.database, told) if not fault.startswith("an event that was not")]
    assert (found, told.unexpected) == ([], [])
    status, report = await admin.once(f"{TRADING}/ledger/verify", None)
    assert (status, report["ok"]) == (200, True), report
