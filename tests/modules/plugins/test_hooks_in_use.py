"""Plugins where the platform asks them: they rank what miners offer, and are told of what happened."""

import json
from typing import Any

from aitbc.kernel.hooks.points import NOTIFY, RANK_OFFERS, Happened, OffersRanked, Order
from aitbc.kernel.hooks.trusted import Trusted, plugin_hook
from tests.app import TestApp
from tests.eventually import eventually
from tests.journeys.hand_miner import HandMiner
from tests.kernel.hooks.plugins import module
from tests.modules.plugins.make import API, publisher, word

JOB = {"kind": "embed", "input": {"texts": ["x"]}, "max_price": "1"}
SECOND = """(i32.store (i32.const 16) (i32.const 32)) (i32.store (i32.const 20) (i32.const 1)) (i32.const 16)"""
"""The answer `1`: the second offer is the best."""


def trusted(function: Any) -> Trusted:
    """A trusted plugin of one function."""
    return Trusted("tests", "1", 0, {function.__aitbc_hook__: function})


async def test_a_sandboxed_plugin_ranks_offers_for_quotes_and_for_whom_jobs_are_kept(app: TestApp) -> None:
    owner, bob, admin, alice = await app.who("owner"), await app.who("bob"), await app.admin(), await publisher(app)
    for price in ("0.00002", "0.00001"):
        miner = await HandMiner.enrol(app, owner)
        await miner.beat()
        offer = {"miner": miner.id, "sells": "work", "kind": "embed", "price": price}
        made = await owner.post("/api/v1/marketplace/offers", offer)
        assert made.status_code == 201, made.text

    async def quoted(prefer: str | None = "cheapest") -> tuple[list[str], list[str]]:
        answer = (await bob.post("/api/v1/ai/quotes", JOB | ({"prefer": prefer} if prefer else {}))).json()
        prices = {one["miner"]: one["unit_price"] for one in answer["offers"]}
        return list(prices.values()), [prices[one] for one in answer["kept_for"]]

    async def both_are_there() -> bool:
        return (await quoted())[0] == ["0.00001", "0.00002"]

    await eventually(both_are_there)
    assert await quoted() == (["0.00001", "0.00002"], ["0.00001"])
    code = module(SECOND, hook="rank_offers.1", data='(data (i32.const 32) "1")')
    version = await alice.publish(alice.manifest(word("rank"), hooks=("rank_offers.1",)), code)
    assert (await admin.post(f"{API}/installs", {"plugin": version["plugin"]})).status_code == 201
    assert await quoted() == (["0.00002", "0.00001"], ["0.00002"])
    assert await quoted(None) == (["0.00002", "0.00001"], [])
    asked: list[OffersRanked] = []

    @plugin_hook(RANK_OFFERS)
    def rank(offers: OffersRanked) -> Order:
        asked.append(offers)
        return Order(order="1")

    app.runtime.platform.hooks.load(trusted(rank))
    assert await quoted("fastest") == (["0.00001", "0.00002"], ["0.00001"]), "each puts what the one before left"
    assert (asked[0].account, asked[0].prefer, asked[0].count) == (bob.principal.account, "fastest", 2)
    assert {one["unit_price_units"] for one in json.loads(asked[0].offers)} == {1_000, 2_000}
    app.runtime.platform.hooks.unload("tests")
    await admin.post(f"{API}/installs/{version['plugin']}/remove", {})
    assert await quoted() == (["0.00001", "0.00002"], ["0.00001"])


async def test_a_plugin_is_told_of_what_webhooks_are_told(app: TestApp) -> None:
    heard: list[Happened] = []

    @plugin_hook(NOTIFY)
    def hear(what: Happened) -> None:
        heard.append(what)

    app.runtime.platform.hooks.load(trusted(hear))
    bob = await app.who("bob", funds="1")
    job = (await bob.post("/api/v1/ai/jobs", JOB)).json()["id"]
    assert (await bob.post(f"/api/v1/ai/jobs/{job}/cancel")).status_code == 200

    async def told() -> bool:
        return any(one.kind == "ai.job_closed" and job in one.data for one in heard)

    await eventually(told)
    [closed] = [one for one in heard if one.kind == "ai.job_closed" and job in one.data]
    assert closed.accounts == bob.principal.account and closed.event.startswith("evt_")
    app.runtime.platform.hooks.unload("tests")
