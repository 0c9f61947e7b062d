"""Runs: called, paid by their result, delegated within a budget, approved, and ended with their money accounted for."""

import uuid

import pytest

from tests.app import Caller
from tests.modules.hermes.make import HERMES, RUNS, Town, a_job, approval, called, handing_on, read, registered, skill

pytestmark = pytest.mark.anyio


@pytest.fixture
async def buyer(town: Town) -> Caller:
    """Somebody with money."""
    return await town.owner(funds="10")


async def test_a_priced_skill_is_paid_when_its_job_succeeds(town: Town, buyer: Caller) -> None:
    seller = await town.owner()
    rig = await town.fleet.rig(await town.owner())
    agent = await registered(seller, skill(a_job()))
    key = uuid.uuid4().hex
    answer = await called(buyer, agent, key)
    assert answer.status_code == 201, answer.text
    run = answer.json()
    assert (run["state"], run["price"], run["budget"], run["reserved"]) == ("working", "0.5", "0.55", "0.55")
    assert (await called(buyer, agent, key)).json()["id"] == run["id"]
    assert await town.balance(buyer) == ("9.45", "0.55")
    lease = await rig.take()
    assert lease["input"]["texts"] == ["please"] and lease["job"] == run["steps"][0]["reference"]
    assert (await rig.deliver(lease)).status_code == 200
    await town.step(5)
    done = await read(buyer, run["id"])
    job = (await buyer.get(f"/api/v1/ai/jobs/{lease['job']}")).json()
    assert (done["state"], done["reason"], done["reserved"]) == ("completed", "completed", "0")
    assert done["steps"][0]["spent"] == job["price"] and "vectors" in done["output"]
    assert float(done["spent"]) == pytest.approx(0.5 + float(job["price"]))
    assert (await town.balance(seller))[0] == "0.4875"
    assert float((await town.balance(buyer))[0]) == pytest.approx(10 - float(done["spent"]))
    known = (await buyer.get(f"{HERMES}/agents/{agent}")).json()["reputation"]
    assert (known["completed"], known["failed"]) == (1, 0)


async def test_a_part_is_delegated_and_a_person_approves(town: Town, buyer: Caller) -> None:
    helper, seller = await town.owner(), await town.owner()
    below = await registered(helper, skill(approval(otherwise="approve", within_seconds=1), price="0.25"))
    agent = await registered(seller, skill(handing_on(below), approval(), price="0.5"))
    run = (await called(buyer, agent, budget="2")).json()
    assert (run["state"], run["steps"][0]["state"], run["reserved"]) == ("working", "working", "1.5")
    await town.step(2)  # nobody answered below: the default counts
    run = await read(buyer, run["id"])
    assert (run["state"], run["steps"][1]["state"], run["spent"]) == ("input_required", "waiting", "0.25")
    answer = await buyer.post(f"{RUNS}/{run['id']}/answer", {"step": 2, "approve": True, "note": "fine"})
    assert (answer.status_code, answer.json()["state"]) == (200, "completed"), answer.text
    assert (answer.json()["spent"], answer.json()["steps"][1]["output"]) == ("0.75", "fine")
    assert await town.balance(buyer) == ("9.25", "0")
    assert (await buyer.post(f"{RUNS}/{run['id']}/answer", {"step": 2, "approve": True})).json() == answer.json()
    again = await buyer.post(f"{RUNS}/{run['id']}/answer", {"step": 2, "approve": False})
    assert (again.status_code, again.json()["code"]) == (409, "not_waiting_for_approval")
    receipt = (await buyer.get(f"{RUNS}/{run['id']}/receipt")).json()
    assert receipt["statement"]["spent"] == "0.75" and len(receipt["statement"]["steps"]) == 2
    checked = await buyer.post(f"{HERMES}/receipts/verify", {"receipt": receipt})
    assert checked.json() == {"valid": True}
    receipt["statement"]["spent"] = "0.7"
    assert (await buyer.post(f"{HERMES}/receipts/verify", {"receipt": receipt})).json() == {"valid": False}


async def test_what_fails_gives_the_price_back_with_a_receipt_over_what_was_done(town: Town, buyer: Caller) -> None:
    seller = await town.owner()
    agent = await registered(seller, skill(approval()))
    run = (await called(buyer, agent)).json()
    assert await town.balance(buyer) == ("9.5", "0.5")
    await town.step(61)
    ended = await read(buyer, run["id"])
    assert (ended["state"], ended["reason"], ended["spent"]) == ("failed", "not_approved", "0")
    assert await town.balance(buyer) == ("10", "0")
    receipt = (await buyer.get(f"{RUNS}/{run['id']}/receipt")).json()["statement"]
    assert (receipt["state"], receipt["price"], receipt["transaction"]) == ("failed", "0", None)
    assert (await buyer.get(f"{HERMES}/agents/{agent}")).json()["reputation"]["failed"] == 0


