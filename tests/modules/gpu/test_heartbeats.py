"""Whether a miner is there: heartbeats, silence, and whose silence it is."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import clock, ids
from aitbc.kernel.primitives.loop_lag import LoopLag
from aitbc.modules.gpu.api import MinerNotFound
from aitbc.modules.gpu.models.life import ALLOWED, Status, apply_heartbeat, drain, remove, silence
from aitbc.modules.gpu.service import liveness
from aitbc.modules.gpu.service.heartbeats import SendHeartbeat
from tests.modules.gpu.make import CPU, GPU, INVENTORY, Fleet, fleet_on
from tests.roles import ROLE_SCOPES


@pytest.fixture(scope="module")
async def own_watch(
    new_database: Callable[[], Target], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Fleet]:
    """An app without periodic tasks, whose watch goes round when a test says so."""
    async with fleet_on(new_database(), tmp_path_factory.mktemp("app"), periodic=False) as fleet:
        yield fleet


@pytest.fixture
def grace(own_watch: Fleet, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], Fleet]:
    """That app as it was just started, with such a grace for miners that are silent."""

    def with_grace(seconds: float) -> Fleet:
        changed = structs.replace(own_watch.gpu.liveness._settings, grace_seconds=seconds)
        monkeypatch.setattr(own_watch.gpu.liveness, "_settings", changed)
        monkeypatch.setattr(own_watch.gpu.liveness._loop_lag, "_pauses", deque())
        monkeypatch.setattr(LoopLag, "loop_frozen_seconds", 0.0)  # nothing ticks here: only `aitbc serve` runs it
        own_watch.gpu.liveness._watched_at, own_watch.gpu.liveness._grace_until = None, 0.0
        return own_watch

    return with_grace


async def told_of(fleet: Fleet, miner: str) -> list[tuple[int, str]]:
    """What gpu has told of a miner so far: versions and statuses, oldest first."""
    rows = await fleet.sql(
        "SELECT (body::json->>'version')::int AS version, body::json->>'status' AS status FROM gpu.outbox "
        "WHERE kind = 'gpu.miner_changed' AND body::json->>'miner' = $1 ORDER BY version",
        miner,
    )
    return [(row["version"], row["status"]) for row in rows]


async def test_a_first_heartbeat_brings_a_miner_online_and_tells_it_once(fleet: Fleet) -> None:
    owner = await fleet.owner()
    rig = await fleet.rig(owner, heartbeat=False)
    assert (await fleet.see(owner, rig))["status"] == "enrolled"
    assert await told_of(fleet, rig.id) == []
    answers = [await rig.heartbeat(slots_busy=busy) for busy in (0, 1, 2)]
    assert {answer["status"] for answer in answers} == {"online"}
    assert (answers[0]["message"], answers[0]["leases"], answers[0]["heartbeat_seconds"]) == (None, [], 10.0)
    seen = await fleet.see(owner, rig)
    assert (seen["status"], seen["slots_busy"]) == ("online", 2)
    assert seen["last_seen_at"] > seen["changed_at"]
    assert await told_of(fleet, rig.id) == [(2, "online")]


async def test_what_is_told_of_many_heartbeats_at_once_names_the_request_of_each(fleet: Fleet) -> None:
    owner = await fleet.owner()
    rigs = [await fleet.rig(owner, heartbeat=False) for _ in range(4)]
    sign = {"slots": 2, "slots_busy": 0}
    answers = await asyncio.gather(*(rig.call("POST", "/heartbeats", sign) for rig in rigs))
    told = await fleet.sql("SELECT body::json->>'miner' AS miner, request_id FROM gpu.outbox")
    mine = {row["miner"]: row["request_id"] for row in told if row["miner"] in {rig.id for rig in rigs}}
    requests = [answer.headers["x-request-id"] for answer in answers]
    assert mine == dict(zip((rig.id for rig in rigs), requests, strict=True))
    assert len(set(requests)) == 4


async def test_a_silent_miner_is_offline_after_thirty_seconds_and_comes_back(fleet: Fleet) -> None:
    owner = await fleet.owner()
    rig = await fleet.rig(owner)
    await fleet.later(29)
    assert (await fleet.see(owner, rig))["status"] == "online"
    await fleet.later(2)
    gone = await fleet.see(owner, rig)
    assert (gone["status"], gone["status_reason"]) == ("offline", "nothing was heard of the miner")
    assert (await rig.heartbeat())["status"] == "online"
    assert (await fleet.see(owner, rig))["status_reason"] is None
    assert await told_of(fleet, rig.id) == [(2, "online"), (3, "offline"), (4, "online")]
    steps = await fleet.sql(
        "SELECT status FROM gpu.status_changes WHERE miner = $1 ORDER BY id", ids.decode("mnr", rig.id)
    )
    assert [row["status"] for row in steps] == ["enrolled", "online", "offline", "online"]


async def test_a_miner_that_never_came_is_not_called_offline(fleet: Fleet) -> None:
    owner = await fleet.owner()
    rig = await fleet.rig(owner, heartbeat=False)
    await fleet.later(3600)
    assert (await fleet.see(owner, rig))["status"] == "enrolled"


async def test_a_poll_is_a_sign_of_life_of_one_that_was_offline(fleet: Fleet) -> None:
    owner = await fleet.owner()
    rig = await fleet.rig(owner)
    await fleet.later(60)
    assert (await fleet.see(owner, rig))["status"] == "offline"
    assert await rig.poll() == {"leases": [], "status": "online", "message": None}
    assert (await fleet.see(owner, rig))["status"] == "online"


async def test_a_good_bye_is_taken_at_once(fleet: Fleet) -> None:
    owner = await fleet.owner()
    rig = await fleet.rig(owner)
    answer = await rig.heartbeat(leaving=True)
    assert (answer["status"], answer["message"]) == ("offline", "the miner was stopped")
    assert (await rig.heartbeat())["status"] == "online"


async def test_a_miner_that_says_why_it_cannot_work_drains_until_it_says_nothing(fleet: Fleet) -> None:
    owner = await fleet.owner()
    rig = await fleet.rig(owner)
    answer = await rig.heartbeat(pause="the disk is full")
    assert (answer["status"], answer["message"]) == ("draining", "the disk is full")
    assert await rig.poll() == {"leases": [], "status": "draining", "message": "the disk is full"}
    assert (await rig.heartbeat(pause="the GPU is gone"))["message"] == "the GPU is gone"
    assert (await rig.heartbeat())["status"] == "online"


async def test_an_owners_drain_outlives_silence_and_reasons_of_the_miner(fleet: Fleet) -> None:
    owner = await fleet.owner()
    rig = await fleet.rig(owner)
    assert (await owner.post(f"{GPU}/miners/{rig.id}/drain", {"message": "new fans"})).json()["status"] == "draining"
    assert (await rig.heartbeat(pause="hot"))["message"] == "new fans"
    await fleet.later(60)
    assert (await fleet.see(owner, rig))["status"] == "offline"
    back = await rig.heartbeat()
    assert (back["status"], back["message"]) == ("draining", "new fans")
    assert (await owner.post(f"{GPU}/miners/{rig.id}/resume")).json()["status"] == "online"


async def test_telemetry_replaces_the_inventory_and_its_absence_leaves_it(fleet: Fleet) -> None:
    owner = await fleet.owner()
    rig = await fleet.rig(owner)
    await rig.heartbeat(telemetry=INVENTORY | {"devices": [CPU | {"utilization": 12.5, "memory_used_mib": 100}]})
    await rig.heartbeat()
    (device,) = (await fleet.see(owner, rig))["inventory"]["devices"]
    assert (device["utilization"], device["memory_used_mib"], device["power_watts"]) == (12.5, 100, None)
    assert await told_of(fleet, rig.id) == [(2, "online")], "readings are no news for matching"


async def test_other_slots_are_news_for_matching(fleet: Fleet) -> None:
    owner = await fleet.owner()
    rig = await fleet.rig(owner)
    await rig.heartbeat(slots=5)
    assert (await fleet.see(owner, rig))["slots"] == 5
    assert await told_of(fleet, rig.id) == [(2, "online"), (3, "online")]


async def test_many_heartbeats_at_once_each_find_their_miner(fleet: Fleet) -> None:
    owner = await fleet.owner()
    rigs = [await fleet.rig(owner, heartbeat=False) for _ in range(12)]
    answers = await asyncio.gather(
        *(rig.heartbeat(slots_busy=number % 3) for number, rig in enumerate(rigs) for _ in "ab")
    )
    assert {answer["status"] for answer in answers} == {"online"}
    for number, rig in enumerate(rigs):
        assert (await fleet.see(owner, rig))["slots_busy"] == number % 3
        assert await told_of(fleet, rig.id) == [(2, "online")]


async def test_a_miner_that_is_unknown_among_many_is_refused_alone(fleet: Fleet) -> None:
    rig = await fleet.rig(await fleet.owner())
    stranger = Principal(ids.new_id("acct"), ids.new_id("key"), "miner", ROLE_SCOPES["miner"], ids.new_id("mnr"))
    sign = SendHeartbeat(slots=1, slots_busy=0)
    found = await asyncio.gather(rig.heartbeat(), fleet.gpu.heartbeats.receive(stranger, sign), return_exceptions=True)
    assert isinstance(found[0], dict)
    assert isinstance(found[1], MinerNotFound)


async def test_after_a_start_nobody_is_called_silent_before_the_grace_is_over(
    grace: Callable[[float], Fleet], monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = grace(30.0)
    stopwatch = SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(liveness, "elapsed", lambda: stopwatch.seconds)
    owner = await fleet.owner()
    rig = await fleet.rig(owner)
    await fleet.later(120)  # its first round, as in a process that was just started
    for moved, status in ((9, "online"), (9, "online"), (9, "online"), (4, "offline")):
        stopwatch.seconds += moved
        await fleet.gpu.watch()
        assert (await fleet.see(owner, rig))["status"] == status


async def test_a_heartbeat_of_a_clock_that_was_ahead_counts_as_of_now(grace: Callable[[float], Fleet]) -> None:
    fleet = grace(0.0)
    owner = await fleet.owner()
    rig = await fleet.rig(owner)
    clock.move(timedelta(days=1))
    await rig.heartbeat()
    clock.move(timedelta(days=-1))
    fleet.gpu.liveness._clock_checked_at = float("-inf")  # half a minute has passed
    await fleet.gpu.watch()
    await fleet.later(120)
    await fleet.gpu.watch()
    assert (await fleet.see(owner, rig))["status"] == "offline"


async def test_a_server_that_was_frozen_blames_nobody(
    grace: Callable[[float], Fleet], monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = grace(30.0)
    owner = await fleet.owner()
    rigs = [await fleet.rig(owner) for _ in range(5)]
    stopwatch = SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(liveness, "elapsed", lambda: stopwatch.seconds)
    fleet.gpu.liveness._watched_at, fleet.gpu.liveness._grace_until = 995.0, 0.0
    await fleet.gpu.watch()
    stopwatch.seconds += 120  # two minutes pass in which this process neither hears nor watches
    await fleet.later(120)
    for moved in (5, 10, 10, 4):
        stopwatch.seconds += moved
        await fleet.gpu.watch()
        assert {(await fleet.see(owner, rig))["status"] for rig in rigs} == {"online"}
    for rig in rigs[1:]:
        await rig.heartbeat()
    stopwatch.seconds += 5
    await fleet.gpu.watch()
    statuses = [(await fleet.see(owner, rig))["status"] for rig in rigs]
    assert statuses == ["offline"] + ["online"] * 4, "once the grace is over, silence counts again"


async def test_a_pause_of_the_event_loop_is_noticed_too(grace: Callable[[float], Fleet]) -> None:
    fleet = grace(30.0)
    owner = await fleet.owner()
    rig = await fleet.rig(owner)
    moment = clock.elapsed()
    fleet.gpu.liveness._watched_at, fleet.gpu.liveness._grace_until = moment, 0.0
    fleet.gpu.liveness._loop_lag._pauses.append((moment, 60.0))
    await fleet.later(60)
    assert (await fleet.see(owner, rig))["status"] == "online"


async def test_while_the_database_is_away_the_round_does_not_count(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away() -> int:
        raise ConnectionError

    fleet.gpu.liveness._watched_at = watched = clock.elapsed()
    monkeypatch.setattr(fleet.gpu.liveness, "mark_silent", away)
    with pytest.raises(ConnectionError):
        await fleet.gpu.watch()
    assert fleet.gpu.liveness._watched_at == watched


async def test_more_silent_miners_than_one_page_holds_are_all_found(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "PAGE", 3)
    owner = await fleet.owner()
    rigs = [await fleet.rig(owner) for _ in range(7)]
    clock.move(timedelta(seconds=31))
    await fleet.gpu.liveness.mark_silent()
    assert {(await fleet.see(owner, rig))["status"] for rig in rigs} == {"offline"}


async def test_what_is_told_reaches_the_picture_of_the_fleet(fleet: Fleet) -> None:
    owner = await fleet.owner()
    rig = await fleet.rig(owner, region="mars", programs=["wc"])
    for _ in range(600):
        fleets = {miner.id: miner for miner in await fleet.stage.service("ai").fleet_view.miners()}
        if rig.id in fleets:
            break
        await asyncio.sleep(0.05)
    seen = fleets[rig.id]
    assert (seen.status, seen.kinds, seen.region, seen.slots, seen.programs) == (
        "online",
        ("embed",),
        "mars",
        2,
        ("wc",),
    )


def a_miner() -> Any:
    """What the rules see of a miner."""
    fields = {"status": "enrolled", "status_reason": None, "drain_message": None, "pause_reason": None}
    return SimpleNamespace(**fields, blocked_reason=None, slots=1, version=1)


STEPS = st.one_of(
    st.builds(
        lambda slots, pause, leaving: ("heartbeat", slots, pause, leaving),
        st.integers(1, 3),
        st.none() | st.just("hot"),
        st.booleans(),
    ),
    st.sampled_from([("silence",), ("remove",), ("drain", None), ("drain", "fans"), ("drain", "dust")]),
)


@given(st.lists(STEPS, max_size=30))
def test_whatever_happens_a_miner_takes_only_allowed_steps_and_every_news_has_a_new_version(steps: list[Any]) -> None:
    miner = a_miner()
    for step in steps:
        before, version = Status(miner.status), miner.version
        changed = _do(miner, step)
        after = Status(miner.status)
        assert after == before or after in ALLOWED[before]
        assert (miner.version > version) == changed
        if before is Status.REMOVED:
            assert (after, changed) == (Status.REMOVED, False)
        if after is Status.ONLINE:
            assert miner.drain_message is None
            assert miner.pause_reason is None


def _do(miner: Any, step: Any) -> bool:
    match step:
        case ("heartbeat", slots, pause, leaving):
            return apply_heartbeat(miner, slots=slots, pause=pause, leaving=leaving)
        case ("silence",):
            return silence(miner)
        case ("remove",):
            return remove(miner, "gone")
        case ("drain", message):
            return miner.status != Status.REMOVED and drain(miner, message)
    raise AssertionError(step)
