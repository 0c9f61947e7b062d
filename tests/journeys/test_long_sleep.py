"""After any sleep or downtime what is answered as succeeded is paid: the whole app over one database, with its clock moved."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import clock
from aitbc.kernel.primitives.errors import Unavailable
from aitbc.modules.ai.api import HoldExpired, Lease
from aitbc.modules.ai.service import AiSettings
from aitbc.modules.trading.service import TradingSettings
from tests.app import Caller, TestApp, running_app
from tests.journeys.hand_miner import HandMiner
from tests.modules.ai.make import Worker, a_job, a_key
from tests.scale import only_in_full

pytestmark = pytest.mark.anyio
JOBS = "/api/v1/ai/jobs"
EMBED: dict[str, Any] = {"kind": "embed", "input": {"texts": ["x"]}, "max_price": "0.05"}


@pytest.fixture(autouse=True)
async def _own_clock() -> AsyncIterator[None]:
    yield
    clock.reset()


def worker(app: TestApp) -> Worker:
    """A miner by hand."""
    market: Any = SimpleNamespace(ai=app.service("ai"))
    return Worker(market)


async def leased(app: TestApp, buyer: Caller, miner: Worker, jobs: int) -> list[Lease]:
    """Jobs of a buyer that a miner works on."""
    for _ in range(jobs):
        await app.service("ai").submissions.submit(buyer.principal, a_job(), a_key(buyer.principal))
    return await miner.claim(slots=jobs)


async def purse(app: TestApp, who: Caller) -> tuple[int, int]:
    """What somebody has, and what of it is held."""
    balance = await app.service("trading").balance(who.principal.account)
    return balance.available_units, balance.held_units


async def verified(app: TestApp) -> tuple[bool, int, Sequence[str]]:
    """What the operator's verification says of ledger and payments, a few minutes from now."""
    clock.move(timedelta(minutes=2))
    admin = await app.admin()
    ledger = (await admin.post("/api/v1/trading/ledger/verify")).json()
    payments = (await admin.post("/api/v1/ai/payments/verify")).json()
    assert ledger["ok"], ledger
    return payments["ok"], payments["jobs"], payments["unpaid_jobs"]


async def test_three_jobs_that_slept_through_their_holds_are_delivered_and_paid(
    new_database: Callable[[], Target], tmp_path: Path
) -> None:
    target = new_database()
    async with running_app(target, tmp_path) as app:
        buyer, miner = await app.who("buyer", funds="1"), worker(app)
        leases = await leased(app, buyer, miner, 3)
        assert (await purse(app, buyer))[1] == 15_000_000
    clock.move(timedelta(days=4))
    async with running_app(target, tmp_path) as app:
        miner.market = worker(app).market
        await app.service("trading").expire_holds()
        await app.service("ai").sweep()
        for lease in leases:
            outcome = await miner.deliver(lease)
            assert (outcome.state, outcome.earned) == ("succeeded", "0.00000058")
            assert (await app.service("trading").explorer.receipt(outcome.receipt)).receipt.job == lease.job
        assert await purse(app, buyer) == (10**8 - 3 * 60, 0)
        assert await verified(app) == (True, 3, [])


@only_in_full
async def test_without_a_grace_the_money_is_gone_and_the_result_is_refused_clearly(
    new_database: Callable[[], Target], tmp_path: Path
) -> None:
    target = new_database()
    tables = {"trading": TradingSettings(hold_grace_seconds=0.0), "ai": AiSettings()}
    async with running_app(target, tmp_path, tables=tables) as app:
        buyer, miner = await app.who("buyer", funds="1"), worker(app)
        (lease,) = await leased(app, buyer, miner, 1)
        clock.move(timedelta(days=4))
        await app.service("trading").expire_holds()
        with pytest.raises(HoldExpired):
            await miner.deliver(lease)
        job = await app.service("ai").jobs.get(buyer.principal, lease.job)
        assert (job.state, job.reason, job.fault, bytes(job.output)) == ("failed", "hold_expired", "platform", b"null")
        assert await purse(app, buyer) == (10**8, 0)
        assert await verified(app) == (True, 0, [])


class _Away:
    """Trading while it cannot be reached."""

    def __getattr__(self, name: str) -> Any:
        async def call(*_arguments: Any) -> Any:
            raise Unavailable

        return call


