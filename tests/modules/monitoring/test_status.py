"""The overview, the status page's summary, objectives, the forecast, and upkeep."""

import math
from datetime import timedelta

from aitbc.kernel.primitives import clock
from aitbc.modules.monitoring.models.forecast import forecast
from aitbc.modules.monitoring.models.rollups import burn_rate, uptime
from aitbc.modules.monitoring.service.objectives import work_figure
from tests.journeys.hand_miner import HandMiner
from tests.modules.monitoring.make import PATH, Watched, a_place, fresh_name


def day(hour: int) -> float:
    """A series that repeats each day."""
    return 10 + 5 * math.sin(hour / 24 * 2 * math.pi)


def test_a_forecast_states_its_error_and_beats_one_that_nothing_changes() -> None:
    found = forecast([day(hour) for hour in range(24 * 7)], 24)
    assert found.reason is None and len(found.hours) == 24
    assert found.error == 0 and found.beats_naive
    assert abs(found.hours[5].expected - day(5)) < 1e-6
    assert found.hours[0].low <= found.hours[0].expected <= found.hours[0].high


def test_a_forecast_that_is_no_better_says_so() -> None:
    flat = forecast([1.0] * 24 * 5, 3)
    assert (flat.error, flat.naive_error, flat.beats_naive) == (0, 0, False)


def test_without_enough_known_hours_there_is_no_forecast() -> None:
    assert forecast([1.0] * 95).reason == "Only 95 hours are known, and 96 are needed."
    gaps: list[float | None] = [1.0 if hour % 3 else None for hour in range(24 * 5)]
    found = forecast(gaps)
    assert found.hours == [] and found.reason is not None and "not measured" in found.reason


def test_budgets_burn_by_the_share_that_is_bad() -> None:
    assert burn_rate(99, 1, 0.99) == 1.0
    assert burn_rate(0, 0, 0.99) is None
    assert uptime(8, 1, 1) == 0.9
    assert uptime(0, 0, 0) is None


async def test_an_objective_that_burns_too_fast_says_so_and_fires_its_rule(watched: Watched) -> None:
    async with a_place() as place:
        name, goal = fresh_name("goal"), fresh_name("slo")
        body = {"name": name, "kind": "http", "target": place.url, "interval_seconds": 30}
        await watched.post("monitors", body)
        made = await watched.post("objectives", {"name": goal, "monitor": name, "target": 0.99})
        assert (made["share"], made["budget_left"], made["is_burning"]) == (None, None, False)
        await watched.step()
        for status in (200, 200, 500, 500, 500, 500):
            place.status = status
            await watched.step(30)
        (found,) = [one for one in (await watched.get("objectives"))["data"] if one["name"] == goal]
        assert found["share"] == round(3 / 7, 6)
        assert found["budget_left"] < 0 and found["is_burning"]
        assert found["burn_rates"]["hour"] > 14.4
        await watched.post(
            "alert-rules", {"name": goal, "source": "objective", "target": goal, "threshold": 0.5, "for_seconds": 0}
        )
        await watched.service.evaluate()
        assert goal in {one["rule"] for one in (await watched.get("alerts", firing="true"))["data"]}
        assert (await watched.admin.client.delete(f"{PATH}/objectives/{goal}")).status_code == 200


