"""A paid job from its submission to a receipt that stands on its own, and the ways it can end otherwise; in every shape."""

import asyncio
import io
import json
from decimal import Decimal
from typing import Any

from aitbc.kernel.crypto.chain_format import verify_receipt
from aitbc.kernel.crypto.chain_verifier import verify_export
from tests.app import Caller
from tests.journeys.hand_miner import HandMiner, Place
from tests.scale import scaled

WISHES = scaled(40, 200)
EMBED = {"kind": "embed", "input": {"texts": ["hello"]}, "max_price": "0.05"}


async def submit(caller: Caller, **changes: Any) -> dict[str, Any]:
    """A submitted job."""
    answer = await caller.post("/api/v1/ai/jobs", EMBED | changes)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def balance(caller: Caller) -> dict[str, Decimal]:
    """What the caller owns."""
    told = (await caller.get(f"/api/v1/trading/accounts/{caller.principal.account}")).json()
    return {"available": Decimal(told["available"]), "held": Decimal(told["held"])}


async def sealed(caller: Caller, receipt: str) -> bytes:
    """The file of a receipt, once it is in a block."""
    for _ in range(600):
        answer = await caller.get(f"/api/v1/trading/receipts/{receipt}")
        if answer.status_code == 200 and answer.json().get("proof"):
            return answer.content
        await asyncio.sleep(0.05)
    raise AssertionError("the receipt was not sealed")


async def test_a_job_is_sold_done_receipted_and_paid(app: Place) -> None:
    alice, owner = await app.who("alice", funds="1"), await app.who("owner")
    miner = await HandMiner.enrol(app, owner)
    await miner.beat()
    waiting = asyncio.create_task(miner.poll(wait=5))
    await asyncio.sleep(0.1)
    job = await submit(alice)
    assert await balance(alice) == {"available": Decimal("0.95"), "held": Decimal("0.05")}
    [lease] = await waiting
    assert lease["job"] == job["id"]
    answer = await miner.deliver(lease)
    assert answer.status_code == 200, answer.text
    outcome = answer.json()
    again = (await miner.deliver(lease)).json()
    assert again["receipt"] == outcome["receipt"]
    done = (await alice.get(f"/api/v1/ai/jobs/{job['id']}")).json()
    assert (done["state"], done["receipt"]) == ("succeeded", outcome["receipt"])
    price, earned = Decimal(done["price"]), Decimal(outcome["earned"])
    assert await balance(alice) == {"available": 1 - price, "held": 0}
    assert await balance(owner) == {"available": earned, "held": 0}
    assert Decimal((await owner.get(f"/api/v1/gpu/miners/{miner.id}/earnings")).json()["earned"]) == earned
    verify_receipt(await sealed(alice, outcome["receipt"]))
    export = await alice.get("/api/v1/trading/chain/export")
    assert verify_export(io.BytesIO(export.content)).receipts > 0
    report = (await (await app.admin()).post("/api/v1/trading/ledger/verify")).json()
    assert report["ok"], json.dumps(report)


async def test_a_canceled_job_costs_nothing_and_its_late_result_is_refused(app: Place) -> None:
    alice, owner = await app.who("alice", funds="1"), await app.who("owner")
    miner = await HandMiner.enrol(app, owner)
    job = await submit(alice)
    [lease] = await miner.poll()
    assert (await alice.post(f"/api/v1/ai/jobs/{job['id']}/cancel")).json()["state"] == "canceled"
    [status] = (await miner.beat(lease, busy=1))["leases"]
    assert status["status"] == "canceled"
    late = await miner.deliver(lease)
    assert (late.status_code, late.json()["code"]) == (409, "lease_lost")
    assert await balance(alice) == {"available": Decimal(1), "held": 0}


