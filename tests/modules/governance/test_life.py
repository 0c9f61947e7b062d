"""The life of a proposal, by a moved clock: from stake to a changed fee, and every other end that it can have."""

import asyncio
from datetime import timedelta
from decimal import Decimal

from sqlalchemy import text

from aitbc.kernel.primitives import clock
from aitbc.modules.governance.api import CLASSES, SHOWN
from aitbc.modules.governance.models.actions import id_of
from aitbc.modules.governance.models.life import (
    MOVES,
    DepositPolicy,
    ProposalState,
    Rules,
    extended_end,
    goes_back,
    passes,
    quorum_of,
)
from aitbc.modules.governance.service.settings import GOVERNANCE_PARAMETERS
from tests.app import TestApp
from tests.eventually import eventually
from tests.modules.governance.make import (
    DELAY,
    EXECUTION,
    GOVERNANCE,
    LATE,
    LOWER,
    PROPOSALS,
    TIMELOCK,
    UNLOCK,
    VOTING,
    governance_of,
    locked,
    member,
    pass_time,
    proposed,
    started,
    state_of,
    tick,
    voted,
)

S = ProposalState
DEFAULTS = {parameter.name: parameter.default for parameter in GOVERNANCE_PARAMETERS}


def test_quorum_and_threshold_are_exact() -> None:
    rules = Rules(quorum_units=1_000, quorum_basis_points=0, threshold_basis_points=5_000)
    assert quorum_of(rules, 10**9) == 1_000
    assert quorum_of(Rules(quorum_units=0, quorum_basis_points=8_000, threshold_basis_points=1), 101) == 81
    assert passes(rules, 2, 1) and not passes(rules, 1, 1) and not passes(rules, 0, 0) and not passes(rules, 1, 2)
    for class_ in CLASSES:
        found = {name.partition(".")[2]: default for name, default in DEFAULTS.items() if name.endswith(class_)}
        shares = [
            found[f"{rule}.{class_}"] for rule in ("quorum_units", "quorum_basis_points", "threshold_basis_points")
        ]
        assert shares == ([0, 8_000, 6_667] if class_ == "emergency" else [1_000 * 10**8, 0, 5_000])
    two_thirds = Rules(quorum_units=0, quorum_basis_points=0, threshold_basis_points=6_667)
    assert passes(two_thirds, 6_667, 3_333) and not passes(two_thirds, 6_666, 3_334)


def test_every_state_is_reached_by_the_table_and_final_ones_stay() -> None:
    assert {state.value for state in S} == {"draft", *SHOWN}
    reached = {S.DRAFT} | {after for moves in MOVES.values() for after in moves}
    assert reached == set(S) == set(MOVES)
    final = {state for state, moves in MOVES.items() if not moves}
    assert final == {S.DEFEATED, S.EXECUTED, S.CANCELLED, S.VETOED, S.EXPIRED}


def test_deposits_return_as_their_policy_says() -> None:
    ends = (S.SUCCEEDED, S.DEFEATED, S.CANCELLED, S.EXPIRED, S.VETOED)
    returned = {policy: [goes_back(policy, end) for end in ends] for policy in DepositPolicy}
    assert returned == {
        DepositPolicy.ALWAYS: [True, True, True, True, False],
        DepositPolicy.PASSED: [True, False, False, False, False],
        DepositPolicy.NEVER: [False] * 5,
    }


def test_a_late_quorum_leaves_a_window_to_answer() -> None:
    ends, window = clock.now(), timedelta(seconds=100)
    assert extended_end(ends, ends - timedelta(seconds=1), window) == ends + timedelta(seconds=99)
    assert extended_end(ends, ends - timedelta(seconds=100), window) == ends


