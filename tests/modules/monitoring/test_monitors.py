"""Monitors: what they are judged to be, what silences them, and that none of them delays another."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.platform import Finding, InstalledPart
from aitbc.kernel.primitives import clock, ids
from aitbc.kernel.primitives.clock import now
from aitbc.modules.monitoring.models.declarations import WantedMonitor
from aitbc.modules.monitoring.models.standing import BADNESS, DOWN, UNKNOWN, UP, Look, Standing, worst
from tests.modules.monitoring.make import Watched, a_place, fresh_name

AT = datetime(2030, 1, 1, tzinfo=UTC)


def stood(*seen: str, fall: int = 3, rise: int = 2) -> str:
    """The state after these looks."""
    standing = Standing(since=AT)
    for number, state in enumerate(seen):
        standing = standing.after(state, AT + timedelta(minutes=number), fall=fall, rise=rise)
    return standing.state


def test_a_look_is_up_only_with_success_in_time() -> None:
    assert Look(at=AT, seconds=0.1, works=True).state(1.0) == "up"
    assert Look(at=AT, seconds=1.1, works=True).state(1.0) == "degraded"
    assert Look(at=AT, seconds=0.1, works=True, reason="its events are late").state(1.0) == "degraded"
    assert Look(at=AT, seconds=0.1, works=False).state(None) == "down"


def test_a_state_falls_and_rises_only_after_enough_looks() -> None:
    assert stood() == "unknown"
    assert stood("down") == "down"  # from unknown the first look decides
    assert stood("up", "down", "down") == "up"
    assert stood("up", "down", "down", "down") == "down"
    assert stood("up", "down", "degraded", "down") == "degraded"  # the mildest of what was worse
    assert stood("up", "down", "up", "down", "down") == "up"
    assert stood("down", "up") == "down"
    assert stood("down", "up", "up") == "up"


@given(st.lists(st.sampled_from(["up", "degraded", "down"]), min_size=1, max_size=40), st.integers(1, 5))
def test_a_state_is_always_one_that_was_seen_lately(seen: list[str], patience: int) -> None:
    state = stood(*seen, fall=patience, rise=patience)
    assert state in seen
    enough = 2 * patience - 1  # what came before may have led to a state between, from which it is counted anew
    if len(set(seen[-enough:])) == 1 and len(seen) >= enough:
        assert state == seen[-1]


def test_the_worst_counts_and_what_is_unknown_is_not_up() -> None:
    assert worst([UP, UNKNOWN]) == UNKNOWN
    assert worst([UP, UNKNOWN, DOWN]) == DOWN
    assert worst([UP, "maintenance"]) == UP
    assert worst([]) == UNKNOWN
    assert BADNESS[UNKNOWN] > BADNESS["degraded"]


async def test_every_part_of_the_installation_is_watched_with_true_times(watched: Watched) -> None:
    await watched.step()
    found = {one["name"]: one for one in (await watched.get("monitors"))["data"]}
    parts = {"process/main", *(f"module/{name}" for name in ("monitoring", "gpu", "ai", "trading"))}
    assert parts | {"database/kernel", "database/ai", "miners", "declarations"} <= found.keys()
    for name in parts | {"database/ai"}:
        assert (found[name]["state"], found[name]["origin"]) == ("up", "built_in"), found[name]
        assert 0 < found[name]["response_seconds"] < 5
        assert abs(datetime.fromisoformat(found[name]["checked_at"]) - now()) < timedelta(seconds=60)
    assert (found["miners"]["state"], found["miners"]["reason"]) == ("degraded", "no miner is enrolled")
    assert found["module/ai"]["parents"] == ["database/ai"]


async def test_a_url_and_an_address_are_watched_and_fall_after_three_looks(watched: Watched) -> None:
    async with a_place() as place:
        site, port = fresh_name("site"), fresh_name("port")
        await watched.post("monitors", {"name": site, "kind": "http", "target": place.url, "interval_seconds": 10})
        await watched.post(
            "monitors",
            {"name": port, "kind": "tcp", "target": f"127.0.0.1:{place.port}", "interval_seconds": 10, "fall": 1},
        )
        await watched.step()
        assert [(await watched.monitor(name)).state for name in (site, port)] == ["up", "up"]
        place.status = 503
        await watched.step(10)
        seen = await watched.monitor(site)
        assert (seen.state, seen.reason) == ("up", "it answers 503")
        await watched.step(10)
        await watched.step(10)
        assert (await watched.monitor(site)).state == "down"
        changes = (await watched.get("changes", monitor=site))["data"]
        assert [(one["before"], one["after"]) for one in changes] == [("up", "down"), ("unknown", "up")]
    await watched.step(10)
    assert (await watched.monitor(port)).state == "down"


async def test_a_url_that_hangs_and_one_that_fails_delay_nobody(watched: Watched) -> None:
    async with a_place() as hanging, a_place() as well:
        hanging.status = None
        names = [fresh_name("hangs") for _ in range(20)]
        for name in names:
            wanted = WantedMonitor(name=name, kind="http", target=hanging.url, timeout_seconds=60)
            await watched.service.monitor_registry.create(watched.admin.principal, wanted, IdempotencyKey.NONE)
        fine = fresh_name("fine")
        await watched.post("monitors", {"name": fine, "kind": "http", "target": well.url})
        before = time.monotonic()
        await watched.service.look()  # waits for nobody
        for _ in range(200):
            if (await watched.monitor(fine)).state == "up":
                break
            await asyncio.sleep(0.05)
            await watched.service.watch.tick()
        assert (await watched.monitor(fine)).state == "up"
        assert time.monotonic() - before < 30  # the others take a minute
        assert (await watched.monitor(names[0])).state == "unknown"
        await watched.service.watch.stop()


async def test_what_is_pushed_is_up_until_it_is_late(watched: Watched) -> None:
    name = fresh_name("job")
    made = await watched.post(
        "monitors", {"name": name, "kind": "push", "interval_seconds": 60, "timeout_seconds": 10, "fall": 1, "rise": 1}
    )
    assert "push_token" not in await watched.get(f"monitors/{made['id']}")
    async with watched.app.client() as anybody:
        for body, works in (({"works": True}, True), ({"works": False, "reason": "disk full"}, False)):
            told = await anybody.post("/api/v1/monitoring/push", json={"token": made["push_token"], **body})
            assert (told.status_code, told.json()) == (200, {"monitor": name, "works": works})
            await watched.step(1)
            assert (await watched.monitor(name)).state == ("up" if works else "down")
        wrong = await anybody.post("/api/v1/monitoring/push", json={"token": "x" * 32})
        assert (wrong.status_code, wrong.json()["code"]) == (404, "push_refused")
        await anybody.post("/api/v1/monitoring/push", json={"token": made["push_token"]})
    await watched.step(1)
    assert (await watched.monitor(name)).state == "up"
    await watched.step(71)
    late = await watched.monitor(name)
    assert late.state == "down" and late.reason.startswith("nothing was pushed since")


async def test_what_was_not_looked_at_for_long_is_unknown(watched: Watched) -> None:
    await watched.step()
    clock.move(timedelta(minutes=10))
    assert (await watched.monitor("module/ai")).state == "unknown"
    assert (await watched.get("overview"))["state"] != "up"
    await watched.step()
    assert (await watched.monitor("module/ai")).state == "up"


async def test_a_parent_that_is_down_silences_its_children_and_theirs(watched: Watched) -> None:
    async with a_place() as above, a_place() as below:
        names = [fresh_name(word) for word in ("above", "middle", "below")]
        parents = {names[1]: [names[0]], names[2]: [names[1]], names[0]: []}
        for name, place in zip(names, (above, below, below), strict=True):
            body = {"name": name, "kind": "http", "target": place.url, "parents": parents[name], "fall": 1, "rise": 1}
            await watched.post("monitors", {**body, "interval_seconds": 10})
        await watched.step()
        assert (await watched.monitor(names[2])).silenced_by is None
        above.status = below.status = 500
        await watched.step(10)
        assert (await watched.monitor(names[0])).silenced_by is None
        assert (await watched.monitor(names[1])).silenced_by == names[0]
        assert (await watched.monitor(names[2])).silenced_by in names[:2]


async def test_maintenance_hides_what_is_down_and_does_not_count(watched: Watched) -> None:
    async with a_place() as place:
        name = fresh_name("disk")
        made = await watched.post(
            "monitors", {"name": name, "kind": "http", "target": place.url, "interval_seconds": 10, "fall": 1}
        )
        await watched.step()
        window = {
            "title": "New disks",
            "starts_at": now().isoformat(),
            "ends_at": (now() + timedelta(hours=1)).isoformat(),
            "monitors": [name],
        }
        planned = await watched.post("maintenance", window)
        place.status = 500
        await watched.step(10)
        assert (await watched.monitor(name)).state == "maintenance"
        (day,) = (await watched.get(f"monitors/{made['id']}/history", by="day"))["data"]
        assert (day["up"], day["down"], day["maintenance"], day["uptime"]) == (1, 0, 1, 1.0)
        canceled = await watched.post(f"maintenance/{planned['id']}/cancel", status=200)
        assert canceled["state"] == "canceled"
        assert canceled == await watched.post(f"maintenance/{planned['id']}/cancel", status=200)
        assert (await watched.monitor(name)).state == "down"


async def test_history_is_kept_by_minute_hour_and_day_and_bounded(watched: Watched) -> None:
    async with a_place() as place:
        made = await watched.post(
            "monitors",
            {"name": fresh_name("long"), "kind": "http", "target": place.url, "interval_seconds": 60},
        )
        for _ in range(3):
            await watched.step(60)
        path = f"monitors/{made['id']}/history"
        minutes = (await watched.get(path, by="minute"))["data"]
        assert len(minutes) == 3 and all(point["up"] == 1 for point in minutes)
        assert all(0 < point["average_seconds"] <= point["longest_seconds"] for point in minutes)
        assert sum(point["up"] for point in (await watched.get(path, by="day"))["data"]) == 3
        await watched.step(25 * 3600)
        await watched.service.recorder.purge()
        async with watched.service.db.raw() as connection:
            kept = await connection.fetch(
                "SELECT width, count(*) FROM monitoring.rollups WHERE monitor = $1 GROUP BY 1 ORDER BY 1",
                ids.decode("mon", made["id"]),
            )
        assert tuple(kept[0]) == (60, 1)
        assert {row["width"] for row in kept} == {60, 3600, 86400}


async def test_a_module_whose_events_are_late_is_degraded(watched: Watched) -> None:
    looks = watched.app.runtime.installed
    found = Finding(works=False)
    async with watched.service.db.raw(writes=True) as connection:
        for _ in range(100):  # the relay may take an event before it is looked at
            await connection.execute(
                "INSERT INTO monitoring.outbox (id, kind, body, created_at, due_at, attempts) "
                "VALUES (gen_random_uuid(), 'x.y', '{}', $1, $1, 0)",
                now() - timedelta(minutes=5),
            )
            found = await looks.look(InstalledPart("module", "monitoring"))
            await connection.execute("DELETE FROM monitoring.outbox WHERE kind = 'x.y'")
            if found.reason:
                break
    assert found.works and "late" in found.reason
    assert await looks.look(InstalledPart("module", "monitoring")) == Finding(works=True)
    assert not (await looks.look(InstalledPart("module", "nothing"))).works


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"kind": "http", "target": "ftp://example.org"}, "/url"),
        ({"kind": "http", "target": "http://user:secret@example.org/"}, "/url"),
        ({"kind": "tcp", "target": "example.org"}, "/target"),
        ({"kind": "tcp", "target": "example.org:99999"}, "/target"),
        ({"kind": "push", "target": "x"}, "/target"),
        ({"kind": "push", "parents": ["bad"]}, "/parents"),
        ({"kind": "push", "interval_seconds": 5, "timeout_seconds": 6}, "/timeout_seconds"),
    ],
)
async def test_what_cannot_be_watched_is_refused(watched: Watched, body: dict[str, object], field: str) -> None:
    answer = await watched.admin.post("/api/v1/monitoring/monitors", {"name": "bad", **body})
    assert answer.status_code == 422, answer.text
    assert [one["pointer"] for one in answer.json()["errors"]] == [field]


async def test_only_what_the_api_declared_is_removed_by_it(watched: Watched) -> None:
    await watched.step()
    built_in = await watched.monitor("module/ai")
    refused = await watched.admin.client.delete(f"/api/v1/monitoring/monitors/{built_in.id}")
    assert (refused.status_code, refused.json()["code"]) == (409, "declared_elsewhere")
    made = await watched.post("monitors", {"name": fresh_name("gone"), "kind": "push"})
    again = await watched.admin.post("/api/v1/monitoring/monitors", {"name": made["name"], "kind": "push"})
    assert (again.status_code, again.json()["code"]) == (409, "monitor_exists")
    path = f"/api/v1/monitoring/monitors/{made['id']}"
    assert (await watched.admin.client.delete(path)).status_code == 200
    assert (await watched.admin.client.delete(path)).json()["code"] == "monitor_not_found"
