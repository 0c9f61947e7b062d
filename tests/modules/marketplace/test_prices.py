"""Prices reach jobs: what a miner asks decides what it takes, is frozen at the claim, and stands in the receipt."""

import asyncio
import uuid
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.primitives import ids, money
from aitbc.kernel.primitives.clock import now
from aitbc.modules.ai.models.asks import Ask, ask_for, asks_of, asks_text, covers
from aitbc.modules.ai.models.kinds.registry import price_of
from aitbc.modules.ai.models.queue import Needs
from aitbc.modules.ai.models.submit_job import Requirements, SubmitJob
from aitbc.modules.marketplace.events import OfferChanged
from tests.app import Caller
from tests.eventually import eventually
from tests.modules.gpu.make import JOBS, Fleet, Rig
from tests.modules.marketplace.make import OFFERS, changed, made

pytestmark = pytest.mark.anyio
LATER = now() + timedelta(days=1)


def test_an_ask_for_the_very_model_comes_before_one_for_any() -> None:
    asks = [
        Ask("chat", None, 5, LATER, "any"),
        Ask("chat", "m", 7, LATER, "one"),
        Ask("embed", None, 1, LATER, "other"),
    ]
    assert asks_of(asks_text(asks)) == tuple(sorted(asks, key=lambda ask: (ask.kind, ask.model or "")))
    found = [
        ask_for(Needs(kind=kind, model=model), asks, now())
        for kind, model in (("chat", "m"), ("chat", None), ("chat", "n"))
    ]
    assert [ask.offer for ask in found if ask] == ["one", "any", "any"]
    assert ask_for(Needs(kind="ocr"), asks, now()) is None
    assert ask_for(Needs(kind="chat", booking="book_x", booker="acct_x"), asks, now()) is None
    assert ask_for(Needs(kind="chat"), asks, LATER) is None


@given(st.integers(1, 10**12), st.integers(1, 10**6), st.integers(1, 10**6))
def test_what_is_covered_is_paid_at_the_ask_whatever_is_metered(limit: int, most: int, units: int) -> None:
    ask = Ask("embed", None, units, LATER, "offer")
    if covers(limit, most, ask):
        assert price_of(most, ask.units, limit) == most * ask.units


async def for_sale(fleet: Fleet, owner: Caller, price: str, **offer: Any) -> tuple[Rig, dict[str, Any]]:
    """A miner whose embedding is on sale, and its offer, once matching knows of it."""
    rig = await fleet.rig(owner, **offer)
    return rig, await known(fleet, rig, await made(owner, miner=rig.id, sells="work", kind="embed", price=price))


async def known(fleet: Fleet, rig: Rig, offer: dict[str, Any]) -> dict[str, Any]:
    """The same offer, once matching knows its price."""

    async def is_known() -> bool:
        if not await fleet.sql("SELECT FROM ai.miners WHERE id = $1", ids.decode("mnr", rig.id)):
            return False  # it comes by another event
        asks = (await fleet.stage.service("ai").market_asks.of([rig.id])).get(rig.id, ())
        return [money.render(ask.units) for ask in asks] == ([offer["price"]] if offer["state"] == "open" else [])

    await eventually(is_known)
    return offer


def region() -> dict[str, Any]:
    """A region of one's own: no miner of another test takes its jobs."""
    return {"region": uuid.uuid4().hex}


async def test_a_job_is_done_at_the_price_that_was_asked_when_it_was_claimed(fleet: Fleet) -> None:
    owner, buyer = await fleet.owner(), await fleet.owner(funds="10")
    where = region()
    rig, offer = await for_sale(fleet, owner, "0.0002", **where)
    job = await fleet.submit(buyer, requirements=where, max_price="0.05")
    lease = await rig.take()
    dearer = await known(fleet, rig, (await changed(owner, offer, price="5")).json())
    assert (await rig.deliver(lease)).status_code == 200
    seen = (await buyer.get(f"{JOBS}/{job['id']}")).json()
    expected = Decimal(seen["units"]) * Decimal("0.0002")
    assert Decimal(seen["price"]) == expected
    (attempt,) = seen["history"]
    assert (attempt["unit_price"], attempt["offer"]) == ("0.0002", dearer["id"])
    receipt = (await buyer.get(f"/api/v1/trading/receipts/rcpt_{job['id'].removeprefix('job_')}")).json()
    claims = receipt["receipt"]
    assert (claims["unit_price"], claims["offer"], Decimal(claims["price"])) == ("0.0002", offer["id"], expected)


