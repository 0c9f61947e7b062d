"""Schedules: due at the right times in both turns of daylight saving, begun once each, and made up for as is wished."""

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import msgspec
import pytest

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import clock
from aitbc.kernel.primitives.errors import AppError
from aitbc.modules.ai.models.graphs.check import GraphBudgetTooSmall, GraphInvalid
from aitbc.modules.ai.models.graphs.cron import due_times
from aitbc.modules.ai.models.graphs.schedules import CreateSchedule, Schedule
from aitbc.modules.ai.service.graphs.schedules import ScheduleEnded, ScheduleInvalid, ScheduleNotFound
from tests.modules.ai.graphs.make import node, work
from tests.modules.ai.make import Keys, Market, Worker, a_key, ai_on

GRAPH = {"nodes": [node("one", "at {{inputs.scheduled_at}}")], "budget": "0.1"}


def berlin(*when: int) -> datetime:
    """A moment in UTC, to look on from."""
    return datetime(*when, tzinfo=UTC)  # type: ignore[misc,arg-type]


@pytest.mark.parametrize(
    ("cron", "after", "times"),
    [
        # Clocks are put forward on 29 March 2026: from 02:00 to 03:00, at 01:00 UTC.
        ("30 2 * * *", berlin(2026, 3, 28, 12), ["03-29T01:00", "03-30T00:30"]),
        ("30 1 * * *", berlin(2026, 3, 28, 12), ["03-29T00:30", "03-29T23:30"]),
        ("30 * * * *", berlin(2026, 3, 29, 0), ["03-29T00:30", "03-29T01:30", "03-29T02:30"]),
        ("*/30 * * * *", berlin(2026, 3, 29, 0, 15), ["03-29T00:30", "03-29T01:00", "03-29T01:30"]),
        # They are put back on 25 October 2026: from 03:00 to 02:00, at 01:00 UTC.
        ("30 2 * * *", berlin(2026, 10, 24, 12), ["10-25T00:30", "10-26T01:30"]),
        ("30 3 * * *", berlin(2026, 10, 24, 12), ["10-25T02:30", "10-26T02:30"]),
        ("30 * * * *", berlin(2026, 10, 25, 0), ["10-25T00:30", "10-25T01:30", "10-25T02:30"]),
        ("0 0 1 * *", berlin(2026, 10, 24, 12), ["10-31T23:00", "11-30T23:00"]),
    ],
)
def test_both_turns_of_daylight_saving(cron: str, after: datetime, times: list[str]) -> None:
    found = islice(due_times(cron, "Europe/Berlin", after), len(times))
    assert [time.strftime("%m-%dT%H:%M") for time in found] == times


async def scheduled(market: Market, who: Principal, **fields: Any) -> Schedule:
    """A schedule; hourly where nothing else is said."""
    command = msgspec.convert({"cron": "0 * * * *", "graph": GRAPH} | fields, CreateSchedule)
    return await market.ai.schedules.create(who, command, a_key(who))


async def begun(market: Market, schedule: str) -> list[str]:
    """The times for which it has begun something, in their order."""
    rows = await market.sql("SELECT spec::jsonb->'inputs'->>'scheduled_at' AS at FROM ai.graphs ORDER BY id")
    return [row["at"] for row in rows]


def until(moment: datetime, seconds: float = 1) -> None:
    """Let time pass until shortly after a moment."""
    clock.move(moment - clock.now() + timedelta(seconds=seconds))