async def test_a_vote_lowers_the_fee_and_the_chain_says_so(stage: TestApp) -> None:
    alice, bob = await member(stage, "500"), await member(stage, "700")
    proposal = await proposed(alice, class_="parameters", actions=[LOWER], text="Miners ask for it.")
    assert (proposal["state"], proposal["deposit"]) == ("pending", "10")
    assert proposal["id"] == id_of(proposal["digest"]), "the id is made from the content"
    same = {"title": proposal["title"], "class": "parameters", "actions": [LOWER], "text": "Miners ask for it."}
    again, other = (
        await alice.post(PROPOSALS, same),
        await alice.post(PROPOSALS, same | {"text": "Miners asked for it."}),
    )
    assert (again.status_code, again.json()["code"], other.status_code) == (409, "proposal_exists", 201)
    assert other.json()["digest"] != proposal["digest"]
    poor = await (await stage.who("poor", funds="20")).post(PROPOSALS, same)
    assert (poor.status_code, poor.json()["code"]) == (409, "no_stake")
    await started(stage, proposal)
    await voted(alice, proposal)
    found = await voted(bob, proposal, "against", reason="Why?")
    assert (found["units"], found["own"]) == ("700", "700")
    third = await state_of(stage, proposal, "active")
    assert (third["tally"]["votes_for"], third["tally"]["votes_against"]) == ("500", "700")
    await pass_time(stage, seconds=VOTING)
    await state_of(stage, proposal, "defeated")


async def test_the_story_from_stake_to_the_next_quote(stage: TestApp) -> None:
    alice, bob = await member(stage, "800"), await member(stage, "300")
    parameter = (await alice.get(f"{GOVERNANCE}/parameters/trading.fee_basis_points")).json()
    assert (parameter["value"], parameter["origin"]) == (250, "default")
    proposal = await proposed(alice, class_="parameters", actions=[LOWER])
    await started(stage, proposal)
    await voted(alice, proposal)
    await voted(bob, proposal, "against")
    admin = await stage.admin()
    early = await admin.post(f"{PROPOSALS}/{proposal['id']}/execute")
    assert (early.status_code, early.json()["code"]) == (409, "proposal_moved")
    await pass_time(stage, seconds=VOTING)
    await state_of(stage, proposal, "queued")
    early = await admin.post(f"{PROPOSALS}/{proposal['id']}/execute")
    assert (early.status_code, early.json()["code"]) == (409, "timelock_not_over")
    assert (await alice.get("/api/v1/trading/fees")).json()["basis_points"] == 250
    clock.move(timedelta(seconds=TIMELOCK))
    await asyncio.gather(*(governance_of(stage).clockwork.advance() for _ in range(4)))

    async def executed() -> bool:
        return bool((await state_of(stage, proposal))["state"] == "executed")

    await eventually(executed)
    assert (await alice.get("/api/v1/trading/fees")).json()["basis_points"] == 200
    parameter = (await alice.get(f"{GOVERNANCE}/parameters/trading.fee_basis_points")).json()
    assert (parameter["value"], parameter["origin"], parameter["source"]) == (200, "governance", proposal["id"])
    changes = stage.runtime.platform.parameters.changes("trading.fee_basis_points")
    assert len(changes) == 1
    again = await admin.post(f"{PROPOSALS}/{proposal['id']}/execute")
    assert (again.status_code, again.json()["state"]) == (200, "executed")
    await tick(stage)
    assert (await stage.service("trading").verify()).divergence is None
    balance = (await alice.get(f"/api/v1/trading/accounts/{alice.principal.account}")).json()
    assert balance["available"] == "200"  # the deposit is back
    chain = (await alice.get("/api/v1/trading/transactions", limit=200)).json()["data"]
    refund, deposit = (one["reason"] for one in chain if one["reference"] == proposal["id"])
    assert deposit == f"deposit {proposal['digest']}" and refund.startswith("succeeded: 80000000000 for, 30000000000 ")


