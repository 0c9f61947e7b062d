"""Graphs: what begins when, what it is asked, what it costs, and how it ends."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.primitives import clock
from aitbc.modules.ai.api import Lease
from aitbc.modules.ai.service.graphs.commands import GraphNotFound, GraphNotKept, GraphStateConflict, TooManyGraphs
from tests.modules.ai.graphs.make import (
    a_graph,
    begin,
    jobs_of,
    look,
    node,
    require_sound,
    rerun,
    states,
    the_node,
    work,
)
from tests.modules.ai.make import AITBC, Worker, a_key, ai_on, embedding


def chat(name: str, content: str, **fields: Any) -> dict[str, Any]:
    """A node that asks a model."""
    asked = {"messages": [{"role": "user", "content": content}], "max_tokens": 8}
    return node(name, kind="chat", input=asked, **fields)


def says(text: str) -> dict[str, Any]:
    """What a model answers."""
    return {"model": "tiny", "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}


def answers(lease: Lease) -> Any:
    """A model that says what it was asked, in capitals; it knows nothing of failures."""
    if lease.kind != "chat":
        return embedding(len(lease.input["texts"]))
    content = lease.input["messages"][-1]["content"]
    return None if "fail" in content else says(content.upper())


async def test_a_child_begins_when_its_parents_have_ended_and_is_asked_what_they_made(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, worker = market.person(), Worker(market)
        graph = await begin(
            market,
            alice,
            node("vector", "{{ask.text}} and {{inputs.word}}", after=["first"]),
            chat("ask", "one {{inputs.word}}"),
            node("first"),
            inputs={"word": "tide"},
        )
        assert await states(market, alice, graph) == {"vector": "pending", "ask": "running", "first": "running"}
        asked = await work(market, worker, answers)
        assert [lease.input["texts"] for lease in asked if lease.kind == "embed"] == [["a text"], ["ONE TIDE and tide"]]
        found = await look(market, alice, graph)
        assert (found.state, found.reserved) == ("succeeded", "0")
        parent = next(one for one in found.nodes if one.name == "ask")
        job = await market.ai.jobs.get(alice, parent.job or "")
        assert parent.output_digest == job.output_digest
        assert {one.attempt for one in found.nodes} == {1}
        assert [one.name for one in found.nodes] == ["vector", "ask", "first"]
        await require_sound(market)


async def test_values_are_put_in_as_they_are_and_within_texts_as_texts(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, worker = market.person(), Worker(market)
        texts = ["a", "b {{item}}"]
        await begin(
            market,
            alice,
            node("whole", input={"texts": "{{inputs.texts}}"}),
            node("part", "{{ whole.output.dimensions }}: {{whole.output.vectors.0.1}} {{inputs.texts}}"),
            inputs={"texts": texts},
        )
        asked = [lease.input["texts"] for lease in await work(market, worker)]
        assert asked == [texts, ["4: -0.25 a\nb {{item}}"]], "what was put in is not looked at again"


async def test_a_list_is_fanned_out_and_gathered_in_its_order(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, worker = market.person(), Worker(market)
        graph = await begin(
            market,
            alice,
            chat("each", "{{index}} {{item.word}}", for_each="{{inputs.words}}"),
            node("all", input={"texts": "{{each.text}}"}),
            inputs={"words": [{"word": word} for word in ("sun", "moon", "tide")]},
        )
        assert await states(market, alice, graph) == {
            "each": "running",
            **{f"each.{index}": "running" for index in range(3)},
            "all": "pending",
        }
        asked = await work(market, worker, answers)
        assert asked[-1].input["texts"] == ["0 SUN", "1 MOON", "2 TIDE"]
        assert set((await states(market, alice, graph)).values()) == {"succeeded"}
        await require_sound(market)


async def test_a_list_may_be_empty_or_be_no_list_or_have_too_many_items(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, worker = market.person(), Worker(market)
        inputs = {"none": [], "text": "abc", "many": [0] * 1001}
        graph = await begin(
            market,
            alice,
            node("none", for_each="{{inputs.none}}"),
            node("after", "{{none.output}} of none"),
            node("text", for_each="{{inputs.text}}"),
            node("many", for_each="{{inputs.many}}"),
            inputs=inputs,
        )
        asked = await work(market, worker)
        assert [lease.input["texts"] for lease in asked] == [[" of none"]]
        assert await states(market, alice, graph) == {
            "none": "succeeded",
            "after": "succeeded",
            "text": "failed",
            "many": "failed",
        }
        reasons = [(await the_node(market, alice, graph, name)).reason for name in ("none", "text", "many")]
        assert reasons == ["no_items", "not_a_list", "too_many_nodes"]


async def test_a_failed_parent_ends_its_children_and_others_go_on(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, worker = market.person(), Worker(market)
        graph = await begin(
            market,
            alice,
            chat("bad", "fail"),
            node("child", "{{bad.text}}"),
            node("grandchild", after=["child"]),
            chat("good", "yes"),
            node("either", "{{good.text}} {{bad.text}}", join="any"),
            node("neither", "{{child.digest}}", join="any"),
        )
        asked = await work(market, worker, answers)
        assert asked[-1].input["texts"] == ["YES "]
        assert await states(market, alice, graph) == {
            "bad": "failed",
            "child": "upstream_failed",
            "grandchild": "upstream_failed",
            "good": "succeeded",
            "either": "succeeded",
            "neither": "upstream_failed",
        }
        found = await look(market, alice, graph)
        assert (found.state, found.reason, found.reserved) == ("failed", "node_failed", "0")
        assert (await the_node(market, alice, graph, "bad")).reason == "job_failed"
        assert market.trading.total == 100 * AITBC
        assert sum(hold.state == "open" for hold in market.trading.holds.values()) == 0
        await require_sound(market)


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ({"value": "{{ask.text}}", "equals": "SPAM"}, True),
        ({"value": "{{ask.text}}", "differs": "SPAM"}, False),
        ({"value": "{{ask.text}}", "any_of": ["HAM", "SPAM"]}, True),
        ({"value": "{{ask.text}}", "contains": "PA"}, True),
        ({"value": "{{ask.text}}", "at_least": 1}, False),
        ({"value": "{{inputs.score}}", "at_least": 0.5, "at_most": 0.9}, True),
        ({"value": "{{inputs.score}}", "at_least": 0.8}, False),
        ({"value": "{{inputs.none}}"}, False),
    ],
)
async def test_a_node_is_skipped_with_its_children_where_its_condition_does_not_hold(
    owner: Target, condition: dict[str, Any], holds: bool
) -> None:
    async with ai_on(owner) as market:
        alice, worker = market.person(), Worker(market)
        inputs = {"score": 0.7, "none": []}
        graph = await begin(
            market,
            alice,
            chat("ask", "spam"),
            node("only", when=condition),
            node("after", after=["only"]),
            inputs=inputs,
        )
        await work(market, worker, answers)
        expected = "succeeded" if holds else "skipped"
        assert await states(market, alice, graph) == {"ask": "succeeded", "only": expected, "after": expected}
        assert (await look(market, alice, graph)).state == "succeeded"


async def test_a_condition_may_choose_among_items(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, worker = market.person(), Worker(market)
        await begin(
            market,
            alice,
            chat("each", "n{{item}}", for_each=[1, 5, 9], when={"value": "{{item}}", "at_least": 4}),
            node("all", input={"texts": "{{each.text}}"}),
        )
        asked = await work(market, worker, answers)
        assert asked[-1].input["texts"] == ["N5", "N9"]


async def test_a_failed_job_is_tried_again_after_a_pause_as_often_as_is_wished(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, worker = market.person(), Worker(market)
        graph = await begin(market, alice, node("flaky", retries=2), node("after", after=["flaky"]))
        for attempt in (1, 2):
            await work(market, worker, lambda _: None)
            found = await the_node(market, alice, graph, "flaky")
            assert (found.state, found.attempt, found.reason) == ("pending", attempt, "job_failed")
            assert await worker.claim() == []
            clock.move(timedelta(seconds=attempt))
        await work(market, worker)
        assert set((await states(market, alice, graph)).values()) == {"succeeded"}
        assert len(await jobs_of(market)) == 4
        await require_sound(market)


async def test_what_is_held_and_paid_never_passes_the_budget(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, worker = market.person(), Worker(market)
        graph = await begin(market, alice, node("each", for_each=list(range(20))), budget="0.12", parallel=50)
        assert sum(state == "running" for state in (await states(market, alice, graph)).values()) == 3  # the frame too
        found = await look(market, alice, graph)
        assert (found.reserved, found.spent) == ("0.1", "0")
        assert market.trading.available[alice.account] == 100 * AITBC - AITBC // 10
        await work(market, worker)
        found = await look(market, alice, graph)
        assert found.state == "succeeded"
        assert 0 < float(found.spent) < 0.12
        await require_sound(market)


async def test_a_node_fails_for_which_nothing_of_the_budget_will_ever_be_left(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, worker = market.person(), Worker(market)
        graph = await begin(market, alice, node("first"), node("second", after=["first"]), budget="0.05")
        await work(market, worker)
        found = await the_node(market, alice, graph, "second")
        assert (found.state, found.reason) == ("failed", "budget_exhausted")
        first = await rerun(market, alice, graph, budget="0.1")
        assert first.budget == "0.1"
        await work(market, worker)
        assert (await look(market, alice, graph)).state == "succeeded"
        await require_sound(market)


async def test_money_that_is_not_there_fails_a_node_and_leaves_nothing_held(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice = market.person(6_000_000)
        graph = await begin(market, alice, node("one"), node("two"))
        assert sorted((await states(market, alice, graph)).values()) == ["failed", "running"]
        failed = next(one for one in (await look(market, alice, graph)).nodes if one.state == "failed")
        assert failed.reason == "insufficient_funds"
        await require_sound(market)


async def test_a_paused_graph_begins_nothing_and_goes_on_where_it_was(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, worker = market.person(), Worker(market)
        graph = await begin(market, alice, node("one"), node("two", after=["one"]))
        for _ in range(2):
            assert (await market.ai.graphs.pause(alice, graph)).state == "paused"
        assert len(await work(market, worker)) == 1, "what was under way goes on"
        assert await states(market, alice, graph) == {"one": "succeeded", "two": "pending"}
        for _ in range(2):
            assert (await market.ai.graphs.resume(alice, graph)).state == "running"
        await work(market, worker)
        assert (await look(market, alice, graph)).state == "succeeded"
        with pytest.raises(GraphStateConflict):
            await market.ai.graphs.pause(alice, graph)


async def test_a_canceled_graph_stops_its_jobs_and_their_money_returns(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, worker = market.person(), Worker(market)
        graph = await begin(market, alice, node("each", for_each=[1, 2, 3]), node("after", after=["each"]))
        (lease,) = await worker.claim()
        assert (await market.ai.graphs.cancel(alice, graph)).state == "canceling"
        await market.ai.drive_graphs()
        found = await look(market, alice, graph)
        assert (found.state, found.reason, found.reserved) == ("canceled", "canceled_by_owner", "0")
        assert set((await states(market, alice, graph)).values()) == {"canceled"}
        assert market.trading.available[alice.account] == 100 * AITBC
        assert await market.state(lease.job) == "canceled"
        assert (await market.ai.graphs.cancel(alice, graph)).state == "canceled"
        await rerun(market, alice, graph)
        await work(market, worker)
        assert (await look(market, alice, graph)).state == "succeeded"
        await require_sound(market)


async def test_a_graph_is_run_again_from_what_failed_or_from_a_node_on(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, worker = market.person(), Worker(market)
        nodes = (chat("each", "{{item}}", for_each=["a", "fail", "c"]), node("all", input={"texts": "{{each.text}}"}))
        graph = await begin(market, alice, *nodes)
        await work(market, worker, answers)
        assert (await look(market, alice, graph)).state == "failed"
        spent = (await look(market, alice, graph)).spent
        await rerun(market, alice, graph)
        asked = await work(market, worker, lambda lease: says("B") if lease.kind == "chat" else answers(lease))
        assert [lease.kind for lease in asked] == ["chat", "embed"], "what succeeded is not done again"
        assert asked[-1].input["texts"] == ["A", "B", "C"]
        found = await look(market, alice, graph)
        assert found.state == "succeeded"
        assert float(found.spent) > float(spent)
        with pytest.raises(GraphStateConflict):
            await rerun(market, alice, graph)
        await rerun(market, alice, graph, "all")
        assert len(await work(market, worker, answers)) == 1
        await require_sound(market)


async def test_a_place_that_is_not_there_fails_its_node(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, worker = market.person(), Worker(market)
        graph = await begin(market, alice, node("one"), node("two", "{{one.output.nothing.here}}"))
        await work(market, worker)
        found = await the_node(market, alice, graph, "two")
        assert (found.state, found.reason) == ("failed", "input_missing")
        assert "one.output.nothing.here" in found.message


async def test_an_input_that_its_kind_refuses_fails_the_node_in_the_kinds_words(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice = market.person()
        graph = await begin(market, alice, node("one", input={"texts": []}), node("two", input={}, max_price=None))
        found = await look(market, alice, graph)
        assert {one.reason for one in found.nodes} == {"invalid_input"}
        assert found.state == "failed"
        assert await jobs_of(market) == []


async def test_what_is_past_its_retention_is_not_run_again(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, worker = market.person(), Worker(market)
        graph = await begin(market, alice, node("one", clocks={"retention_seconds": 0}))
        await work(market, worker)
        await market.ai.tidy()
        found = await look(market, alice, graph)
        assert (found.state, len(found.nodes)) == ("succeeded", 1)
        with pytest.raises(GraphNotKept):
            await rerun(market, alice, graph, "one")
        assert await market.sql("SELECT spec FROM ai.graphs WHERE spec IS NOT NULL") == []


async def test_a_graph_belongs_to_its_account_which_may_have_so_many(owner: Target) -> None:
    async with ai_on(owner, open_graphs_per_account=2) as market:
        alice, bob = market.person(), market.person()
        first = await begin(market, alice, node("one"))
        await begin(market, alice, node("one"))
        with pytest.raises(TooManyGraphs):
            await begin(market, alice, node("one"))
        await begin(market, bob, node("one"))
        with pytest.raises(GraphNotFound):
            await look(market, bob, first)
        with pytest.raises(GraphNotFound):
            await market.ai.graphs.cancel(bob, first)
        page = await market.ai.graphs.page(alice, states=["running"], schedule=None, after=None, limit=10)
        assert [one.id for one in page][-1] == first
        assert len(page) == 2


async def test_one_key_makes_one_graph(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice = market.person()
        onces = [a_key(alice, "the same") for _ in range(5)]
        made = await asyncio.gather(*(market.ai.graphs.run(alice, a_graph(node("one")), once) for once in onces))
        assert len({graph.id for graph in made}) == 1
        await asyncio.gather(*(market.ai.drive_graphs() for _ in range(5)))
        assert len(await jobs_of(market)) == 1


async def test_a_graph_is_driven_by_the_ends_of_its_jobs_and_can_be_followed(owner: Target) -> None:
    async with ai_on(owner, started=True) as market:
        alice, worker = market.person(), Worker(market)
        command = a_graph(node("one"), node("two", after=["one"]))
        graph = (await market.ai.graphs.run(alice, command, a_key(alice))).id
        events = await market.ai.graph_events.follow(alice, graph, None)

        async def serve() -> None:
            for _ in range(2):
                (lease,) = await worker.claim(wait_seconds=20)
                await worker.deliver(lease)

        miner = asyncio.create_task(serve())
        told = [event async for event in events]
        await miner
        assert told[-1].event == "state"
        assert told[-1].data["state"] == "succeeded"
        seen = [(event.data["name"], event.data["state"]) for event in told if event.event == "node"]
        assert seen.index(("one", "succeeded")) < seen.index(("two", "succeeded"))
        places = [int(event.id) for event in told if event.id is not None]
        assert places == sorted(places)
        again = [event async for event in await market.ai.graph_events.follow(alice, graph, told[-1].id)]
        assert again == []
        published = await market.sql("SELECT body FROM ai.outbox WHERE kind = 'ai.graph_changed' ORDER BY created_at")
        assert ['"running"' in row["body"] for row in published] == [True, False]
