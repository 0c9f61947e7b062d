"""Votes signed off-line: brought by anybody, taken once, and refused where a word of them was changed."""

from typing import Any

from aitbc.kernel.crypto.signing import Key, canonical
from tests.app import Caller, TestApp
from tests.modules.governance.make import GOVERNANCE, PROPOSALS, VOTING, member, pass_time, proposed, started, state_of

KEYS = f"{GOVERNANCE}/voter-keys"


def signed(key: Key, voter: Caller, proposal: str, nonce: int, **said: Any) -> dict[str, Any]:
    """A vote as a machine without a network signs it."""
    choice = {name: value for name, value in said.items() if name in ("choice", "options", "weights")}
    reason = said.get("reason", "")
    statement = {
        "account": voter.principal.account,
        "choice": choice,
        "nonce": nonce,
        "proposal": proposal,
        "reason": reason,
        "statement": "aitbc.vote.v1",
    }
    body = choice | {"reason": reason, "account": voter.principal.account, "nonce": nonce, "public_key": key.public}
    return body | {"signature": key.sign(canonical(statement))}


async def test_a_vote_from_a_machine_without_a_network_is_brought_by_somebody_else_once(stage: TestApp) -> None:
    alice, courier, key = await member(stage, "300"), await stage.who("courier"), Key(bytes(range(1, 33)))
    first, second = await proposed(alice), await proposed(alice)
    await started(stage, first)
    path = f"{PROPOSALS}/{first['id']}/signed-votes"
    vote = signed(key, alice, first["id"], 5, choice="for", reason="From afar.")
    unknown = await courier.post(path, vote)
    assert (unknown.status_code, unknown.json()["code"]) == (404, "voter_key_not_found")
    for _ in range(2):
        assert (await alice.client.put(KEYS, json={"public_key": key.public})).status_code == 200
    taken = await courier.client.put(KEYS, json={"public_key": key.public})
    assert (taken.status_code, taken.json()["code"]) == (409, "voter_key_taken")
    for changed in ({"choice": "against"}, {"reason": "x"}, {"nonce": 6}):
        refused = await courier.post(path, vote | changed)
        assert (refused.status_code, refused.json()["code"]) == (403, "vote_not_signed")
    other = await courier.post(f"{PROPOSALS}/{second['id']}/signed-votes", vote)
    assert (other.status_code, other.json()["code"]) == (403, "vote_not_signed")
    done = await courier.post(path, vote)
    assert (done.status_code, done.json()["units"], done.json()["signed"]) == (201, "300", True), done.text
    replayed = await courier.post(path, vote)
    assert (replayed.status_code, replayed.json()["code"]) == (409, "already_voted")
    stale = await courier.post(
        f"{PROPOSALS}/{second['id']}/signed-votes", signed(key, alice, second["id"], 5, choice="for")
    )
    assert (stale.status_code, stale.json()["code"]) == (409, "vote_replayed")
    assert (await state_of(stage, second))["tally"]["voters"] == 0
    assert (await alice.get(KEYS)).json()["data"][0]["last_nonce"] == 5
    gone = await alice.client.delete(f"{KEYS}/{key.public}")
    assert gone.status_code == 200 and gone.json()["revoked_at"] is not None
    late = await courier.post(
        f"{PROPOSALS}/{second['id']}/signed-votes", signed(key, alice, second["id"], 6, choice="for")
    )
    assert (late.status_code, late.json()["code"]) == (404, "voter_key_not_found")


async def test_a_ballot_with_options_is_counted_when_voting_is_over(stage: TestApp) -> None:
    people = [await member(stage, stake) for stake in ("600", "400", "300")]
    proposal = await proposed(people[0], ballot="ranked", options=["Red", "Green", "Blue"])
    tie = await proposed(people[0], ballot="approval", options=["Red", "Green"])
    await started(stage, proposal)
    for who, ranked in zip(people, ([0, 2], [1, 2], [2, 1]), strict=True):
        answer = await who.client.put(f"{PROPOSALS}/{proposal['id']}/vote", json={"options": ranked})
        assert answer.status_code == 200, answer.text
        both = await who.client.put(f"{PROPOSALS}/{tie['id']}/vote", json={"options": [0, 1]})
        assert both.status_code == 200
    wrong = await people[0].client.put(f"{PROPOSALS}/{tie['id']}/vote", json={"choice": "for"})
    assert wrong.status_code == 409
    await pass_time(stage, seconds=VOTING)
    decided = await state_of(stage, proposal, "succeeded")
    assert decided["outcome"]["winner"] == 1
    assert decided["outcome"]["rounds"] == [[60000000000, 40000000000, 30000000000], [60000000000, 70000000000, 0]]
    assert (await state_of(stage, tie, "defeated"))["outcome"]["winner"] is None
    for body in (
        {"ballot": "single", "options": ["One"]},
        {"ballot": "basic", "options": ["One", "Two"]},
        {"ballot": "single", "options": ["One", "One"]},
    ):
        answer = await people[0].post(PROPOSALS, {"title": "Wrong", **body})
        assert answer.status_code == 422