async def test_stake_after_the_snapshot_counts_for_nothing_and_unlocked_stake_still_does(stage: TestApp) -> None:
    alice, late = await member(stage, "400"), await member(stage, None)
    proposal = await proposed(alice)
    await started(stage, proposal)
    await locked(late, "900")
    refused = await late.client.put(f"{PROPOSALS}/{proposal['id']}/vote", json={"choice": "against"})
    assert (refused.status_code, refused.json()["code"]) == (409, "no_power")
    gone = await alice.post(f"{GOVERNANCE}/stake/unlock", {"amount": "400"})
    assert (gone.status_code, gone.json()["state"]) == (201, "due")
    assert (await voted(alice, proposal))["units"] == "400"
    power = (await alice.get(f"{GOVERNANCE}/stake")).json()
    assert (power["own"], power["unlocking"]) == ("0", "400")
    refused = await alice.post(f"{GOVERNANCE}/stake/unlock", {"amount": "1"})
    assert (refused.status_code, refused.json()["code"]) == (409, "stake_too_small")
    await pass_time(stage, seconds=UNLOCK)
    power = (await alice.get(f"{GOVERNANCE}/stake")).json()
    assert power["unlocking"] == "0"


async def test_voting_is_open_from_its_start_to_its_last_second(stage: TestApp) -> None:
    alice, bob = await member(stage), await member(stage)
    proposal = await proposed(alice)
    path = f"{PROPOSALS}/{proposal['id']}/vote"
    early = await alice.client.put(path, json={"choice": "for"})
    assert (early.status_code, early.json()["code"]) == (409, "voting_closed")
    await started(stage, proposal)
    voting = await state_of(stage, proposal, "active")
    ends = governance_of(stage)
    row = await ends.governance_proposals.row(proposal["id"])
    clock.move(row.voting_ends - clock.now() - timedelta(seconds=5))
    first = await voted(alice, proposal, reason="early")
    assert await voted(alice, proposal, reason="again") == first
    other = await alice.client.put(path, json={"choice": "against"})
    assert (other.status_code, other.json()["code"]) == (409, "already_voted")
    clock.move(timedelta(seconds=5))
    late = await bob.client.put(path, json={"choice": "for"})
    assert (late.status_code, late.json()["code"]) == (409, "voting_closed")
    assert voting["voting_ends"] > voting["voting_starts"]


async def test_a_quorum_that_is_reached_late_prolongs_voting_once(stage: TestApp) -> None:
    alice, bob, carol = await member(stage, "600"), await member(stage, "600"), await member(stage, "600")
    proposal = await proposed(alice)
    await started(stage, proposal)
    await voted(alice, proposal)
    before = (await governance_of(stage).governance_proposals.row(proposal["id"])).voting_ends
    clock.move(before - clock.now() - timedelta(seconds=20))
    await voted(bob, proposal, "against")
    row = await governance_of(stage).governance_proposals.row(proposal["id"])
    assert row.extended and timedelta(seconds=LATE - 25) < row.voting_ends - before <= timedelta(seconds=LATE - 20 + 1)
    await voted(carol, proposal)
    assert (await governance_of(stage).governance_proposals.row(proposal["id"])).voting_ends == row.voting_ends
    await pass_time(stage, seconds=LATE + 1)
    await state_of(stage, proposal, "succeeded")


async def test_quorum_less_one_is_defeated_and_the_quorum_itself_passes(stage: TestApp) -> None:
    alice, bob = await member(stage, "500"), await member(stage, "499.99999999")
    missed, met = await proposed(alice), await proposed(alice)
    await started(stage, missed)
    await voted(alice, missed)
    await voted(bob, missed, "abstain")
    carol = await member(stage, "500")  # after the snapshot of both
    tie = await proposed(alice)
    await started(stage, tie)
    await voted(alice, met)
    await voted(bob, met)
    await voted(alice, tie)
    await voted(carol, tie, "against")
    await pass_time(stage, seconds=VOTING)
    assert (await state_of(stage, missed))["tally"]["has_quorum"] is False
    for proposal in (missed, met, tie):
        await state_of(stage, proposal, "defeated")
    exact = await proposed(alice)
    await started(stage, exact)
    await voted(alice, exact)
    await voted(carol, exact, "abstain")
    await pass_time(stage, seconds=VOTING)
    assert (await state_of(stage, exact, "succeeded"))["tally"]["has_quorum"] is True


