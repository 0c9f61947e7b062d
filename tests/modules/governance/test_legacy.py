"""The older dialect of governance: every path of the service, and what clients asked the older coordinator."""

from typing import Any

from tests.app import Caller, TestApp
from tests.modules.governance.make import LOWER, VOTING, member, pass_time, proposed, started

BASE = "/governance"
V1 = f"{BASE}/v1/governance"


async def posted(who: Caller, path: str, body: Any, status: int = 200) -> Any:
    """The answer to a command, which has this status."""
    answer = await who.post(path, body)
    assert answer.status_code == status, answer.text
    return answer.json()


async def test_health_is_open_and_says_what_there_is(stage: TestApp) -> None:
    async with stage.client() as nobody:
        for path, status in (("health", "healthy"), ("ready", "ready"), ("live", "alive")):
            found = await nobody.get(f"{BASE}/{path}")
            assert (found.status_code, found.json()) == (200, {"status": status, "service": "governance-service"})
        found = await nobody.get(f"{BASE}/governance/status")
        assert (found.status_code, found.json()["status"]) == (200, "operational")
        assert (await nobody.get(f"{V1}/profiles")).status_code == 401


async def test_a_profile_has_what_follows_from_stake_and_nothing_that_was_asked_for(stage: TestApp) -> None:
    alice, bob = await member(stage, "300"), await member(stage, "100")
    for wrong in ({"role": "admin"}, {"voting_power": 1e6}, {"delegated_power": 1}):
        await posted(alice, f"{V1}/profiles", {"user_id": "alice"} | wrong, 422)
    made = await posted(alice, f"{V1}/profiles", {"user_id": "alice"})
    assert (made["role"], made["voting_power"], made["delegated_power"]) == ("member", 300.0, 0.0)
    assert await posted(alice, f"{V1}/profiles", {"user_id": "other"}) == made
    await posted(bob, f"{V1}/profiles", {"user_id": "alice"}, 409)
    await bob.client.put("/api/v1/governance/stake/delegations", json={"shares": [{"to": alice.principal.account}]})
    found = (await bob.get(f"{V1}/profiles/{made['profile_id']}")).json()
    assert (found["role"], found["delegated_power"]) == ("delegate", 100.0)
    listed = (await bob.get(f"{V1}/profiles", user_id="alice")).json()
    assert listed == [found] and (await bob.get(f"{V1}/profiles", role="council")).json() == []
    assert (await bob.get(f"{V1}/profiles/gov_nobody")).status_code == 404


async def test_proposals_and_votes_go_through_both_of_their_paths(stage: TestApp) -> None:
    alice, bob = await member(stage, "1200", "2000"), await member(stage, "400")
    sent = {"title": "Words", "description": "Only words.", "category": "protocol", "proposer_id": ""}
    times = {"voting_starts": "2020-01-01T00:00:00Z", "voting_ends": "2020-01-08T00:00:00Z"}
    made = await posted(alice, f"{V1}/proposals", sent | times)
    assert (made["status"], made["category"], made["votes_for"]) == ("draft", "general", 0.0)
    payload = {"name": "trading.fee_basis_points", "value": 210}
    body = {"type": "governance", "action": "propose", "title": "Fee", "description": "x", "category": "parameters"}
    fee = await posted(alice, f"{BASE}/v1/transactions", body | {"execution_payload": payload})
    await posted(alice, f"{V1}/proposals", sent | {"proposer_id": "gov_" + "0" * 26}, 422)
    await posted(alice, f"{V1}/proposals", sent | {"execution_payload": {"x": 1}}, 422)
    await posted(alice, f"{V1}/proposals", sent | {"category": "funding", "execution_payload": {"amount": 1}}, 422)
    await started(stage, {"id": made["proposal_id"]})
    vote = {"proposal_id": made["proposal_id"], "vote_type": "for", "voting_power_used": 1e9, "voter_id": ""}
    cast = await posted(alice, f"{V1}/votes", vote)
    assert (cast["voting_power_used"], cast["vote_type"]) == (1200.0, "for")
    again = {"type": "governance", "action": "vote", "proposal_id": fee["transaction_id"], "vote_type": "for"}
    assert (await posted(alice, f"{BASE}/v1/transactions", again))["status"] == "success"
    cast = await posted(
        bob,
        "/coordinator/voting/cast-vote",
        {"proposal_id": made["proposal_id"], "vote": "against", "reasoning": "No."},
    )
    assert (cast["voting_power_used"], cast["reason"]) == (400.0, "No.")
    found = (await bob.get(f"{V1}/proposals/{made['proposal_id']}")).json()
    assert (found["status"], found["votes_for"], found["votes_against"]) == ("active", 1200.0, 400.0)
    votes = (await bob.get(f"{V1}/votes", proposal_id=made["proposal_id"])).json()
    assert len(votes) == 2 and (await bob.get(f"{V1}/votes", voter_id="gov_x")).json() == []
    listed = (await bob.get(f"{BASE}/v1/transactions", action="propose", status="active")).json()
    assert made["proposal_id"] in {one["id"] for one in listed}
    assert (await bob.get(f"{BASE}/v1/transactions", island_id="x")).json() == []
    await pass_time(stage, seconds=VOTING)
    found = (await bob.get("/coordinator/proposals", status="succeeded", limit=10)).json()
    assert made["proposal_id"] in {one["proposal_id"] for one in found}
    figures = (await bob.get(f"{V1}/analytics", period="daily")).json()
    assert figures["total_proposals"] >= 2 and figures["total_votes"] >= 3 and figures["passed_proposals"] >= 1
    created = {"title": "By the coordinator", "description": "x"}
    assert (await posted(alice, "/coordinator/proposals/create", created, 201))["status"] == "draft"