async def test_each_time_is_begun_once_however_many_look(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, worker = market.person(), Worker(market)
        made = await scheduled(market, alice)
        assert made.next_at is not None and (made.next_at.minute, made.state) == (0, "active")
        await market.ai.begin_schedules()
        assert await begun(market, made.id) == []
        until(made.next_at)
        await asyncio.gather(*(market.ai.begin_schedules() for _ in range(5)))
        assert await begun(market, made.id) == [made.next_at.isoformat()]
        (lease,) = await work(market, worker)
        assert lease.input["texts"] == [f"at {made.next_at.isoformat()}"]
        found = await market.ai.schedules.get(alice, made.id)
        assert (found.runs, found.last_at, found.next_at) == (1, made.next_at, made.next_at + timedelta(hours=1))
        (graph,) = await market.ai.graphs.page(alice, states=[], schedule=made.id, after=None, limit=5)
        assert graph.id == found.last_graph


@pytest.mark.parametrize(("missed", "hours"), [("skip", []), ("once", [3]), ("all", [0, 1, 2, 3])])
async def test_what_was_missed_is_made_up_for_as_is_wished(owner: Target, missed: str, hours: list[int]) -> None:
    async with ai_on(owner) as market:
        made = await scheduled(market, market.person(), missed=missed)
        assert made.next_at is not None
        until(made.next_at, 3 * 3600 + 300)
        for _ in range(3):
            await market.ai.begin_schedules()
        first = made.next_at
        expected = [first + timedelta(hours=hour) for hour in hours]
        assert await begun(market, made.id) == [time.isoformat() for time in expected]
        until(first, 4 * 3600 + 5)
        await market.ai.begin_schedules()
        assert (await begun(market, made.id))[-1] == (first + timedelta(hours=4)).isoformat()


async def test_a_schedule_is_paused_resumed_and_removed(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice, bob = market.person(), market.person()
        made = await scheduled(
            market,
            alice,
            missed="all",
            job={"kind": "embed", "input": {"texts": ["a"]}, "max_price": "0.05"},
            graph=None,
        )
        assert made.graph.nodes[0].name == "job"
        assert made.next_at is not None
        assert (await market.ai.schedules.pause(alice, made.id)).next_at is None
        until(made.next_at, 7200)
        await market.ai.begin_schedules()
        resumed = await market.ai.schedules.resume(alice, made.id)
        assert resumed.next_at is not None and resumed.next_at > clock.now()
        with pytest.raises(ScheduleNotFound):
            await market.ai.schedules.remove(bob, made.id)
        for _ in range(2):
            assert (await market.ai.schedules.remove(alice, made.id)).state == "ended"
        with pytest.raises(ScheduleEnded):
            await market.ai.schedules.resume(alice, made.id)
        until(resumed.next_at, 7200)
        await market.ai.begin_schedules()
        assert await begun(market, made.id) == []
        assert await market.ai.schedules.page(alice, after=None, limit=10) == []


async def test_a_schedule_ends_with_the_key_that_made_it(owner: Target) -> None:
    async with ai_on(owner) as market:
        alice = market.person()
        made = await scheduled(market, alice)
        assert made.next_at is not None
        Keys.revoked.add(alice.key)
        until(made.next_at)
        await market.ai.begin_schedules()
        found = await market.ai.schedules.get(alice, made.id)
        assert (found.state, found.problem) == ("ended", "key_revoked")
        assert await begun(market, made.id) == []


async def test_an_account_without_room_begins_no_more_graphs(owner: Target) -> None:
    async with ai_on(owner, open_graphs_per_account=1) as market:
        alice, worker = market.person(), Worker(market)
        made = await scheduled(market, alice, missed="all")
        assert made.next_at is not None
        until(made.next_at, 3700)
        await market.ai.begin_schedules()
        assert (await market.ai.schedules.get(alice, made.id)).problem == "too_many_graphs"
        await work(market, worker)
        await market.ai.begin_schedules()
        assert len(await begun(market, made.id)) == 2


@pytest.mark.parametrize(
    ("fields", "error", "pointer"),
    [
        ({"cron": "0 0 * *"}, ScheduleInvalid, "/cron"),
        ({"cron": "* * * * * *"}, ScheduleInvalid, "/cron"),
        ({"cron": "61 * * * *"}, ScheduleInvalid, "/cron"),
        ({"cron": "0 0 30 2 *"}, ScheduleInvalid, "/cron"),
        ({"time_zone": "Europe/Atlantis"}, ScheduleInvalid, "/time_zone"),
        ({"graph": None}, ScheduleInvalid, "/graph"),
        ({"graph": {"nodes": [node("a", after=["b"])], "budget": "1"}}, GraphInvalid, "/graph/nodes/0/after"),
        ({"graph": {"nodes": [node("a")], "budget": "0.01"}}, GraphBudgetTooSmall, "/graph/budget"),
        (
            {"graph": None, "job": {"kind": "paint", "input": {}, "max_price": "1"}},
            GraphInvalid,
            "/job/kind",
        ),
    ],
)
async def test_what_cannot_be_kept_is_refused(
    owner: Target, fields: dict[str, Any], error: type[AppError], pointer: str
) -> None:
    async with ai_on(owner) as market:
        with pytest.raises(error) as refused:
            await scheduled(market, market.person(), **fields)
        assert [field.pointer for field in refused.value.fields] == [pointer]
        assert await market.sql("SELECT id FROM ai.schedules") == []