async def test_its_proposer_takes_it_back_and_a_guardian_stops_it(stage: TestApp) -> None:
    alice, bob, admin = await member(stage, "1200", "2000"), await member(stage), await stage.admin()
    cancelled = await proposed(alice)
    path = f"{PROPOSALS}/{cancelled['id']}"
    refused = await bob.post(f"{path}/cancel", {})
    assert (refused.status_code, refused.json()["code"]) == (403, "not_the_proposer")
    done = await alice.post(f"{path}/cancel", {"reason": "A better one follows."})
    assert (done.status_code, done.json()["state"], done.json()["reason"]) == (
        200,
        "cancelled",
        "A better one follows.",
    )
    assert (await alice.post(f"{path}/cancel", {})).json()["state"] == "cancelled"
    queued = await proposed(alice, class_="parameters", actions=[LOWER])
    await started(stage, queued)
    await voted(alice, queued)
    await pass_time(stage, seconds=VOTING)
    await state_of(stage, queued, "queued")
    assert (await alice.post(f"{PROPOSALS}/{queued['id']}/veto", {})).status_code == 403
    vetoed = await admin.post(f"{PROPOSALS}/{queued['id']}/veto", {"reason": "No."})
    assert (vetoed.status_code, vetoed.json()["state"]) == (200, "vetoed")
    await pass_time(stage, seconds=TIMELOCK)
    await state_of(stage, queued, "vetoed")
    trail = (await admin.get("/api/v1/operations/audit", limit=200)).json()["data"]
    assert {"proposal.cancel", "proposal.veto", "vote.cast"} <= {one["action"] for one in trail}


async def test_a_proposal_without_support_expires_and_with_sponsors_it_starts(stage: TestApp) -> None:
    poor, rich = await member(stage, "60"), await member(stage, "40")
    alone, together = await proposed(poor), await proposed(poor)
    path = f"{PROPOSALS}/{together['id']}/sponsor"
    for _ in range(2):
        assert (await rich.client.put(path)).status_code == 200
    stranger = await stage.who("stranger")
    refused = await stranger.client.put(path)
    assert (refused.status_code, refused.json()["code"]) == (409, "no_stake")
    await pass_time(stage, seconds=DELAY + 1)
    await state_of(stage, alone, "expired")
    await state_of(stage, together, "active")


async def test_an_execution_that_is_refused_fails_and_can_be_tried_until_it_expires(stage: TestApp) -> None:
    alice, admin = await member(stage, "1500", "5000"), await stage.admin()
    there = Decimal((await alice.get(f"{GOVERNANCE}/treasury")).json()["available"])  # tests share the treasury
    budget = {"do": "set_budget", "line": "late", "limit": str(there + 100)}
    pay = {"do": "pay", "to": alice.principal.account, "line": "late", "amount": str(there + 90)}
    proposal = await proposed(alice, class_="funding", actions=[budget, pay])
    await started(stage, proposal)
    await voted(alice, proposal)
    await pass_time(stage, seconds=VOTING)
    await pass_time(stage, seconds=TIMELOCK)
    failed = await state_of(stage, proposal, "execution_failed")
    assert failed["failure"] and failed["ended_at"] is None
    treasury = (await alice.get(f"{GOVERNANCE}/treasury")).json()
    assert [line for line in treasury["lines"] if line["line"] == "late"] == []
    assert (await alice.post(f"{GOVERNANCE}/treasury/gifts", {"amount": "95"})).status_code == 201
    again = await admin.post(f"{PROPOSALS}/{proposal['id']}/execute")
    assert (again.status_code, again.json()["state"], again.json()["failure"]) == (200, "executed", None)
    other = await proposed(alice, class_="funding", actions=[{"do": "set_budget", "line": "late", "limit": "10"}])
    await started(stage, other)
    await voted(alice, other)
    await pass_time(stage, seconds=VOTING)
    await pass_time(stage, seconds=TIMELOCK)
    await state_of(stage, other, "execution_failed")
    await pass_time(stage, seconds=EXECUTION)
    await state_of(stage, other, "expired")
    async with governance_of(stage).db.reading() as session:
        kinds = await session.scalar(text("SELECT count(*) FROM governance.outbox WHERE kind LIKE 'governance.%'"))
    assert kinds