async def test_trading_away_for_more_than_an_hour_pays_when_it_is_back(
    new_database: Callable[[], Target], tmp_path: Path
) -> None:
    async with running_app(new_database(), tmp_path) as app:
        ai, wired = app.service("ai"), app.runtime.wired
        buyer, miner = await app.who("buyer", funds="1"), worker(app)
        (lease,) = await leased(app, buyer, miner, 1)
        here, handler = ai.payments._trading, wired.event_handlers["trading.on_jobs_succeeded"]
        receive = handler.receive
        ai.payments._trading = away = _Away()
        handler.receive = away.receive  # type: ignore[method-assign]
        outcome = await miner.deliver(lease)
        assert (outcome.state, outcome.earned) == ("succeeded", None)
        (relay,) = [relay for relay in wired.relays if relay._schema == "ai"]
        for _ in range(14):
            clock.move(timedelta(minutes=5))
            await relay.deliver_due()
        assert await verified(app) == (False, 1, [lease.job])
        ai.payments._trading, handler.receive = here, receive  # type: ignore[method-assign]
        clock.move(timedelta(minutes=10))
        await relay.deliver_due()
        assert await verified(app) == (True, 1, [])
        assert await purse(app, buyer) == (10**8 - 60, 0)


@only_in_full
async def test_what_waits_through_the_end_of_its_key_is_refused_and_leaves_nothing_leased(
    new_database: Callable[[], Target], tmp_path: Path
) -> None:
    async with running_app(new_database(), tmp_path) as app:
        buyer, owner = await app.who("buyer", funds="1"), await app.who("owner", lifetime=timedelta(days=1))
        gpu = {"name": "RTX 4090", "memory_gb": 24}
        made = await owner.post("/gpu/v1/miners/register", {"miner_id": "old", "gpu": gpu})
        assert made.status_code == 200, made.text
        job = (await buyer.post(JOBS, EMBED | {"requirements": {"region": "nowhere"}})).json()["id"]
        brief = await app.runtime.identity.issue(
            account=buyer.principal.account, kind="live", name="brief", lifetime=timedelta(days=1)
        )
        waiting = asyncio.create_task(app.client(brief.secret).get(f"{JOBS}/{job}/wait", params={"seconds": 20}))
        poll = {"miner_id": "old", "max_wait_seconds": 20}
        polling = asyncio.create_task(owner.client.post("/gpu/v1/miners/poll", json=poll))
        await asyncio.sleep(0.3)
        assert not waiting.done() and not polling.done()
        clock.move(timedelta(days=2))
        async with asyncio.timeout(60):
            ends = [(await call).status_code for call in (waiting, polling)]
        assert ends == [401, 401]
        fresh = (await buyer.post(JOBS, EMBED)).json()["id"]
        await asyncio.sleep(0.3)
        assert (await buyer.get(f"{JOBS}/{fresh}")).json()["state"] == "queued"


async def test_a_booking_that_was_slept_through_ends_its_work_and_pays_no_time_of_silence(
    new_database: Callable[[], Target], tmp_path: Path
) -> None:
    target = new_database()
    async with running_app(target, tmp_path) as app:
        buyer, owner = await app.who("buyer", funds="1"), await app.who("owner")
        rig = await HandMiner.enrol(app, owner, gpus=["NVIDIA GeForce RTX 4090"])
        await rig.beat()
        wish = {"model": "RTX 4090", "price_per_hour": "0.1", "miner": rig.id}
        listed = (await owner.post("/api/v1/gpu/listings", wish)).json()
        body = {"gpu": listed["id"], "duration_seconds": 3600, "max_price": "1"}
        booking = (await buyer.post("/api/v1/gpu/bookings", body)).json()["id"]
        work = EMBED | {"requirements": {"booking": booking}}
        jobs = [(await buyer.post(JOBS, work)).json()["id"] for _ in range(2)]
        (lease,) = await rig.poll()
        assert lease["job"] in jobs
    clock.move(timedelta(days=4))
    async with running_app(target, tmp_path) as app:
        again = Caller(buyer.principal, buyer.secret, app.client(buyer.secret))
        rig.client = app.client(rig.client.headers["Authorization"].removeprefix("Bearer "))
        async with asyncio.timeout(20):
            while (over := (await again.get(f"/api/v1/gpu/bookings/{booking}")).json())["settled_at"] is None:
                await app.service("gpu").reconcile_bookings()
                await asyncio.sleep(0.1)
        assert (over["state"], over["price"]) == ("ended", "0.1")
        assert over["paid_seconds"] < 60 < over["unpaid_seconds"]
        assert (await rig.deliver(lease)).status_code == 409
        async with asyncio.timeout(20):
            while (await purse(app, buyer))[1]:
                await app.service("ai").sweep()
                await asyncio.sleep(0.1)
        found = [(await again.get(f"{JOBS}/{job}")).json() for job in jobs]
        assert {(job["state"], job["reason"]) for job in found} == {("canceled", "booking_ended")}
        assert await verified(app) == (True, 0, [])
