"""Watches: webhooks are told of what moves at an address from an amount on, once each, and of nothing before or after."""

from typing import Any

import msgspec
import pytest

from aitbc.kernel.database.unit_of_work import Target
from tests.modules.trading.trades import Market, a_market

pytestmark = pytest.mark.anyio


async def told(market: Market) -> list[dict[str, Any]]:
    """What was told so far, the oldest first."""
    await market.trading.look_at_watches()

    async with market.trading.db.raw() as connection:
        rows = await connection.fetch(
            "SELECT body FROM trading.outbox WHERE kind = 'trading.watched_moved' ORDER BY id"
        )
    return [msgspec.json.decode(row["body"]) for row in rows]


async def test_what_moves_at_a_watched_address_is_told_once_and_from_its_amount_on(empty: Target) -> None:
    async with a_market(empty) as market:
        seller = market.people["seller"].account
        body = {"address": seller, "above": "5", "label": "the seller"}
        watch = await market.post("stranger", "/watches", body, status=201)
        assert (watch["subject"], watch["told"]) == ("account", 0)
        assert await told(market) == []
        await market.settle({"settlement_type": "immediate"})
        await market.settle({"settlement_type": "immediate"}, offer={"price": "1"})
        for _ in range(2):
            (moved,) = await told(market)
        assert (moved["address"], moved["amount"], moved["label"]) == (seller, "9.9", "the seller")
        assert (await market.get("stranger", f"/watches/{watch['id']}"))["told"] == 1
        for ask in (market.client.get, market.client.delete):
            assert (await ask(f"/watches/{watch['id']}", headers={"x-who": "seller"})).status_code == 404
        miner = await market.post("stranger", "/watches", {"address": "mnr_01kb2c3d4e5f6g7h8j9kamnpqr"}, status=201)
        assert miner["subject"] == "miner"
        assert {one["id"] for one in (await market.get("stranger", "/watches"))["data"]} == {watch["id"], miner["id"]}
        gone = await market.client.delete(f"/watches/{watch['id']}", headers={"x-who": "stranger"})
        assert gone.json()["ended_at"] is not None
        await market.settle({"settlement_type": "immediate"})
        assert len(await told(market)) == 1
        assert await market.owned("seller") == (2 * 990_000_000 + 99_000_000, 0)
