"""Power: stake and delegation at the snapshot, no unit of it twice, and a direct vote that takes its shares back."""

import asyncio
import random
from collections.abc import Collection
from typing import Any

from sqlalchemy import text

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.money import parse
from aitbc.modules.governance.models.ballots import BASIC
from tests.app import Caller, TestApp
from tests.modules.governance.make import (
    GOVERNANCE,
    PROPOSALS,
    VOTING,
    governance_of,
    locked,
    member,
    pass_time,
    proposed,
    started,
    state_of,
    voted,
)
from tests.modules.trading.make import a_hold, a_settlement
from tests.scale import scaled

DELEGATIONS = f"{GOVERNANCE}/stake/delegations"


async def delegated(who: Caller, **shares: int) -> Any:
    """The answer to a delegation, by account and basis points."""
    said = [{"to": account, "basis_points": points} for account, points in shares.items()]
    return await who.client.put(DELEGATIONS, json={"shares": said})


async def test_a_delegator_who_votes_takes_its_shares_back(stage: TestApp) -> None:
    alice = await member(stage, "1000", "2000")
    bob, carol = await member(stage, "300"), await member(stage, "200")
    shares = {bob.principal.account: 6_000, carol.principal.account: 4_000}
    answer = await delegated(alice, **shares)
    assert answer.status_code == 200 and len(answer.json()["delegations"]) == 2
    seen = (await bob.get(f"{GOVERNANCE}/stake")).json()
    assert (seen["own"], seen["received"], seen["power"]) == ("300", "600", "900")
    proposal = await proposed(alice)
    await started(stage, proposal)
    assert (await voted(bob, proposal))["units"] == "900"
    assert (await voted(alice, proposal, "against"))["units"] == "1000"
    assert (await voted(carol, proposal, "abstain"))["units"] == "200"
    found = (await state_of(stage, proposal, "active"))["tally"]
    assert [found[name] for name in ("votes_for", "votes_against", "abstained", "cast")] == [
        "300",
        "1000",
        "200",
        "1500",
    ]
    votes = (await alice.get(f"{PROPOSALS}/{proposal['id']}/votes")).json()["data"]
    assert sorted(vote["units"] for vote in votes) == ["1000", "200", "300"]


async def test_delegation_has_no_circles_and_no_more_than_everything(stage: TestApp) -> None:
    alice, bob, carol = await member(stage), await member(stage), await member(stage)
    names = [who.principal.account for who in (alice, bob, carol)]
    assert (await delegated(alice, **{names[1]: 10_000})).status_code == 200
    assert (await delegated(bob, **{names[2]: 10_000})).status_code == 200
    refused = await delegated(carol, **{names[0]: 1})
    assert (refused.status_code, refused.json()["code"]) == (409, "delegation_cycle")
    assert (await delegated(carol, **{names[2]: 1})).status_code == 422
    assert (await delegated(carol, **{names[0]: 6_000, names[1]: 6_000})).status_code == 422
    unknown = await delegated(carol, **{"acct_" + "0" * 26: 1})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "delegatee_not_found")
    poor = await stage.who("poor")
    refused = await delegated(poor, **{names[0]: 1})
    assert (refused.status_code, refused.json()["code"]) == (409, "no_stake")
    pair = await asyncio.gather(
        delegated(x := await member(stage), **{(y := await member(stage)).principal.account: 1}),
        delegated(y, **{x.principal.account: 1}),
    )
    assert sorted(answer.status_code for answer in pair) == [200, 409]


async def test_delegation_after_the_snapshot_changes_nothing(stage: TestApp) -> None:
    alice, bob = await member(stage, "600"), await member(stage, "100")
    proposal = await proposed(alice)
    await started(stage, proposal)
    await delegated(alice, **{bob.principal.account: 10_000})
    assert (await voted(bob, proposal))["units"] == "100"
    assert (await voted(alice, proposal))["units"] == "600"
    await delegated(alice)
    assert (await bob.get(f"{GOVERNANCE}/stake")).json()["received"] == "0"


async def test_a_lock_that_the_ledger_refuses_leaves_nothing_and_is_refused_again(stage: TestApp) -> None:
    alice = await member(stage, None, "10")
    for once, code in (("a", "insufficient_funds"), ("a", "stake_refused"), ("b", "insufficient_funds")):
        answer = await alice.post(f"{GOVERNANCE}/stake/lock", {"amount": "11"}, once=once)
        assert answer.json()["code"] == code
    assert (await alice.get(f"{GOVERNANCE}/stake")).json()["own"] == "0"
    answers = await asyncio.gather(
        *(alice.post(f"{GOVERNANCE}/stake/lock", {"amount": "4"}, once="c") for _ in range(4))
    )
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert (await alice.get(f"{GOVERNANCE}/stake")).json()["own"] == "4"
    proposal = await alice.post(PROPOSALS, {"title": "Too poor for its deposit"})
    assert (proposal.status_code, proposal.json()["code"]) == (402, "insufficient_funds")
    assert (await stage.service("trading").verify()).divergence is None
    deposits = stage.service("trading").deposits
    await deposits.deposit(stage.runtime.operator, alice.principal.account, 10**9, "more", IdempotencyKey.NONE)
    assert (await alice.post(PROPOSALS, {"title": "Too poor for its deposit"})).status_code == 201