async def test_the_treasury_is_an_object_from_the_beginning(stage: TestApp) -> None:
    alice = await member(stage)
    await alice.post("/api/v1/governance/treasury/gifts", {"amount": "5"})
    found = (await alice.get(f"{V1}/treasury")).json()
    assert (found["treasury_id"], found["total_balance"] >= 5.0, found["allocated_funds"]) == (
        "main_treasury",
        True,
        0.0,
    )


async def test_what_nobody_can_serve_is_refused_with_its_reason(stage: TestApp) -> None:
    alice = await member(stage, None)
    for path in ("v1/governance-enhanced/regional-councils", "staking/stats", "v1/governance-enhanced/profiles/me"):
        found = await alice.get(f"/coordinator/{path}")
        assert found.status_code == 501 and len(found.json()["detail"]) > 20, path
    for path in ("stake/one/unbond", "v1/governance-enhanced/regional-proposals/one/vote?voting_power=9"):
        assert (await alice.post(f"/coordinator/{path}")).status_code == 501, path


async def test_what_the_simulator_says_is_what_receipts_say(stage: TestApp) -> None:
    alice = await member(stage, "100")
    proposal = await proposed(alice, class_="parameters", actions=[LOWER])
    found = (await alice.get(f"/api/v1/governance/proposals/{proposal['id']}/simulation", days=7)).json()
    assert (found["receipts"], found["before"]["fees"], found["changes"]["trading.fee_basis_points"][1]) == (
        0,
        "0",
        200,
    )
    assert found["unknown"]


async def test_the_older_coordinator_delegates_votes_steps_and_reports(stage: TestApp) -> None:
    alice, bob, admin = await member(stage, "1100", "2000"), await member(stage, "100"), await stage.admin()
    old = "/coordinator/v1/governance"
    profile = await posted(bob, f"{old}/profiles", {"user_id": "bob"})
    path = f"{old}/profiles/{profile['profile_id']}/delegate"
    done = await posted(bob, path, {"delegatee_id": alice.principal.account})
    assert done["delegate_to"] == "gov_" + alice.principal.account.removeprefix("acct_")
    await posted(alice, path, {"delegatee_id": bob.principal.account}, 422)
    made = await posted(alice, f"{old}/proposals", {"title": "Step by step", "description": "x"})
    one = f"{old}/proposals/{made['proposal_id']}"
    assert (await posted(alice, f"{one}/process", None))["status"] == "draft"
    await started(stage, {"id": made["proposal_id"]})
    cast = await posted(alice, f"{one}/vote", {"vote_type": "for"})
    assert (cast["voting_power_used"], cast["delegated_power_at_snapshot"]) == (1200.0, 100.0)
    await posted(alice, f"{one}/execute", None, 403)
    await posted(admin, f"{one}/execute", None, 409)
    await pass_time(stage, seconds=VOTING)
    assert (await posted(bob, f"{one}/process", None))["status"] == "succeeded"
    await posted(alice, f"{old}/profiles", {"user_id": "alice of the coordinator"})
    (counted,) = (await bob.get(f"{V1}/profiles", user_id="alice of the coordinator")).json()
    assert [counted[name] for name in ("proposals_created", "proposals_passed", "total_votes_cast")] == [1, 1, 1]
    report = await posted(bob, f"{old}/analytics/reports?period=daily", None)
    assert report["active_voters"] >= 1 and 0 < report["metrics"]["voter_participation_rate"] <= 1
