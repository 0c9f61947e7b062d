"""Licences: bought out of escrow, given back once within thirty days, and paid seventy to thirty after them."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from aitbc.kernel.primitives import clock
from tests.app import Caller, TestApp
from tests.modules.plugins.make import API, Publisher, publisher, put, word


@pytest.fixture(autouse=True)
async def still_clock() -> AsyncIterator[None]:
    yield
    clock.reset()


async def sold(app: TestApp, price: str = "10.00000001", **terms: Any) -> tuple[Publisher, str]:
    alice = await publisher(app)
    version = await alice.publish(alice.manifest(word("sold")))
    assert (
        await put(alice.caller, f"/catalogue/{version['plugin']}/terms", {"price": price, **terms})
    ).status_code == 200
    return alice, version["plugin"]


async def money(app: TestApp, who: Caller) -> tuple[int, int]:
    balance = await app.service("trading").balance(who.principal.account)
    return balance.available_units, balance.held_units


async def test_a_purchase_lies_in_escrow_and_is_then_paid_in_shares_that_add_up(app: TestApp) -> None:
    alice, plugin = await sold(app)
    bob = await app.who("bob", funds="20")
    version = (await alice.caller.get(f"{API}/versions", plugin=plugin)).json()["data"][0]["id"]
    assert (await bob.post(f"{API}/versions/{version}/fetch")).json()["code"] == "plugin_licence_needed"
    bought = await bob.post(f"{API}/licences", {"plugin": plugin}, once="one")
    again = await bob.post(f"{API}/licences", {"plugin": plugin}, once="one")
    assert (bought.status_code, again.json()) == (201, bought.json())
    licence = bought.json()
    assert (licence["state"], licence["publisher_share"], licence["platform_share"]) == ("held", "7.00000001", "3")
    assert await money(app, bob) == (999_999_999, 1_000_000_001)
    other = await bob.post(f"{API}/licences", {"plugin": plugin})
    assert (other.status_code, other.json()["code"]) == (409, "plugin_licensed")
    assert (await bob.post(f"{API}/versions/{version}/fetch")).status_code == 200
    service = app.service("plugins")
    await service.reconcile_licences()
    assert (await bob.get(f"{API}/licences/{licence['id']}")).json()["state"] == "held"
    clock.move(timedelta(days=30, seconds=1))
    await asyncio.gather(*(service.reconcile_licences() for _ in range(3)))
    assert (await bob.get(f"{API}/licences/{licence['id']}")).json()["state"] == "paid"
    assert await money(app, alice.caller) == (700_000_001, 0)
    assert await money(app, bob) == (999_999_999, 0)
    late = await bob.post(f"{API}/licences/{licence['id']}/refund")
    assert (late.status_code, late.json()["code"]) == (409, "plugin_refund_over")
    figures = (await alice.caller.get(f"{API}/catalogue/{plugin}/figures", days=60)).json()["data"]
    assert (sum(day["purchases"] for day in figures), {day["revenue"] for day in figures}) == (1, {"0", "7.00000001"})


async def test_a_licence_is_given_back_once_and_the_right_ends_with_it(app: TestApp) -> None:
    alice, plugin = await sold(app)
    bob = await app.who("bob", funds="20")
    licence = (await bob.post(f"{API}/licences", {"plugin": plugin})).json()
    assert (await (await app.who("carol")).post(f"{API}/licences/{licence['id']}/refund")).status_code == 404
    answers = await asyncio.gather(*(bob.post(f"{API}/licences/{licence['id']}/refund") for _ in range(4)))
    assert {(one.status_code, one.json()["state"]) for one in answers} == {(200, "refunded")}
    assert await money(app, bob) == (2_000_000_000, 0) and await money(app, alice.caller) == (0, 0)
    version = (await alice.caller.get(f"{API}/versions", plugin=plugin)).json()["data"][0]["id"]
    assert (await bob.post(f"{API}/versions/{version}/fetch")).status_code == 402
    clock.move(timedelta(days=31))
    await app.service("plugins").reconcile_licences()
    assert await money(app, bob) == (2_000_000_000, 0)
    assert (await bob.post(f"{API}/licences", {"plugin": plugin})).json()["state"] == "held", "it may be bought anew"


async def test_a_refund_and_a_payment_at_the_same_moment_are_one_or_the_other(app: TestApp) -> None:
    alice, plugin = await sold(app)
    bob = await app.who("bob", funds="20")
    licence = (await bob.post(f"{API}/licences", {"plugin": plugin})).json()["id"]
    clock.move(timedelta(days=30) - timedelta(seconds=1))
    refund = asyncio.create_task(bob.post(f"{API}/licences/{licence}/refund"))
    clock.move(timedelta(seconds=2))
    await asyncio.gather(app.service("plugins").reconcile_licences(), refund)
    await app.service("plugins").reconcile_licences()
    state = (await bob.get(f"{API}/licences/{licence}")).json()["state"]
    expected = {"refunded": ((2_000_000_000, 0), (0, 0)), "paid": ((999_999_999, 0), (700_000_001, 0))}
    assert (await money(app, bob), await money(app, alice.caller)) == expected[state]


async def test_without_the_money_nothing_is_bought(app: TestApp) -> None:
    _, plugin = await sold(app)
    bob = await app.who("bob", funds="1")
    for _ in range(2):
        short = await bob.post(f"{API}/licences", {"plugin": plugin}, once="one")
        assert short.status_code in (402, 409), short.text
    assert [one["state"] for one in (await bob.get(f"{API}/licences")).json()["data"]] == ["refused"]
    assert await money(app, bob) == (100_000_000, 0)


async def test_a_trial_is_had_once_and_ends_by_itself(app: TestApp) -> None:
    alice, plugin = await sold(app, trial_days=7)
    bob = await app.who("bob")
    version = (await alice.caller.get(f"{API}/versions", plugin=plugin)).json()["data"][0]["id"]
    trial = await bob.post(f"{API}/licences", {"plugin": plugin, "trial": True})
    assert (trial.status_code, trial.json()["state"], trial.json()["price"]) == (201, "trial", "0")
    assert (await bob.post(f"{API}/versions/{version}/fetch")).status_code == 200
    again = await bob.post(f"{API}/licences", {"plugin": plugin, "trial": True})
    assert (again.status_code, again.json()["code"]) == (409, "plugin_licensed")
    refund = await bob.post(f"{API}/licences/{trial.json()['id']}/refund")
    assert (refund.status_code, refund.json()["code"]) == (409, "plugin_refund_over")
    clock.move(timedelta(days=8))
    assert (await bob.post(f"{API}/versions/{version}/fetch")).status_code == 402


async def test_what_is_free_or_ones_own_is_not_bought(app: TestApp) -> None:
    alice, plugin = await sold(app)
    free = await alice.publish(alice.manifest(word("free")))
    bob = await app.who("bob", funds="20")
    for who, name in ((alice.caller, plugin), (bob, free["plugin"])):
        refused = await who.post(f"{API}/licences", {"plugin": name})
        assert (refused.status_code, refused.json()["code"]) == (409, "plugin_not_for_sale")
    refused = await bob.post(f"{API}/licences", {"plugin": plugin, "trial": True})
    assert (refused.status_code, refused.json()["code"]) == (409, "plugin_not_for_sale")
    assert (await bob.post(f"{API}/licences", {"plugin": "no.such"})).status_code == 404
