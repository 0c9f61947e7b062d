"""Usage: sums that equal the ledger to the last unit, and what is told of them to whom."""

import asyncio
import uuid
from dataclasses import replace

from msgspec import structs

from aitbc.kernel.primitives.money import parse
from tests.app import Caller
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


async def collected(watched: Watched, count: int, *, of: str = "jobs") -> None:
    """Until the receipts of so many jobs, or refunds of so much, are in a block, and added up."""
    for _ in range(600):
        await watched.service.collect_usage()
        async with watched.service.db.raw() as connection:
            if (await connection.fetchval(f"SELECT coalesce(sum({of}), 0) FROM monitoring.usage")) >= count:
                return
        await asyncio.sleep(0.05)
    raise AssertionError("the receipts are not added up")


async def test_usage_equals_the_ledger_to_the_unit_by_whatever_it_is_asked(watched: Watched) -> None:
    first, first_miner = await paid_jobs(watched, 3)
    second, _ = await paid_jobs(watched, 2)
    async with watched.app.runtime.wired.databases["trading"].raw() as connection:
        await collected(watched, await connection.fetchval("SELECT count(*) FROM trading.receipts"))
    await asyncio.gather(*(watched.service.collect_usage() for _ in range(4)))  # nothing is added twice
    async with watched.app.runtime.wired.databases["trading"].raw() as connection:
        ledger = await connection.fetchrow(
            "SELECT count(*) AS jobs, sum(price_units) AS price, sum(fee_units) AS fee, sum(earned_units) AS earned "
            "FROM trading.receipts"
        )
    assert ledger is not None
    for by in ("day", "account", "miner", "kind", "model"):
        rows = (await watched.get("usage", by=by))["data"]
        assert sum(row["jobs"] for row in rows) == ledger["jobs"] >= 5
        for name in ("price", "fee", "earned"):
            assert sum(parse(row[name], zero=True) for row in rows) == ledger[name], (by, name)
    rows = {row["account"]: row for row in (await watched.get("usage", by="account"))["data"]}
    assert (rows[first]["jobs"], rows[second]["jobs"]) == (3, 2)
    assert rows[first]["day"] is None and rows[first]["kind"] is None
    (row,) = (await watched.get("usage", by="miner", account=first))["data"]
    assert (row["miner"], row["jobs"]) == (first_miner, 3)


async def bought(watched: Watched, who: Caller, miner: HandMiner) -> str:
    """The receipt of a job that a caller bought."""
    body = {"kind": "embed", "input": {"texts": ["y" * 70]}, "max_price": "0.05"}
    job = (await who.post("/api/v1/ai/jobs", body)).json()["id"]
    (lease,) = await miner.poll(wait=5)
    assert (await miner.deliver(lease)).status_code == 200
    return f"rcpt_{job.removeprefix('job_')}"


async def test_each_key_has_what_it_spent_and_what_went_back_is_counted_beside_it(watched: Watched) -> None:
    buyer, seller = await watched.app.who("shopper", funds="10"), await watched.app.who("shop")
    miner = await HandMiner.enrol(watched.app, seller)
    await miner.beat()
    made = (await buyer.post("/api/v1/identity/keys", {"name": "batch", "kind": "live"})).json()
    second = replace(
        buyer, principal=structs.replace(buyer.principal, key=made["id"]), client=watched.app.client(made["secret"])
    )
    disputed, corrected, _ = [await bought(watched, who, miner) for who in (buyer, second, second)]
    path = "/api/v1/marketplace/disputes"
    wanted = {"subject": disputed, "reason": "It was wrong."}
    dispute = (await buyer.post(path, wanted, once=uuid.uuid4().hex)).json()["id"]
    assert (await seller.post(f"{path}/{dispute}/concede")).status_code == 200
    settled = (await buyer.get(f"/api/v1/trading/receipts/{corrected}")).json()["receipt"]["transaction"]
    back = await watched.admin.post(
        f"/api/v1/trading/transactions/{settled}/correction", {"reason": "ours"}, once=uuid.uuid4().hex
    )
    assert back.status_code in {200, 201}, back.text
    async with watched.app.runtime.wired.databases["trading"].raw() as connection:
        prices = await connection.fetch("SELECT price_units FROM trading.receipts ORDER BY id DESC LIMIT 3")
    given = sum(row["price_units"] for row in prices) * 2 // 3  # three equal prices, two of which went back
    await collected(watched, given, of="refunded_units")
    rows = {row["key"]: row for row in (await buyer.get(f"{PATH}/usage", by="key")).json()["data"]}
    assert [rows[who.principal.key]["jobs"] for who in (buyer, second)] == [1, 2]
    assert rows[buyer.principal.key]["refunded"] == rows[buyer.principal.key]["price"]
    assert parse(rows[second.principal.key]["refunded"]) * 2 == parse(rows[second.principal.key]["price"])
    async with watched.app.runtime.wired.databases["trading"].raw() as connection:
        known = {
            f"{row['owner']}/{row['purpose']}": row
            for row in await connection.fetch("SELECT owner, purpose, spent_units, earned_units FROM trading.accounts")
        }
    everything = dict.fromkeys(("price", "fee", "earned", "refunded", "refunded_fee"), 0)
    for row in rows.values():
        everything = {name: sum_ + parse(row[name], zero=True) for name, sum_ in everything.items()}
    ledger = known[f"{buyer.principal.account}/main"], known[f"{seller.principal.account}/main"]
    assert ledger[0]["spent_units"] == everything["price"] - everything["refunded"] > 0
    earned_back = everything["refunded"] - everything["refunded_fee"]
    assert ledger[1]["earned_units"] == everything["earned"] - earned_back > 0
    assert (await buyer.get(f"{PATH}/usage", by="miner")).json()["data"][0]["refunded_fee"] != "0"


async def test_an_account_sees_its_own_usage_only(watched: Watched) -> None:
    somebody = await watched.app.who("curious")
    assert (await somebody.get(f"{PATH}/usage", by="account")).json()["data"] == []
    refused = await somebody.get(f"{PATH}/usage", account=watched.admin.principal.account)
    assert refused.status_code == 403
    assert (await somebody.get(f"{PATH}/monitors")).status_code == 403