async def test_an_objective_of_a_kind_of_work_counts_what_is_not_the_requesters_fault(watched: Watched) -> None:
    goal = fresh_name("embed")
    await watched.post("objectives", {"name": goal, "work": "embed", "target": 0.9})
    neither = await watched.admin.post(f"{PATH}/objectives", {"name": "x", "target": 0.9})
    assert neither.status_code == 422
    buyer, seller = await watched.app.who("buyer", funds="1"), await watched.app.who("seller")
    miner = await HandMiner.enrol(watched.app, seller)
    await miner.beat()
    for fails in (False, False, False, True):
        body = {"kind": "embed", "input": {"texts": ["x"]}, "max_price": "0.05", "retry": {"attempts_max": 1}}
        assert (await buyer.post("/api/v1/ai/jobs", body)).status_code == 201
        (lease,) = await miner.poll(wait=5)
        if fails:
            failure = {"token": lease["token"], "fault": "miner", "reason": "out_of_memory", "message": "x"}
            told = await miner.client.post(f"/api/v1/gpu/leases/{lease['attempt']}/failure", json=failure)
            assert told.is_success, told.text
        else:
            assert (await miner.deliver(lease)).status_code == 200
    (lately,) = [one for one in await watched.app.service("ai").measure() if one.name == "aitbc_attempts_lately"]
    ended = {sample.labels["outcome"]: sample.value for sample in lately.samples}
    assert ended == {"good": 3.0, "bad": 1.0}
    samples = {work_figure("embed", outcome): value for outcome, value in ended.items()}
    await watched.service.figures.keep(samples, samples)
    (found,) = [one for one in (await watched.get("objectives"))["data"] if one["name"] == goal]
    assert (found["share"], found["burn_rates"]["hour"]) == (0.75, 2.5)


async def test_the_summary_has_90_days_and_what_is_public_only(watched: Watched) -> None:
    async with a_place() as place:
        public, private = fresh_name("shop"), fresh_name("secret")
        for name in (public, private):
            body = {"name": name, "kind": "http", "target": place.url, "interval_seconds": 30, "fall": 1}
            await watched.post("monitors", {**body, "public": name == public})
        await watched.step()
        place.status = 500
        await watched.step(30)
        async with watched.app.client() as anybody:
            refused = await anybody.get(f"{PATH}/status")
        assert (refused.status_code, refused.json()["code"]) == (403, "status_not_public")
        summary = await watched.service.status(90)
        components = {one.name: one for one in summary.components}
        assert public in components and private not in components and "module/ai" in components
        assert "database/ai" not in components
        assert len(components[public].days) == 90
        assert (components[public].days[-1].state, components[public].uptime) == ("down", 0.5)
        assert components[public].days[0].state == "unknown"
        told = [one.monitor for one in summary.incidents if one.monitor in (public, private)]
        assert told == [public]  # a starved machine may have incidents of its own
        assert private in {one["name"] for one in (await watched.get("components", days=1))["components"]}


async def test_the_overview_names_what_is_wrong(watched: Watched) -> None:
    async with a_place() as place:
        gone = place.port
    name = fresh_name("gone")
    await watched.post("monitors", {"name": name, "kind": "tcp", "target": f"127.0.0.1:{gone}"})
    await watched.step()
    overview = await watched.get("overview")
    assert name in {one["name"] for one in overview["wrong"]}
    assert sum(overview["counts"].values()) == len((await watched.get("monitors"))["data"])


async def test_figures_of_every_process_are_kept_and_the_forecast_admits_that_it_knows_too_little(
    watched: Watched,
) -> None:
    samples = await watched.service.figures.read()
    assert samples["aitbc_ledger_drift"] == 0
    assert any(name.startswith("aitbc_miners") for name in samples)
    await watched.service.evaluate()
    clock.move(timedelta(hours=1))
    answer = await watched.get("forecast", figure="aitbc_ledger_holds")
    assert answer["hours"] == [] and "are needed" in answer["reason"]


async def test_upkeep_cleans_up_and_reindexes_and_says_why_it_cannot_back_up(watched: Watched) -> None:
    done = await watched.post("upkeep", {"action": "cleanup"}, 200)
    assert done["result"]["removed"] >= 0
    done = await watched.post("upkeep", {"action": "reindex"}, 200)
    assert done["result"]["indexes"] > 50
    refused = await watched.admin.post(f"{PATH}/upkeep", {"action": "backup"})
    assert refused.status_code == 501 and "aitbc backup" in refused.json()["detail"]
    somebody = await watched.app.who()
    assert (await somebody.post(f"{PATH}/upkeep", {"action": "cleanup"})).status_code == 403
    async with watched.service.db.raw() as connection:
        written = await connection.fetch("SELECT action FROM monitoring.audit WHERE action LIKE 'upkeep.%' ORDER BY id")
    assert [row["action"] for row in written] == ["upkeep.cleanup", "upkeep.reindex"]
