"""Agents: registered, changed and found; and routing, which is explained and always the same."""

import itertools

import pytest

from aitbc.kernel.primitives.money import parse
from aitbc.kernel.primitives.templates import FilledTooLarge
from aitbc.modules.hermes.models.decisions import Known, Whole, collaborate, hybrid, offload
from aitbc.modules.hermes.models.plans import fill
from aitbc.modules.hermes.models.routing import Candidate, Wish, rank
from aitbc.modules.hermes.models.shapes import AgentSkill
from tests.modules.hermes.make import AGENTS, HERMES, Town, a_job, approval, called, handing_on, registered, skill


def a_candidate(
    name: str,
    *,
    price: str = "1",
    tags: tuple[str, ...] = ("work",),
    success: float = 0.5,
    seconds: float | None = None,
    modes: tuple[str, ...] = ("text/plain",),
    is_online: bool = True,
) -> Candidate:
    """A skill of an agent in a snapshot."""
    declared = AgentSkill(id="s", name="s", description="", price=price, tags=tags, input_modes=modes)
    return Candidate(agent=name, name=name, skill=declared, is_online=is_online, success=success, seconds=seconds)


def test_filters_are_hard_and_scores_shown() -> None:
    good = a_candidate("a", success=0.9, seconds=1.0)
    cheap = a_candidate("b", price="0.1", success=0.5, seconds=9.0)
    others = [a_candidate("c", is_online=False), a_candidate("d", modes=("image/png",)), a_candidate("e", tags=("x",))]
    wish = Wish(tags=("work",), input_modes=("text/plain",))
    snapshot = [good, cheap, *others]
    ranking = rank(snapshot, wish)
    assert [one.candidate.agent for one in ranking.ranked] == ["a", "b"]
    assert rank(snapshot[::-1], wish) == ranking
    assert dict(ranking.left) | {"online": 4, "tags": 3, "input_modes": 2} == dict(ranking.left)
    top = ranking.ranked[0]
    assert (top.terms.match, top.terms.success, top.terms.speed) == (1.0, 0.9, 1.0)
    assert rank(snapshot, Wish(tags=("work",), prefers_performance=False)).ranked[0].candidate.agent == "b"
    none = rank(snapshot, Wish(max_units=parse("0.05")))
    assert (none.ranked, none.nearest) == ((), ("a budget of 0.1",))
    assert rank([], Wish()).nearest == ("any agent at all: none is registered",)


def test_places_in_inputs_are_filled_once() -> None:
    template = {"a": "{{text}} and {{steps.one}}", "b": ["{{data}}"], "c": 1}
    assert fill(template, "{{steps.one}}", {"x": 1}, {"one": "1"}) == {
        "a": "{{steps.one}} and 1",
        "b": [{"x": 1}],
        "c": 1,
    }
    with pytest.raises(FilledTooLarge):  # one that asks for gigabytes gets none of them
        fill({"a": ["{{text}}" * 10_000, "{{data}}"]}, "x" * 250_000, None, {})


def test_decisions_are_pure_and_add_up() -> None:
    for task in ("inference", "training", "else"):
        for size in ("small", "medium", "large"):
            found = offload(task, size, 32, known=Known(capacity=1), is_private=False)
            assert found == offload(task, size, 32, known=Known(capacity=1), is_private=False)
            assert found.savings == pytest.approx(found.local_cost - found.network_cost)
            for free, private in ((0, False), (9, True)):
                quick = Known(capacity=free, seconds=0.001)
                stays = offload(task, size, 32, known=quick, is_private=private, deadline_seconds=0.01)
                assert not stays.should_offload
    for strategy in ("performance", "cost", "balanced"):
        split = hybrid(strategy, {"cpu": 8}, {"gpu": 2})
        assert split.local_ratio + split.network_ratio == 1 and split.local["cpu"] <= 8 and split.network["gpu"] <= 2
    assert hybrid("cost", {"cpu": 8}, {"gpu": 0}).local_ratio == 1
    some = [Whole(seconds=seconds, cost=cost) for seconds in (1.0, 4.0) for cost in (0.1, 0.3)]
    for here, there, deadline in itertools.product(some, some, (None, 0.5, 0.9, 2.0)):
        fast, cheap, middle = (
            hybrid(strategy, {"cpu": 8}, {"gpu": 2}, (here, there), deadline)
            for strategy in ("performance", "cost", "balanced")
        )
        assert fast.seconds == pytest.approx(min(_seconds(here, there, part / 1000) for part in range(1001)), abs=0.01)
        fine = [part / 1000 for part in range(1001) if _seconds(here, there, part / 1000) <= (deadline or 9)]
        if fine:
            assert cheap.cost == pytest.approx(min(here.cost * one + there.cost * (1 - one) for one in fine), abs=0.001)
        else:
            assert cheap.seconds == pytest.approx(fast.seconds)
        assert middle.local_ratio == pytest.approx((fast.local_ratio + cheap.local_ratio) / 2, abs=0.001)
        assert {round(one.local_ratio + one.network_ratio, 9) for one in (fast, cheap, middle)} == {1}
    agreed = collaborate(["a", "b", "c"], {"b": 0.9}, list(range(7)), {"a": True, "b": True, "stranger": True})
    assert (agreed.coordinator, agreed.yes, agreed.consensus_reached) == ("b", 2, True)
    assert sorted(part for parts in agreed.parts.values() for part in parts) == list(range(7))
    assert not collaborate(["a", "b"], {}, [], {"a": True}).consensus_reached


