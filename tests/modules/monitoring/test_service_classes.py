"""Service classes: bought, judged once by what the jobs were like, and credited once out of what was paid."""

import asyncio
import json
import uuid
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aitbc.kernel.primitives import clock
from aitbc.kernel.primitives.money import parse
from aitbc.modules.monitoring.models.service_classes import credit_of, is_missed
from tests.app import Caller
from tests.journeys.hand_miner import HandMiner
from tests.modules.monitoring.make import PATH, Watched, fresh_name

JOB = {"kind": "embed", "input": {"texts": ["x"]}, "max_price": "0.05"}
CLASSES, BOUGHT = f"{PATH}/service-classes", f"{PATH}/class-purchases"


async def declared(watched: Watched, **wanted: Any) -> dict[str, Any]:
    """A class on `embed`, of one day for 2 AITBC, of which half comes back."""
    body = {"name": fresh_name("class"), "work": "embed", "finish_seconds": 60, "start_seconds": 10, "target": 0.6}
    body |= {"period_days": 1, "price": "2", "credit_percent": 50}
    return dict(await watched.post("service-classes", body | wanted))


async def buy(who: Caller, name: str, status: int = 201, once: str | None = None) -> dict[str, Any]:
    """What a purchase is answered, which must end so."""
    answer = await who.post(BOUGHT, {"service_class": name}, once=once)
    assert answer.status_code == status, answer.text
    return dict(answer.json())


async def worked(who: Caller, miner: HandMiner, *, late: float = 0.0) -> None:
    """A job that a miner takes so many seconds after it was submitted, and delivers."""
    assert (await who.post("/api/v1/ai/jobs", JOB)).status_code == 201
    clock.move(timedelta(seconds=late))
    await miner.beat()
    (lease,) = await miner.poll(wait=30)
    assert (await miner.deliver(lease)).status_code == 200


async def judged(watched: Watched, who: Caller, *purchases: str) -> list[dict[str, Any]]:
    """The purchases after their day and the last limit, with the periodic task run by several processes at once."""
    clock.move(timedelta(days=1, seconds=125))
    await asyncio.gather(*(watched.service.judge_classes() for _ in range(4)))
    return [(await who.get(f"{BOUGHT}/{purchase}")).json() for purchase in purchases]


async def statement(who: Caller) -> list[dict[str, Any]]:
    """The entries of an account's statement, newest first."""
    answer = await who.get(f"/api/v1/trading/accounts/{who.principal.account}/entries")
    assert answer.status_code == 200, answer.text
    return list(answer.json()["data"])


async def balance(who: Caller) -> tuple[int, int]:
    """What an account can spend, and what is held of it."""
    found = (await who.get(f"/api/v1/trading/accounts/{who.principal.account}")).json()
    return parse(found["available"], zero=True), parse(found["held"], zero=True)


async def test_a_missed_period_is_credited_once_and_a_kept_one_is_paid(watched: Watched) -> None:
    missed_by, kept_by = await watched.app.who("missed", funds="10"), await watched.app.who("kept", funds="10")
    miner = await HandMiner.enrol(watched.app, await watched.app.who("seller"))
    await miner.beat()
    sold = await declared(watched)
    once = uuid.uuid4().hex
    first, again = await buy(missed_by, sold["name"], once=once), await buy(missed_by, sold["name"], once=once)
    other = await buy(kept_by, sold["name"])
    assert first["id"] == again["id"] and (first["state"], first["credit"]) == ("active", "0")
    assert await balance(missed_by) == (parse("8"), parse("2"))
    await worked(missed_by, miner)
    await worked(missed_by, miner, late=11)
    canceled = (await missed_by.post("/api/v1/ai/jobs", JOB)).json()["id"]  # in time, by its owner: counts as neither
    assert (await missed_by.post(f"/api/v1/ai/jobs/{canceled}/cancel")).status_code == 200
    await worked(kept_by, miner)
    so_far = (await missed_by.get(f"{BOUGHT}/{first['id']}")).json()
    assert (so_far["good"], so_far["bad"], so_far["state"]) == (1, 1, "active")
    assert (await kept_by.get(f"{BOUGHT}/{first['id']}")).status_code == 404
    spent = [await balance(who) for who in (missed_by, kept_by)]
    (missed,) = await judged(watched, missed_by, first["id"])
    (kept,) = await judged(watched, kept_by, other["id"])
    assert (missed["state"], missed["good"], missed["bad"], missed["credit"]) == ("missed", 1, 1, "1")
    assert (kept["state"], kept["good"], kept["bad"], kept["credit"]) == ("kept", 1, 0, "0")
    assert await balance(missed_by) == (spent[0][0] + parse("1"), 0)
    assert await balance(kept_by) == (spent[1][0], 0)
    entries = [one for one in await statement(missed_by) if "credit" in (one["reason"] or "")]
    assert [(one["amount"], one["kind"]) for one in entries] == [("1", "rent")]
    assert "1 of 2 jobs in time, 60 % promised" in entries[0]["reason"] and entries[0]["reference"] == first["id"]
    transaction = (await missed_by.get(f"/api/v1/trading/transactions/{missed['transaction']}")).json()
    assert sum(parse(part["amount"].lstrip("-"), zero=True) for part in transaction["entries"]) == parse("4")
    async with watched.service.db.raw() as connection:
        told = await connection.fetch("SELECT body FROM monitoring.outbox WHERE kind = 'monitoring.class_judged'")
    ours = [row["body"] for row in told if first["id"] in row["body"] or other["id"] in row["body"]]
    assert len(ours) == 2 and sum('"missed":true' in body for body in ours) == 1
    assert [one["id"] for one in (await missed_by.get(BOUGHT)).json()["data"]] == [first["id"]]
    assert {first["id"], other["id"]} <= {one["id"] for one in (await watched.admin.get(BOUGHT)).json()["data"]}


