"""Ratings: by payers of settled receipts, once each, never of one's own miners, and shrunk while there are few."""

import uuid
from typing import Any

import httpx
import pytest

from aitbc.kernel.primitives import ids
from aitbc.modules.marketplace.models.ratings import shrunk
from tests.app import Caller
from tests.eventually import eventually
from tests.modules.gpu.make import Fleet, Rig
from tests.modules.marketplace.make import MARKET, OFFERS, made

pytestmark = pytest.mark.anyio
RATINGS = f"{MARKET}/ratings"


def test_few_ratings_do_not_outrank_many() -> None:
    assert shrunk(0, 0) == 3000
    assert shrunk(2 * 5, 2) == 3333 < shrunk(1920, 400) == 4756


async def receipt_of(fleet: Fleet, buyer: Caller, rig: Rig, where: dict[str, Any]) -> str:
    """The receipt of a job that this miner did for the buyer."""
    job = await fleet.submit(buyer, requirements=where)
    assert (await rig.deliver(await rig.take())).status_code == 200
    receipt = f"rcpt_{job['id'].removeprefix('job_')}"

    async def is_issued() -> bool:
        return (await buyer.get(f"/api/v1/trading/receipts/{receipt}")).status_code == 200

    await eventually(is_issued)
    return receipt


async def rated(who: Caller, receipt: str, stars: int, **body: Any) -> httpx.Response:
    """The answer to a rating."""
    return await who.post(RATINGS, {"subject": receipt, "stars": stars, **body})


async def test_who_paid_rates_the_work_once_and_offers_show_it(fleet: Fleet) -> None:
    owner, buyer = await fleet.owner(funds="1"), await fleet.owner(funds="1")
    where: dict[str, Any] = {"region": uuid.uuid4().hex}
    rig = await fleet.rig(owner, **where)
    receipt = await receipt_of(fleet, buyer, rig, where)
    own = await receipt_of(fleet, owner, rig, where)
    offer = await made(owner, miner=rig.id, sells="work", kind="embed", price="0.0000001")
    assert (offer["rating"], offer["ratings"]) == (None, 0)
    refused = [
        (await rated(owner, receipt, 5), 404, "rated_receipt_not_found"),
        (await rated(buyer, ids.new_id("rcpt"), 5), 404, "rated_receipt_not_found"),
        (await rated(owner, own, 5), 409, "own_work_rated"),
        (await rated(buyer, receipt, 6), 422, "invalid"),
        (await rated(buyer, receipt, 0), 422, "invalid"),
    ]
    assert [(one.status_code, one.json()["code"]) for one, *_ in refused] == [(code, name) for _, code, name in refused]
    for _ in range(2):
        answer = await rated(buyer, receipt, 5, comment="Fast.")
        assert (answer.status_code, answer.json()["stars"], answer.json()["miner"]) == (201, 5, rig.id), answer.text
    changed = await rated(buyer, receipt, 1)
    assert (changed.status_code, changed.json()["code"]) == (409, "rating_given")
    seen = (await owner.get(f"{OFFERS}/{offer['id']}")).json()
    assert (seen["rating"], seen["ratings"]) == (3.181, 1)
    for filter_, count in ((f"miner = {rig.id} rating > 3", 1), (f"miner = {rig.id} rating >= 3.2", 0)):
        assert len((await buyer.get(f"{MARKET}/search", filter=filter_)).json()["data"]) == count
    page = (await owner.get(RATINGS, miner=rig.id)).json()
    assert [(one["subject"], one["comment"]) for one in page["data"]] == [(receipt, "Fast.")]
    second = await receipt_of(fleet, buyer, rig, where)
    assert (await rated(buyer, second, 1)).status_code == 201
    first = (await owner.get(RATINGS, miner=rig.id, limit=1)).json()
    assert [one["subject"] for one in first["data"]] == [second]
    rest = (await owner.get(RATINGS, miner=rig.id, limit=1, cursor=first["next_cursor"])).json()
    assert [one["subject"] for one in rest["data"]] == [receipt]