async def test_a_job_given_back_goes_to_another_miner(app: Place) -> None:
    alice, owner = await app.who("alice", funds="1"), await app.who("owner")
    first, second = await HandMiner.enrol(app, owner), await HandMiner.enrol(app, owner)
    job = await submit(alice)
    [lease] = await first.poll()
    body = {"token": lease["token"], "reason": "going_home"}
    assert (await first.client.post(f"/api/v1/gpu/leases/{lease['attempt']}/release", json=body)).status_code == 200
    [other] = await second.poll(wait=5)
    assert (other["job"], other["token"] > lease["token"]) == (job["id"], True)
    assert (await first.deliver(lease)).status_code == 409
    assert (await second.deliver(other)).json()["state"] == "succeeded"


async def test_a_miner_that_drains_gets_no_work_and_says_why(app: Place) -> None:
    alice, owner = await app.who("alice", funds="1"), await app.who("owner")
    miner = await HandMiner.enrol(app, owner)
    await miner.beat()
    assert (await owner.post(f"/api/v1/gpu/miners/{miner.id}/drain", {"message": "new fans"})).status_code == 200
    await submit(alice)
    answer = (await miner.client.post("/api/v1/gpu/polls", json={"slots": 1, "wait_seconds": 0})).json()
    assert (answer["leases"], answer["status"]) == ([], "draining")
    assert "new fans" in json.dumps(answer)


async def test_what_belongs_to_others_looks_like_nothing(app: Place) -> None:
    alice, owner, eve = await app.who("alice", funds="1"), await app.who("owner"), await app.who("eve", funds="1")
    miner = await HandMiner.enrol(app, owner)
    job = await submit(alice)
    unknown = "job_" + "0" * 26
    for path in (
        f"/api/v1/ai/jobs/{job['id']}",
        f"/api/v1/ai/jobs/{job['id']}/explain",
        f"/api/v1/ai/jobs/{job['id']}/logs",
    ):
        foreign, missing = await eve.get(path), await eve.get(path.replace(job["id"], unknown))
        assert (foreign.status_code, missing.status_code) == (404, 404)
        assert foreign.json()["code"] == missing.json()["code"]
    assert (await eve.get(f"/api/v1/gpu/miners/{miner.id}")).status_code == 404
    assert (await eve.post(f"/api/v1/gpu/miners/{miner.id}/drain", {"message": "mine now"})).status_code == 404
    assert (await eve.get(f"/api/v1/trading/accounts/{alice.principal.account}")).status_code == 404


async def test_many_wishes_on_a_small_purse_never_overspend(app: Place) -> None:
    poor = await app.who("poor", funds="0.5")
    answers = await asyncio.gather(*(poor.post("/api/v1/ai/jobs", EMBED) for _ in range(WISHES)))
    codes = sorted(answer.status_code for answer in answers)
    assert codes == [201] * 10 + [402] * (WISHES - 10)
    assert await balance(poor) == {"available": Decimal(0), "held": Decimal("0.5")}


async def test_the_same_submission_from_twenty_threads_is_one_job(app: Place) -> None:
    alice = await app.who("alice", funds="1")
    answers = await asyncio.gather(*(alice.post("/api/v1/ai/jobs", EMBED, once="one") for _ in range(20)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    again = await alice.post("/api/v1/ai/jobs", EMBED, once="one")
    assert again.headers["idempotency-replayed"] == "true"
    assert {answer.json()["id"] for answer in answers if answer.status_code == 201} == {again.json()["id"]}
    assert len((await alice.get("/api/v1/ai/jobs")).json()["data"]) == 1


async def test_money_for_nobody_is_refused(app: Place) -> None:
    admin = await app.admin()
    before = (await admin.post("/api/v1/trading/ledger/verify", {})).json()["entries"]
    for account in ("acct_01kb2c3d4e5f6g7h8j9kamnpqr", "acct_00000000000000000000000000"):
        answer = await admin.post("/api/v1/trading/deposits", {"account": account, "amount": "5"})
        assert (answer.status_code, answer.json()["code"]) == (404, "ledger_account_not_found")
    assert (await admin.post("/api/v1/trading/ledger/verify", {})).json()["entries"] == before
