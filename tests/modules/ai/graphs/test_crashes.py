"""Graphs whose process dies anywhere: each node is done once, paid once, and no money is left behind."""

import asyncio
from datetime import timedelta

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import clock
from aitbc.kernel.primitives.errors import AppError
from aitbc.modules.ai.models.graphs.life import OVER
from tests.modules.ai.deaths import Killed, Life, pay_by_event
from tests.modules.ai.graphs.make import a_graph, jobs_of, look, node, require_sound
from tests.modules.ai.make import AITBC, POOLS, Market, Worker, a_key, ai_on, embedding
from tests.modules.trading.fake import FakeTrading
from tests.scale import scaled

STRIDE = scaled(5, 1)
GRAPH = a_graph(node("each", "{{item}}", for_each=["a", "b"]), node("all", input={"texts": "{{each.digest}}"}))


async def serve(market: Market, who: Principal, worker: Worker, graph: str) -> None:
    """Drive the graph on and do its work until it is over."""
    for _ in range(20):
        await market.ai.drive_graphs()
        if (await look(market, who, graph)).state in OVER:
            return
        for lease in [*await market.ai.leases_of(worker.id), *await worker.claim(8)]:
            await worker.deliver(lease, embedding(len(lease.input["texts"])))
    raise AssertionError("it never ends")


async def life(
    owner: Target, trading: FakeTrading, who: Principal, miner: Worker, graph: str, points: int | None
) -> Life:
    """One process that serves the graph until that is over, or until it dies."""
    here = Life(points)
    async with ai_on(owner, trading=trading) as market:
        miner.market = market
        with here.of(market):
            try:
                await serve(market, who, miner, graph)
            except (Killed, AppError):
                assert points is not None
    return here


async def begun(owner: Target, trading: FakeTrading) -> tuple[Principal, Worker, str]:
    """Somebody with a graph."""
    async with ai_on(owner, trading=trading) as market:
        who, miner = market.person(), Worker(market)
        return who, miner, (await market.ai.graphs.run(who, GRAPH, a_key(who))).id


async def audit(owner: Target, trading: FakeTrading, who: Principal, graph: str) -> None:
    """Every node was done and paid once, and nothing is held any more, but what a reconciliation gives back."""
    async with ai_on(owner, trading=trading) as market:
        clock.move(timedelta(seconds=61))
        await market.ai.reconcile_holds()
        await pay_by_event(market)
        found = await look(market, who, graph)
        assert (found.state, found.reserved) == ("succeeded", "0"), found.nodes
        jobs = await jobs_of(market)
        assert len(jobs) == 3, "each node's job, once"
        assert {one.job for one in found.nodes} - {None} == set(jobs)
        assert not [hold for hold in trading.holds.values() if hold.state == "open"]
        assert trading.available[who.account] == 100 * AITBC - round(float(found.spent) * AITBC)
        await require_sound(market)


async def test_a_graph_goes_on_from_wherever_its_process_died(owner: Target) -> None:
    trading = FakeTrading()
    who, miner, graph = await begun(owner, trading)
    points = (await life(owner, trading, who, miner, graph, None)).passed
    await audit(owner, trading, who, graph)
    assert points > 40
    for death in range(1, points, STRIDE):
        await _anew(owner)
        trading = FakeTrading()
        who, miner, graph = await begun(owner, trading)
        died = await life(owner, trading, who, miner, graph, death)
        assert died.left is not None
        clock.move(timedelta(seconds=6))  # what had begun and has no job is submitted again
        await life(owner, trading, who, miner, graph, None)
        await audit(owner, trading, who, graph)


async def test_two_processes_that_drive_the_same_graph_do_each_node_once(owner: Target) -> None:
    trading = FakeTrading()
    who, miner, graph = await begun(owner, trading)
    async with ai_on(owner, trading=trading) as one, ai_on(owner, trading=trading) as other:
        miner.market = one
        for _ in range(20):
            await asyncio.gather(*(ai.drive(graph) for ai in (one.ai.graph_driver, other.ai.graph_driver) * 2))
            if (await look(one, who, graph)).state in OVER:
                break
            for lease in await miner.claim(8):
                await miner.deliver(lease, embedding(len(lease.input["texts"])))
    await audit(owner, trading, who, graph)


async def test_a_submission_of_which_nothing_is_known_any_more_is_not_repeated(owner: Target) -> None:
    trading = FakeTrading()
    who, _, graph = await begun(owner, trading)
    async with ai_on(owner, trading=trading) as market:
        trading.closed = True
        await market.ai.drive_graphs()
        clock.move(timedelta(hours=24))
        trading.closed = False
        await market.ai.drive_graphs()
        found = await look(market, who, graph)
        assert {one.reason for one in found.nodes if one.index is not None} == {"submission_unknown"}
        assert found.state == "failed"
        assert await jobs_of(market) == []


async def _anew(owner: Target) -> None:
    tables = ("graphs", "graph_nodes", "jobs", "attempts", "job_counts", "answers", "flows", "outbox")
    await POOLS.sql(owner, f"TRUNCATE {', '.join(f'ai.{name}' for name in tables)}")