async def test_each_policy_of_deposits_holds_in_the_ledger(stage: TestApp) -> None:
    parameters, people = stage.runtime.platform.parameters, {}
    for number, policy in enumerate(DepositPolicy):
        await parameters.set([("governance.deposit_policy", number)], f"prop_{policy}")
        who = await member(stage, "1000", "1020")
        people[policy] = who, await proposed(who), await proposed(who)
    await parameters.set([("governance.deposit_policy", None)], "prop_as_before")
    for who, passes_, _ in people.values():
        await started(stage, passes_)
        await voted(who, passes_)
    await pass_time(stage, seconds=VOTING)
    await tick(stage)
    for policy, (who, passed, failed) in people.items():
        assert (await state_of(stage, passed, "succeeded"))["deposit_policy"] == policy
        await state_of(stage, failed, "defeated")
        back = {DepositPolicy.ALWAYS: "20", DepositPolicy.PASSED: "10", DepositPolicy.NEVER: "0"}[policy]
        account = (await who.get(f"/api/v1/trading/accounts/{who.principal.account}")).json()
        assert account["available"] == back, policy
        kept = await stage.service("trading").ledger_account(f"{who.principal.account}/deposit")
        assert kept.balance_units == 0
        forfeited = []
        for one in (passed, failed):
            moves = (await who.get(f"{GOVERNANCE}/treasury/moves", proposal=one["id"])).json()["data"]
            forfeited += [move["amount"] for move in moves if (move["purpose"], move["state"]) == ("forfeit", "done")]
        assert forfeited == ["10"] * (2 - int(back) // 10), "what does not return is the treasury's"
    assert (await stage.service("trading").verify()).divergence is None


async def test_nothing_is_executed_whose_timelock_cannot_be_proved(stage: TestApp) -> None:
    alice, admin = await member(stage, "1200", "2000"), await stage.admin()
    proposal = await proposed(alice, class_="parameters", actions=[LOWER | {"value": 222}])
    await started(stage, proposal)
    await voted(alice, proposal)
    await pass_time(stage, seconds=VOTING)
    await state_of(stage, proposal, "queued")
    lost = text("UPDATE governance.proposals SET executes_at = NULL WHERE digest = :digest")
    async with governance_of(stage).db.unit_of_work() as uow:
        await uow.session.execute(lost, {"digest": proposal["digest"]})
    await pass_time(stage, seconds=TIMELOCK)
    refused = await admin.post(f"{PROPOSALS}/{proposal['id']}/execute")
    assert (refused.status_code, refused.json()["code"]) == (409, "timelock_not_over")
    await state_of(stage, proposal, "queued")
    assert not stage.runtime.platform.parameters.were_set_by(proposal["id"])
    assert (await admin.post(f"{PROPOSALS}/{proposal['id']}/veto", {"reason": "Lost."})).status_code == 200


async def test_each_state_goes_to_the_webhooks_of_its_proposer(stage: TestApp) -> None:
    alice = await member(stage)
    made = await alice.post("/api/v1/webhooks/endpoints", {"url": "https://hooks.example/"})
    assert made.status_code == 201, made.text
    proposal = await proposed(alice)
    await started(stage, proposal)
    await alice.post(f"{PROPOSALS}/{proposal['id']}/cancel", {})

    async def told() -> bool:
        sent = (await alice.get("/api/v1/webhooks/deliveries")).json()["data"]
        return [one["type"] for one in sent].count("governance.proposal_changed") == 3

    await eventually(told)
