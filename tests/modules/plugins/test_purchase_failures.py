"""Purchases whose steps fail: whatever breaks off where, the licence and the money come to one end, and nothing is lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta

import pytest

from aitbc.kernel.primitives import clock
from aitbc.kernel.primitives.errors import AppError
from tests.app import TestApp
from tests.modules.plugins.make import API, publisher, put, word
from tests.scale import scaled

PRICE = 1_000_000_001
FUNDS = 2_000_000_000


@pytest.fixture(autouse=True)
async def still_clock() -> AsyncIterator[None]:
    yield
    clock.reset()


async def test_a_purchase_that_is_broken_off_anywhere_ends_paid_refunded_or_refused(app: TestApp) -> None:
    alice = await publisher(app)
    service, trading = app.service("plugins"), app.service("trading")
    version = await alice.publish(alice.manifest(word("sold")))
    await put(alice.caller, f"/catalogue/{version['plugin']}/terms", {"price": "10.00000001"})
    earned = 0
    for turns in range(scaled(6, 40)):
        bob = await app.who("bob", funds="20")
        buying = asyncio.create_task(bob.post(f"{API}/licences", {"plugin": version["plugin"]}, once="one"))
        for _ in range(turns * scaled(12, 2)):
            await asyncio.sleep(0)
        buying.cancel()
        with suppress(asyncio.CancelledError, AppError):
            await buying
        again = await bob.post(f"{API}/licences", {"plugin": version["plugin"]}, once="one")
        assert again.status_code in (201, 409), again.text
        if turns % 2:
            refunding = asyncio.create_task(bob.post(f"{API}/licences/{again.json()['id']}/refund"))
            for _ in range(turns * scaled(12, 2)):
                await asyncio.sleep(0)
            refunding.cancel()
            with suppress(asyncio.CancelledError, AppError):
                await refunding
        clock.move(timedelta(days=31))
        for _ in range(2):
            await service.reconcile_licences()
        (licence,) = (await bob.get(f"{API}/licences")).json()["data"]
        balance = await trading.balance(bob.principal.account)
        assert balance.held_units == 0, licence
        spent = PRICE if licence["state"] == "paid" else 0
        assert licence["state"] in ("paid", "refunded", "refused")
        assert balance.available_units == FUNDS - spent
        earned += spent - 300_000_000 if spent else 0
        assert (await trading.balance(alice.caller.principal.account)).available_units == earned
        clock.reset()