async def test_what_a_crash_cut_is_finished_and_what_was_never_paid_is_refused(watched: Watched) -> None:
    who = await watched.app.who("unlucky", funds="5")
    sold = await declared(watched)
    lost = await buy(who, sold["name"])
    async with watched.service.db.raw(writes=True) as connection:  # the process died before the money was set aside
        await connection.execute(
            "UPDATE monitoring.class_purchases SET state = 'placed', due_at = now() WHERE id = "
            "(SELECT id FROM monitoring.class_purchases ORDER BY id DESC LIMIT 1)"
        )
    await watched.service.judge_classes()
    assert (await who.get(f"{BOUGHT}/{lost['id']}")).json()["state"] == "refused"
    assert await balance(who) == (parse("5"), 0)
    paid = await buy(who, sold["name"])
    await judged(watched, who)
    before = await balance(who)
    async with watched.service.db.raw(writes=True) as connection:  # it died after the payment, before it was noted
        await connection.execute(
            "UPDATE monitoring.class_purchases SET transaction = NULL, due_at = now() WHERE state = 'kept' AND "
            "id = (SELECT max(id::text)::uuid FROM monitoring.class_purchases)"
        )
    await watched.service.judge_classes()
    (again,) = await judged(watched, who, paid["id"])
    assert again["state"] == "kept" and again["transaction"] is not None and await balance(who) == before
    async with watched.app.runtime.wired.databases["trading"].raw() as connection:
        assert await connection.fetchval("SELECT sum(amount_units) FROM trading.entries") == 0


async def test_what_cannot_be_sold_or_bought_is_refused_and_leaves_nothing(watched: Watched) -> None:
    poor, who = await watched.app.who("poor"), await watched.app.who("keen", funds="100")
    sold = await declared(watched)
    name = sold["name"]
    assert (await buy(poor, name, 402))["code"] == "insufficient_funds"
    assert (await poor.get(BOUGHT)).json()["data"][0]["state"] == "refused"
    assert (
        await poor.post(CLASSES, {"name": "mine", "work": "x", "finish_seconds": 1, "price": "1"})
    ).status_code == 403
    first, second = await buy(who, name), await buy(who, name)
    assert second["starts_at"] == first["ends_at"]
    assert (await buy(who, name, 409))["code"] == "class_bought_ahead"
    assert (await buy(who, "nothing", 404))["code"] == "service_class_not_found"
    same = {"name": name, "work": "embed", "finish_seconds": 60, "price": "1"}
    assert (await watched.post("service-classes", same, 409))["code"] == "service_class_exists"
    wrongs: list[dict[str, Any]] = [{"start_seconds": 60}, {"first_text_seconds": 60}]
    wrongs += [{"start_seconds": 9, "first_text_seconds": 9}]
    for wrong in (*wrongs, {"price": "0"}, {"target": 1}, {"credit_percent": 0}, {"period_days": 91}):
        refused = await watched.admin.post(CLASSES, same | {"name": "other"} | wrong)
        assert refused.status_code in {400, 422}, (wrong, refused.text)
    assert name in {one["name"] for one in (await who.get(CLASSES)).json()["data"]}
    assert (await watched.admin.client.delete(f"{CLASSES}/{name}")).status_code == 200
    assert (await buy(who, name, 404))["code"] == "service_class_not_found"
    assert (await watched.admin.client.delete(f"{CLASSES}/{name}")).status_code == 404
    assert (await who.get(f"{BOUGHT}/{second['id']}")).json()["state"] == "active"  # what was bought stays


