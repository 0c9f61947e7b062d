"""A job that miners of three owners answer: those who agree are paid, with receipts of their own; in every shape."""

import asyncio
import io
import json
from decimal import Decimal

from aitbc.kernel.crypto.chain_format import verify_receipt
from aitbc.kernel.crypto.chain_verifier import verify_export
from aitbc.kernel.crypto.copies import copy_id
from tests.journeys.conftest import first_in_process
from tests.journeys.hand_miner import HandMiner, Place, embedding
from tests.journeys.test_paid_job import balance, sealed, submit

pytestmark = first_in_process
WRONG = {"model": "by-hand", "weights": f"sha256:{'0' * 64}", "dimensions": 2, "vectors": [[0.0, -1.0]]}


async def test_the_majority_of_a_quorum_is_paid(app: Place) -> None:
    alice = await app.who("alice", funds="1")
    owners = [await app.who(f"owner{number}") for number in range(3)]
    miners = [await HandMiner.enrol(app, owner) for owner in owners]
    twin = await HandMiner.enrol(app, owners[0])
    job = await submit(alice, verification="quorum:3", max_price="0.06")
    assert await balance(alice) == {"available": Decimal("0.94"), "held": Decimal("0.06")}
    for miner, output in zip(miners, (embedding(["hello"]), WRONG, None), strict=True):
        [lease] = await miner.poll(wait=20)
        answer = await miner.deliver(lease, output)
        assert answer.status_code == 200, answer.text
        if miner is miners[0]:
            assert await twin.poll() == []
    done = (await alice.get(f"/api/v1/ai/jobs/{job['id']}")).json()
    assert (done["state"], done["verification"]["verdict"], done["verification"]["agreeing"]) == (
        "succeeded",
        "valid",
        2,
    )
    price = Decimal(done["price"])
    for _ in range(600):
        if (await balance(alice)) == {"available": 1 - price, "held": 0}:
            break
        await asyncio.sleep(0.05)
    earned = [(await balance(owner))["available"] for owner in owners]
    assert earned[0] == earned[2] > 0 == earned[1]
    for receipt in (done["receipt"], copy_id(done["receipt"], 1)):
        assert verify_receipt(await sealed(alice, receipt)).receipt["verification"]["tier"] == "quorum:3"
    export = await alice.get("/api/v1/trading/chain/export")
    assert verify_export(io.BytesIO(export.content)).receipts >= 2
    report = (await (await app.admin()).post("/api/v1/trading/ledger/verify")).json()
    assert report["ok"], json.dumps(report)