async def test_a_miner_takes_only_what_covers_its_ask_and_a_dear_job_is_in_nobodys_way(fleet: Fleet) -> None:
    owner, buyer = await fleet.owner(), await fleet.owner(funds="10")
    where = region()
    rig, offer = await for_sale(fleet, owner, "0.01", **where)
    poor = await fleet.submit(buyer, requirements=where, max_price="0.00001")
    rich = await fleet.submit(buyer, requirements=where, max_price="1")
    assert [lease["job"] for lease in (await rig.poll(slots=2))["leases"]] == [rich["id"]]
    told = (await buyer.get(f"{JOBS}/{poor['id']}/explain")).json()
    assert (told["reason"], told["filters"][-1]["filter"], told["filters"][-1]["after"]) == (
        "no_miner_fits",
        "max_price",
        0,
    )
    quote = (await buyer.post("/api/v1/ai/quotes", wish(where, "0.00001"))).json()
    assert quote["offers"][0]["price_max"] in told["suggestion"]
    assert (quote["offers"][0]["offer"], quote["offers"][0]["sufficient"]) == (offer["id"], False)
    exact = (await buyer.post("/api/v1/ai/quotes", wish(where, quote["offers"][0]["price_max"]))).json()
    assert exact["offers"][0]["sufficient"] is True
    withdrawn = await owner.post(f"{OFFERS}/{offer['id']}/withdraw")
    await known(fleet, rig, withdrawn.json())
    assert (await rig.take())["job"] == poor["id"]  # without an offer the platform's price holds, up to the limit


def wish(where: dict[str, Any], limit: str) -> dict[str, Any]:
    """A job that is only asked for."""
    return {"kind": "embed", "input": {"texts": ["text"]}, "max_price": limit, "requirements": where}


async def test_a_limit_below_the_platforms_price_is_for_those_who_ask_no_more(fleet: Fleet) -> None:
    owner, buyer = await fleet.owner(), await fleet.owner(funds="1")
    where = region()
    dear = await fleet.rig(owner, **where)
    texts = {"input": {"texts": ["text " * 100]}}
    quote = (await buyer.post("/api/v1/ai/quotes", wish(where, "1") | texts)).json()
    half = format(Decimal(quote["price_max"]) / 2, "f")
    body = wish(where, half) | texts
    refused = await buyer.post(JOBS, body)
    assert (refused.status_code, refused.json()["code"]) == (422, "max_price_too_low")
    cheap, offer = await for_sale(fleet, owner, "0.00000001", **where)
    jobs: list[str] = []

    async def is_taken() -> bool:
        answer = await buyer.post(JOBS, body)
        jobs.extend([answer.json()["id"]] if answer.status_code == 201 else [])
        return bool(jobs)

    await eventually(is_taken)  # that the miner is online comes by another event than its offer
    assert (await dear.poll())["leases"] == []
    assert [lease["job"] for lease in (await cheap.poll())["leases"]] == jobs
    await owner.post(f"{OFFERS}/{offer['id']}/withdraw")


async def test_who_pays_whatever_it_costs_pays_the_cheapest_where_all_ask_more(fleet: Fleet) -> None:
    owner, buyer = await fleet.owner(), await fleet.owner(funds="10")
    where = region()
    submissions = fleet.stage.service("ai").submissions
    wanted = SubmitJob(kind="embed", input={"texts": ["text"]}, max_price="1", requirements=Requirements(**where))
    rig, _ = await for_sale(fleet, owner, "0.01", **where)
    quote = (await buyer.post("/api/v1/ai/quotes", wish(where, "1"))).json()
    job = await submissions.submit_quoted(buyer.principal, wanted, IdempotencyKey.NONE)
    assert job.max_price == quote["offers"][0]["price_max"] != quote["price_max"]
    assert (await rig.take())["job"] == job.id
    await fleet.rig(owner, **where)  # works at the platform's price
    await eventually(lambda: _is_eligible(buyer, where, 2))
    assert (await submissions.submit_quoted(buyer.principal, wanted, IdempotencyKey.NONE)).max_price == quote[
        "price_max"
    ]


async def _is_eligible(buyer: Caller, where: dict[str, Any], miners: int) -> bool:
    return bool((await buyer.post("/api/v1/ai/quotes", wish(where, "1"))).json()["miners_eligible"] == miners)