def test_work_leaves_where_stored_prices_and_measured_times_say_so() -> None:
    for price in (0.0, 0.1, 0.3, 0.9):
        for measured in (0.1, 1.0, 3.0, 9.0):
            for deadline in (None, 2.0, 8.0):
                known = Known(capacity=3, price=price, seconds=measured)
                found = offload("inference", "medium", 100, known=known, is_private=False, deadline_seconds=deadline)
                assert (found.seconds, found.local_cost) == (3.0, 0.3)
                is_cheaper = price < 0.3
                expected = is_cheaper if deadline is None else measured <= deadline and (is_cheaper or deadline < 3.0)
                assert found.should_offload == expected, (price, measured, deadline)
                assert found.savings == pytest.approx(0.3 - price)
    needs = offload("training", "large", 100, known=Known(capacity=1, price=99.0, seconds=5.0), is_private=False)
    assert needs.should_offload and needs.speedup == 2.0, "it needs a GPU, and is twice as fast there"


def _seconds(here: Whole, there: Whole, part: float) -> float:
    """When work is done of which this part is done here."""
    return max(here.seconds * part, there.seconds * (1 - part))


@pytest.mark.anyio
async def test_an_agent_is_changed_by_its_owner_only_and_by_version(town: Town) -> None:
    owner, other = await town.owner(), await town.owner(funds="1")
    agent = await registered(owner, skill(approval()))
    path = f"{AGENTS}/{agent}/change"
    assert (await other.post(path, {"version": 1, "name": "mine"})).status_code == 404
    changed = await owner.post(path, {"version": 1, "name": "new", "state": "paused"})
    assert (changed.json()["name"], changed.json()["version"], changed.json()["is_online"]) == ("new", 2, False)
    assert (await owner.post(path, {"version": 1, "name": "late"})).json()["code"] == "agent_changed"
    assert (await called(other, agent)).json()["code"] == "agent_not_callable"
    assert (await owner.post(path, {"version": 2, "state": "retired"})).status_code == 200
    assert (await owner.post(path, {"version": 3, "state": "active"})).status_code == 409
    assert agent not in {one["id"] for one in (await other.get(AGENTS, limit=1000)).json()["data"]}
    assert agent in {one["id"] for one in (await owner.get(AGENTS, own=True)).json()["data"]}


@pytest.mark.anyio
async def test_plans_that_cannot_work_are_refused(town: Town) -> None:
    owner = await town.owner()
    for wrong in (
        skill(),
        skill(approval(), approval()),
        skill(a_job(input={"texts": ["{{steps.later}}"]})),
        skill(handing_on(text="{{nothing}}")),
    ):
        answer = await owner.post(AGENTS, {"name": "x", "skills": [wrong]})
        assert (answer.status_code, answer.json()["code"]) == (422, "agent_plan_invalid"), answer.text
    twice = await owner.post(AGENTS, {"name": "x", "skills": [skill(approval()), skill(approval())]})
    assert twice.json()["errors"][0]["pointer"] == "/skills/1/id"


@pytest.mark.anyio
async def test_who_fits_is_chosen_and_where_nobody_does_it_says_what_would(town: Town) -> None:
    owner = await town.owner()
    cheap = await registered(owner, skill(approval(), id="sort", price="0.1", tags=["order"]))
    dear = await registered(owner, skill(approval(), id="sort", price="0.4", tags=["order"]))
    found = (await owner.post(f"{HERMES}/routes", {"skill": "sort", "prefer": "cost"})).json()["data"]
    assert [one["agent"] for one in found] == [cheap, dear] and set(found[0]["terms"]) == {
        *("match", "success", "speed", "price")
    }
    refused = await owner.post(f"{HERMES}/routes", {"skill": "sort", "budget": "0.05"})
    assert (refused.status_code, refused.json()["code"]) == (409, "no_agent_fits")
    told = refused.json()["details"]
    assert told["would_fit"] == ["a budget of 0.1"] and told["left"]["price"] == 0
