"""The connection to the database breaks while a transaction commits: the caller is told that nobody knows, asks again
under the same Idempotency-Key, and the thing has happened once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import clock
from aitbc.modules.ai.service import AiSettings
from tests.app import Caller, TestApp, running_app
from tests.chaos.cutting_proxy import CuttingProxy, cutting
from tests.journeys.hand_miner import HandMiner
from tests.scale import scaled

JOB = {"kind": "embed", "input": {"texts": ["hello"]}, "max_price": "0.05"}


@pytest.fixture(params=scaled(["socket"], ["socket", "tcp"]))
async def app(
    request: pytest.FixtureRequest, new_database: Callable[[], Target], tmp_path: Path
) -> AsyncIterator[tuple[TestApp, CuttingProxy]]:
    """The house behind a proxy that can cut."""
    tables = {"ai": AiSettings(grace_seconds=0)}
    way_in = cutting(new_database(), by_tcp=request.param == "tcp")
    async with way_in as (proxy, way), running_app(way, tmp_path, tables=tables) as app:
        yield app, proxy
        proxy.disarm()
    clock.reset()


async def until_known(caller: Caller, path: str, body: Any, once: str) -> tuple[httpx.Response, list[str]]:
    """The definite answer, and the codes of those before it."""
    codes: list[str] = []
    for _ in range(400):
        answer = await caller.post(path, body, once=once)
        if answer.status_code != 503:
            return answer, codes
        codes.append(answer.json()["code"])
        assert answer.headers["retry-after"]
        await asyncio.sleep(0.05)
    raise AssertionError(f"never known: {codes}")


async def owned(caller: Caller) -> tuple[Decimal, Decimal]:
    """Available and held."""
    told = (await caller.get(f"/api/v1/trading/accounts/{caller.principal.account}")).json()
    return Decimal(told["available"]), Decimal(told["held"])


ARRIVES = pytest.mark.parametrize("arrives", [False, True], ids=["it never arrives", "its answer never arrives"])
Runtime = tuple[TestApp, CuttingProxy]


def cuts(*roles: str, small: int) -> pytest.MarkDecorator:
    """Each of the roles with either half of a commit cut off; in the small form the one that is `small`."""
    every = [(role, arrives) for role in roles for arrives in (False, True)]
    return pytest.mark.parametrize(("role", "arrives"), scaled([every[small]], every))


@ARRIVES
async def test_a_deposit_is_made_once(app: Runtime, arrives: bool) -> None:
    house, proxy = app
    alice, admin = await house.who("alice"), await house.admin()
    body = {"account": alice.principal.account, "amount": "5"}
    for number in range(1, 20):
        proxy.cut_next("aitbc_trading", arrives=arrives)
        answer, codes = await until_known(admin, "/api/v1/trading/deposits", body, f"deposit {number}")
        assert answer.status_code == 201, answer.text
        assert await owned(alice) == (Decimal(5 * number), Decimal(0))
        if codes:  # else it was the sealer's own transaction
            assert codes[0] == "outcome_unknown"
            assert answer.headers.get("idempotency-replayed") == ("true" if arrives else None)
            return
    raise AssertionError("no cut ever hit the deposit")


@cuts("aitbc_ai", "aitbc_trading", small=0)
async def test_a_job_is_submitted_once_and_holds_no_more_than_it_may_cost(
    app: Runtime, role: str, arrives: bool
) -> None:
    house, proxy = app
    alice = await house.who("alice", funds="10")
    for number in range(1, 20):
        proxy.cut_next(role, arrives=arrives)
        answer, codes = await until_known(alice, "/api/v1/ai/jobs", JOB, f"job {number}")
        assert answer.status_code == 201, answer.text
        assert len((await alice.get("/api/v1/ai/jobs")).json()["data"]) == number
        if codes:
            assert set(codes) <= {"outcome_unknown", "unavailable"}
            clock.move(timedelta(minutes=2))
            await house.service("ai").reconcile_holds()
            held = number * Decimal("0.05")
            assert await owned(alice) == (10 - held, held)
            return
    raise AssertionError("no cut ever hit the submission")


@cuts("aitbc_ai", "aitbc_trading", small=-1)
async def test_a_result_is_accepted_and_paid_once(app: Runtime, role: str, arrives: bool) -> None:
    house, proxy = app
    alice, owner = await house.who("alice", funds="10"), await house.who("owner")
    miner = await HandMiner.enrol(house, owner)
    await miner.beat()
    before = proxy.cuts
    await alice.post("/api/v1/ai/jobs", JOB)
    [lease] = await miner.poll()
    proxy.cut_next(role, arrives=arrives)
    for _ in range(400):
        answer = await miner.deliver(lease)
        if answer.status_code != 503:
            break
        await asyncio.sleep(0.05)
    assert (answer.status_code, answer.json()["state"]) == (200, "succeeded"), answer.text
    assert (await miner.deliver(lease)).json()["receipt"] == answer.json()["receipt"]
    clock.move(timedelta(seconds=10))  # what the direct way did not pay, the event does
    for _ in range(400):
        available, held = await owned(alice)
        if not held:
            break
        await asyncio.sleep(0.1)
    job = (await alice.get(f"/api/v1/ai/jobs/{lease['job']}")).json()
    earned = (await owner.get(f"/api/v1/gpu/miners/{miner.id}/earnings")).json()
    assert (held, available) == (Decimal(0), 10 - Decimal(job["price"]))
    assert (earned["jobs"], earned["pending"]) == (1, "0")
    assert proxy.cuts == before + 1


@cuts("aitbc_gpu", "aitbc_trading", small=-1)
async def test_a_gpu_is_booked_and_released_once(app: Runtime, role: str, arrives: bool) -> None:
    house, proxy = app
    alice, owner = await house.who("alice", funds="10"), await house.who("owner")
    miner = await HandMiner.enrol(house, owner, gpus=["NVIDIA GeForce RTX 4090"])
    await miner.beat()
    wish = {"model": "RTX 4090", "price_per_hour": "0.1", "miner": miner.id}
    listed = (await owner.post("/api/v1/gpu/listings", wish)).json()
    body = {"gpu": listed["id"], "duration_seconds": 3600, "max_price": "1"}
    for number in range(1, 20):
        proxy.cut_next(role, arrives=arrives)
        booked, codes = await until_known(alice, "/api/v1/gpu/bookings", body, f"booking {number}")
        assert booked.status_code == 201, booked.text
        proxy.disarm()
        assert await owned(alice) == (Decimal(10) - Decimal("0.1") - await spent(alice), Decimal("0.1"))
        active = (await alice.get("/api/v1/gpu/bookings", state="active")).json()["data"]
        assert [one["id"] for one in active] == [booked.json()["id"]]
        proxy.cut_next(role, arrives=arrives)
        path = f"/api/v1/gpu/bookings/{booked.json()['id']}/release"
        released, more = await until_known(alice, path, None, f"release {number}")
        assert (released.status_code, released.json()["state"]) == (200, "released"), released.text
        proxy.disarm()
        for _ in range(400):
            if not (await owned(alice))[1]:
                break
            await house.service("gpu").reconcile_bookings()
            await asyncio.sleep(0.05)
        assert await owned(alice) == (10 - await spent(alice), Decimal(0))
        await miner.beat()
        if codes or more:
            assert set(codes) | set(more) <= {"outcome_unknown", "unavailable"}
            return
    raise AssertionError("no cut ever hit the booking")


async def spent(caller: Caller) -> Decimal:
    """What the caller's bookings that are over came to."""
    bookings = (await caller.get("/api/v1/gpu/bookings")).json()["data"]
    return sum((Decimal(one["cost"]) for one in bookings if one["cost"] is not None), Decimal(0))