async def test_a_quote_lists_the_three_cheapest_offers(fleet: Fleet) -> None:
    owner, buyer = await fleet.owner(), await fleet.owner(funds="1")
    where = region()
    offers = [(await for_sale(fleet, owner, price, **where))[1] for price in ("0.04", "0.01", "0.03", "0.02")]
    quote = (await buyer.post("/api/v1/ai/quotes", wish(where, "1"))).json()
    assert [one["offer"] for one in quote["offers"]] == [offers[number]["id"] for number in (1, 3, 2)]
    most = [Decimal(one["unit_price"]) * quote["units_max"] for one in quote["offers"]]
    assert [Decimal(one["price_max"]) for one in quote["offers"]] == most


async def _is_served(buyer: Caller, model: str) -> bool:
    listed = (await buyer.get("/api/v1/ai/models", kind="embed", limit=500)).json()["data"]
    return model in {one["name"] for one in listed if one["miners"]}


async def test_statistics_are_of_settled_jobs_alone(fleet: Fleet) -> None:
    owner, buyer = await fleet.owner(), await fleet.owner(funds="10")
    model = uuid.uuid4().hex
    where = {"model": model}

    async def figures() -> dict[str, Any]:
        return dict((await buyer.get("/api/v1/ai/statistics", kind="embed", model=model)).json())

    nothing = await figures()
    assert (nothing["jobs"], nothing["unit_price_p50"], nothing["fill_seconds_p90"]) == (0, None, None)
    for price in ("0.0001", "0.0002", "0.0009"):
        rig, offer = await for_sale(fleet, owner, price, models={"embed": [model]})
        await eventually(lambda: _is_served(buyer, model))
        await fleet.submit(buyer, requirements=where)
        lease = await rig.take()
        vectors = {"model": model, "dimensions": 3, "vectors": [[0.5, -0.25, 0.125]], "weights": "sha256:00"}
        assert (await rig.deliver(lease, vectors)).status_code == 200
        await known(fleet, rig, (await owner.post(f"{OFFERS}/{offer['id']}/withdraw")).json())
        await owner.client.delete(f"/api/v1/gpu/miners/{rig.id}")
    found = await figures()
    prices = [found[f"unit_price_{place}"] for place in ("p10", "p50", "p90")]
    assert (found["settled"], prices) == (3, ["0.0001", "0.0002", "0.0009"])
    assert found["fill_seconds_p50"] is not None
    assert (nothing["newcomer_share"], found["newcomer_share"]) == (None, 1.0)
    assert (await buyer.get("/api/v1/ai/statistics", kind="nothing")).status_code == 422


async def test_a_miner_that_asks_too_much_keeps_no_job_from_one_that_does_not(fleet: Fleet) -> None:
    owner, buyer = await fleet.owner(), await fleet.owner(funds="1")
    where = region()
    dear, _ = await for_sale(fleet, owner, "1", **where)
    cheap, _ = await for_sale(fleet, owner, "0.0001", **where)
    waiting = asyncio.create_task(dear.poll(wait_seconds=50))
    await asyncio.sleep(0)
    fair = asyncio.create_task(cheap.poll(wait_seconds=50))
    job = await fleet.submit(buyer, requirements=where, max_price="0.05")
    assert [lease["job"] for lease in (await fair)["leases"]] == [job["id"]]
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_an_older_word_of_an_offer_changes_nothing(fleet: Fleet) -> None:
    ai, miner, offer = fleet.stage.service("ai"), ids.new_id("mnr"), ids.new_id("offer")

    def told(version: int, units: int, state: str = "open") -> OfferChanged:
        return OfferChanged(
            offer=offer,
            version=version,
            account=ids.new_id("acct"),
            miner=miner,
            sells="work",
            job_kind="embed",
            model=None,
            price_units=units,
            state=state,
            valid_until=LATER,
            changed_at=now(),
        )

    for events, asked in (
        ([told(2, 20)], [20]),
        ([told(1, 10)], [20]),
        ([told(5, 50), told(4, 40)], [50]),
        ([told(6, 50, "withdrawn")], []),
        ([told(3, 30)], []),
    ):
        async with ai.db.unit_of_work() as uow:
            await ai.on_offers_changed(uow, events)
        assert [ask.units for ask in (await ai.market_asks.of([miner])).get(miner, ())] == asked