async def test_a_cancelled_run_stops_everything_below_it(town: Town, buyer: Caller) -> None:
    seller = await town.owner()
    below = await registered(seller, skill(a_job(kind="embed")))
    agent = await registered(seller, skill(handing_on(below)))
    run = (await called(buyer, agent)).json()
    child = await read(buyer, run["steps"][0]["reference"])
    assert (child["parent"], child["depth"], child["budget"]) == (run["id"], 1, "1")
    answer = await buyer.post(f"{RUNS}/{run['id']}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (200, "canceled"), answer.text
    assert (await read(buyer, child["id"]))["state"] == "canceled"
    job = (await buyer.get(f"/api/v1/ai/jobs/{child['steps'][0]['reference']}")).json()
    assert job["state"] == "canceled"
    again = await buyer.post(f"{RUNS}/{run['id']}/cancel")
    assert again.json()["state"] == "canceled"
    assert (await buyer.post(f"{RUNS}/{run['id']}/answer", {"step": 1, "approve": True})).status_code == 409


async def test_guards_end_what_runs_away(town: Town, buyer: Caller) -> None:
    seller = await town.owner()
    agent = await registered(seller, skill(approval(within_seconds=3600)), limits={"wall_seconds": 30})
    run = (await called(buyer, agent)).json()
    await town.step(31)
    ended = await read(buyer, run["id"])
    assert (ended["state"], ended["reason"]) == ("failed", "deadline_passed")
    # An agent that calls itself by way of whoever fits best is stopped at once
    looping = await registered(seller, skill(handing_on(skill="spin", budget="1"), id="spin", price="0"))
    run = (await called(buyer, looping, budget="1")).json()
    assert (run["state"], run["reason"]) == ("failed", "delegation_refused")
    # A chain that is longer than its owner allows
    chain = await registered(seller, skill(approval(), id="c0", price="0"))
    for number in range(1, 4):
        step = handing_on(chain, skill=f"c{number - 1}", budget="0")
        chain = await registered(seller, skill(step, id=f"c{number}", price="0"), limits={"depth": 2})
    run = (await called(buyer, chain)).json()
    assert (run["state"], run["reason"]) == ("failed", "delegate_failed")
    limited = await registered(seller, skill(approval()), limits={"spend_per_run": "0.6", "spend_per_day": "0.9"})
    assert (await called(buyer, limited, budget="0.7")).json()["code"] == "spend_limit_reached"
    assert (await called(buyer, limited)).status_code == 201
    assert (await called(buyer, limited)).json()["code"] == "spend_limit_reached"


async def test_a_budget_is_never_passed(town: Town, buyer: Caller) -> None:
    seller = await town.owner()
    dear = await registered(seller, skill(approval(otherwise="approve", within_seconds=1), price="0.8"))
    agent = await registered(
        seller, skill(handing_on(dear, name="a"), handing_on(dear, name="b"), handing_on(dear, name="c"), price="0")
    )
    run = (await called(buyer, agent, budget="2")).json()
    for _ in range(5):
        await town.step(2)
    ended = await read(buyer, run["id"])
    assert (ended["state"], ended["reason"], ended["spent"]) == ("failed", "budget_exhausted", "1.6")
    assert [step["state"] for step in ended["steps"]] == ["done", "done", "skipped"]
    assert await town.balance(buyer) == ("8.4", "0")


async def test_refusals_leave_nothing_behind(town: Town, buyer: Caller) -> None:
    seller, poor = await town.owner(), await town.owner()
    agent = await registered(seller, skill(approval()))
    nobody = "agt_" + "0" * 26
    expected = [
        (await called(buyer, nobody), 404, "agent_not_found"),
        (await called(buyer, agent, skill="other"), 404, "agent_skill_not_found"),
        (await called(buyer, agent, budget="0.4"), 422, "budget_too_low"),
        (await called(poor, agent), 402, "insufficient_funds"),
    ]
    assert [(answer.status_code, answer.json()["code"]) for answer, *_ in expected] == [
        tuple(rest) for _, *rest in expected
    ]
    (refused,) = (await poor.get(RUNS)).json()["data"]
    assert (refused["state"], refused["reason"]) == ("rejected", "insufficient_funds")
    first = (await called(buyer, agent, message="m-1")).json()
    assert (await called(buyer, agent, message="m-1")).json()["id"] == first["id"]
    assert (await poor.get(f"{RUNS}/{first['id']}")).status_code == 404
    assert (await seller.get(f"{RUNS}/{first['id']}")).status_code == 200
    assert (await seller.post(f"{RUNS}/{first['id']}/cancel")).status_code == 404