async def test_random_histories_count_no_unit_twice(stage: TestApp) -> None:
    """Stake, transfers, delegation and votes in any order; tallies are a recount from what happened, by hand."""
    chance = random.Random(7)
    people: list[Caller] = []
    stakes: dict[str, int] = {}
    shares: dict[tuple[str, str], int] = {}
    for _ in range(6):
        amount = str(chance.randint(101, 900))
        people.append(await member(stage, amount, "5000"))
        stakes[people[-1].principal.account] = parse(amount)

    async def moved() -> None:
        """Somebody locks, somebody unlocks, and money goes from one to another, which is no power."""
        one, two = chance.sample(people[1:], 2)  # the first one proposes, and keeps the power for it
        amount = str(chance.randint(1, 9))
        await locked(one, amount)
        stakes[one.principal.account] += parse(amount)
        if stakes[two.principal.account] < parse(amount):
            return
        gone = await two.post(f"{GOVERNANCE}/stake/unlock", {"amount": amount})
        assert gone.status_code == 201, gone.text
        stakes[two.principal.account] -= parse(amount)
        hold = a_hold(one.principal.account, 10**8)
        await stage.service("trading").hold(hold)
        await stage.service("trading").settle(a_settlement(hold, 10**8, miner_account=two.principal.account))

    for _ in range(scaled(2, 12)):
        for who in chance.sample(people, 4):
            others = chance.sample([one for one in people if one is not who], 2)
            first = chance.randint(1, 9_999)
            given = {others[0].principal.account: first, others[1].principal.account: 10_000 - first}
            if (await delegated(who, **given)).status_code == 200:  # not where it would be a circle
                giver = who.principal.account
                shares = {pair: points for pair, points in shares.items() if pair[0] != giver}
                shares |= {(giver, taker): points for taker, points in given.items()}
        await moved()
        proposal = await proposed(people[0])
        await started(stage, proposal)
        assert await _facts(stage, stakes) == (stakes, shares)
        at_snapshot = dict(stakes)
        await moved()
        said: dict[str, str] = {}
        voters = chance.sample(people, chance.randint(1, 6))

        async def cast(who: Caller, choice: str, proposal: dict[str, Any] = proposal) -> None:
            answer = await who.client.put(f"{PROPOSALS}/{proposal['id']}/vote", json={"choice": choice})
            assert answer.status_code == 200, answer.text

        said = {who.principal.account: chance.choice(BASIC) for who in voters}
        await asyncio.gather(*(cast(who, said[who.principal.account]) for who in voters))
        expected = dict.fromkeys(BASIC, 0)
        for voter, choice in said.items():
            expected[choice] += at_snapshot[voter]
        for (giver, taker), points in shares.items():
            if giver not in said and taker in said:
                expected[said[taker]] += at_snapshot[giver] * points // 10_000
        row = await governance_of(stage).governance_proposals.row(proposal["id"])
        assert [row.for_units, row.against_units, row.abstain_units] == [expected[name] for name in BASIC]
        assert row.cast_units == sum(expected.values()) <= (row.total_units or 0)
        await pass_time(stage, seconds=VOTING)
    for who in people:
        await who.post(f"{GOVERNANCE}/stake/unlock", {"amount": "0.5"})
        power = (await who.get(f"{GOVERNANCE}/stake")).json()
        locked_up = await stage.service("trading").ledger_account(f"{who.principal.account}/stake")
        assert locked_up.balance_units == parse(power["own"]) + parse(power["unlocking"])


async def _facts(stage: TestApp, whose: Collection[str]) -> tuple[dict[str, int], dict[tuple[str, str], int]]:
    """Stake of these accounts, and shares by giver and taker, as the tables of record have them now."""
    async with governance_of(stage).db.reading() as session:
        stakes = await session.execute(text("SELECT account, locked_units FROM governance.stakes"))
        shares = await session.execute(
            text("SELECT delegator, delegatee, basis_points FROM governance.delegations WHERE until IS NULL")
        )
        told = {ids.encode("acct", account): units for account, units in stakes}
        given = {(ids.encode("acct", one), ids.encode("acct", two)): points for one, two, points in shares}
        return (
            {account: told[account] for account in whose},
            {pair: points for pair, points in given.items() if pair[0] in whose},
        )
