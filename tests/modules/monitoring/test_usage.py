"""Usage: sums that equal the ledger to the last unit, and what is told of them to whom."""

import asyncio

from aitbc.kernel.primitives.money import parse
from tests.journeys.hand_miner import HandMiner
from tests.modules.monitoring.make import PATH, Watched


async def paid_jobs(watched: Watched, count: int) -> tuple[str, str]:
    """Jobs of a new account that were done and paid, by a new miner; the account and the miner."""
    buyer, seller = await watched.app.who("buyer", funds="10"), await watched.app.who("seller")
    miner = await HandMiner.enrol(watched.app, seller)
    await miner.beat()
    for number in range(count):
        body = {"kind": "embed", "input": {"texts": ["x" * (number + 1)]}, "max_price": "0.05"}
        assert (await buyer.post("/api/v1/ai/jobs", body)).status_code == 201
        (lease,) = await miner.poll(wait=5)
        assert (await miner.deliver(lease)).status_code == 200
    return buyer.principal.account, miner.id


async def collected(watched: Watched, jobs: int) -> None:
    """Until the receipts of so many jobs are in a block, and added up."""
    for _ in range(400):
        await watched.service.collect_usage()
        async with watched.service.db.raw() as connection:
            if (await connection.fetchval("SELECT coalesce(sum(jobs), 0) FROM monitoring.usage")) >= jobs:
                return
        await asyncio.sleep(0.05)
    raise AssertionError("the receipts are not added up")


async def test_usage_equals_the_ledger_to_the_unit_by_whatever_it_is_asked(watched: Watched) -> None:
    first, first_miner = await paid_jobs(watched, 3)
    second, _ = await paid_jobs(watched, 2)
    await collected(watched, 5)
    await asyncio.gather(*(watched.service.collect_usage() for _ in range(4)))  # nothing is added twice
    async with watched.app.runtime.wired.databases["trading"].raw() as connection:
        ledger = await connection.fetchrow(
            "SELECT count(*) AS jobs, sum(price_units) AS price, sum(fee_units) AS fee, sum(earned_units) AS earned "
            "FROM trading.receipts"
        )
    assert ledger is not None
    for by in ("day", "account", "miner", "kind", "model"):
        rows = (await watched.get("usage", by=by))["data"]
        assert sum(row["jobs"] for row in rows) == ledger["jobs"] == 5
        for name in ("price", "fee", "earned"):
            assert sum(parse(row[name], zero=True) for row in rows) == ledger[name], (by, name)
    rows = {row["account"]: row for row in (await watched.get("usage", by="account"))["data"]}
    assert (rows[first]["jobs"], rows[second]["jobs"]) == (3, 2)
    assert rows[first]["day"] is None and rows[first]["kind"] is None
    (row,) = (await watched.get("usage", by="miner", account=first))["data"]
    assert (row["miner"], row["jobs"]) == (first_miner, 3)


async def test_an_account_sees_its_own_usage_only(watched: Watched) -> None:
    somebody = await watched.app.who("curious")
    assert (await somebody.get(f"{PATH}/usage", by="account")).json()["data"] == []
    refused = await somebody.get(f"{PATH}/usage", account=watched.admin.principal.account)
    assert refused.status_code == 403
    assert (await somebody.get(f"{PATH}/monitors")).status_code == 403