async def test_a_period_is_followed_by_the_next_until_its_buyer_or_the_money_or_the_class_ends_that(
    watched: Watched,
) -> None:
    who, other = await watched.app.who("renewing", funds="7"), await watched.app.who("curious")
    sold = await declared(watched, price="3")
    first = (await who.post(BOUGHT, {"service_class": sold["name"], "renews": True})).json()
    assert first["renews"] and first["previous"] is None
    clock.move(timedelta(hours=23))
    await watched.service.judge_classes()
    assert [one["id"] for one in (await who.get(BOUGHT)).json()["data"]] == [first["id"]]  # it is too early
    clock.move(timedelta(minutes=31))
    await asyncio.gather(*(watched.service.judge_classes() for _ in range(4)))
    second, before = (await who.get(BOUGHT)).json()["data"]
    assert (second["previous"], second["starts_at"]) == (first["id"], first["ends_at"])
    assert (second["state"], second["renews"], before["renews"]) == ("active", True, False)
    assert await balance(who) == (parse("1"), parse("6"))
    renewal = f"{BOUGHT}/{second['id']}/renewal"
    assert (await other.client.put(renewal, json={"renews": False})).status_code == 404
    for renews in (False, False, True):
        answer = await who.client.put(renewal, json={"renews": renews})
        assert (answer.status_code, answer.json()["renews"]) == (200, renews)
    clock.move(timedelta(days=1))
    await watched.service.judge_classes()
    third = (await who.get(BOUGHT)).json()["data"][0]
    assert (third["previous"], third["state"]) == (second["id"], "placed")  # its money may still come
    clock.move(timedelta(minutes=40))
    await watched.service.judge_classes()
    assert (await who.get(f"{BOUGHT}/{third['id']}")).json()["state"] == "refused"
    over = await who.client.put(renewal, json={"renews": True})
    assert (over.status_code, over.json()["code"]) == (409, "class_purchase_over")
    rich = await watched.app.who("rich", funds="9")
    kept = (await rich.post(BOUGHT, {"service_class": sold["name"], "renews": True})).json()
    assert (await watched.admin.client.delete(f"{CLASSES}/{sold['name']}")).status_code == 200
    clock.move(timedelta(hours=23, minutes=45))
    await watched.service.judge_classes()
    assert [one["renews"] for one in (await rich.get(BOUGHT)).json()["data"]] == [False]
    async with watched.service.db.raw() as connection:
        told = await connection.fetch(
            "SELECT body FROM monitoring.outbox WHERE kind = 'monitoring.class_renewal_ended'"
        )
    reasons = {one["purchase"]: one["reason"] for one in (json.loads(row["body"]) for row in told)}
    assert "price" in reasons[second["id"]] and "not sold" in reasons[kept["id"]]


async def test_a_first_text_that_comes_late_is_not_in_time(watched: Watched) -> None:
    who = await watched.app.who("reader", funds="10")
    miner = await HandMiner.enrol(watched.app, await watched.app.who("writer"), kinds=("chat",))
    sold = await declared(watched, work="chat", start_seconds=None, first_text_seconds=5)
    bought = await buy(who, sold["name"])
    body = {"kind": "chat", "input": {"messages": [{"role": "user", "content": "hi"}]}, "max_price": "0.05"}
    for late in (0, 6):
        assert (await who.post("/api/v1/ai/jobs", body)).status_code == 201
        await miner.beat()
        (lease,) = await miner.poll(wait=30)
        clock.move(timedelta(seconds=late))
        told = {"token": lease["token"], "parts": [{"sequence": 1, "text": "The cat sleeps."}]}
        assert (await miner.client.post(f"/api/v1/gpu/leases/{lease['attempt']}/parts", json=told)).status_code == 200
        clock.move(timedelta(seconds=7))  # the rest may take its time
        output = {"message": {"role": "assistant", "content": "The cat sleeps."}, "finish_reason": "stop"}
        assert (await miner.deliver(lease, output)).status_code == 200
    so_far = (await who.get(f"{BOUGHT}/{bought['id']}")).json()
    assert (so_far["good"], so_far["bad"]) == (1, 1)


@given(st.integers(0, 10**15), st.integers(1, 100))
def test_a_credit_is_never_more_than_the_price_nor_than_was_promised(price: int, percent: int) -> None:
    credit = credit_of(price, percent)
    assert 0 <= credit <= price and credit * 100 <= price * percent < (credit + 1) * 100


def test_no_job_misses_nothing_and_the_target_itself_is_kept() -> None:
    assert not is_missed(0, 0, 0.99) and not is_missed(99, 1, 0.99) and is_missed(98, 2, 0.99) and is_missed(0, 1, 0.5)
