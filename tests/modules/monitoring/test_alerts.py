"""Alerts: each made series fires and clears once, a flapping one makes one alert, and somebody is told."""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitbc.kernel.primitives import clock, ids
from aitbc.modules.monitoring.models.alerting import AlertStanding, Thresholds
from aitbc.modules.monitoring.service.figures import value_of
from tests.cli.tiny_server import Received, Reply, answering
from tests.modules.monitoring.make import Watched, a_place, fresh_name

AT = datetime(2030, 1, 1, tzinfo=UTC)
ABOVE = Thresholds(direction="above", threshold=10, clear_threshold=5, for_seconds=60, clear_seconds=300)
FIGURE = "aitbc_made"


def changes(values: Sequence[float | None], every_seconds: float, thresholds: Thresholds = ABOVE) -> list[str]:
    """The states that a series leads through, without those that repeat."""
    standing, states = AlertStanding(), ["clear"]
    for number, value in enumerate(values):
        at = AT + timedelta(seconds=number * every_seconds)
        standing = standing.after(thresholds.judge(value), at, thresholds)
        if standing.state != states[-1]:
            states.append(standing.state)
    return states


def test_a_series_fires_and_clears_once() -> None:
    assert changes([0, 20, 20, 20, *[0] * 12], 30) == ["clear", "pending", "firing", "clear"]


def test_what_is_bad_for_a_moment_fires_nothing() -> None:
    assert changes([0, 20, 0, 20, 0], 30) == ["clear", "pending", "clear", "pending", "clear"]


def test_between_the_thresholds_nothing_begins_and_nothing_ends() -> None:
    assert changes([7] * 40, 60) == ["clear"]
    assert changes([20, 20, 20, *[7] * 40], 60) == ["clear", "pending", "firing"]


def test_what_is_unknown_fires_and_clears_nothing() -> None:
    assert changes([None] * 5, 30) == ["clear", "pending", "firing"]
    assert changes([20, 20, 20, *[None] * 40], 60) == ["clear", "pending", "firing"]


@given(st.lists(st.sampled_from([0.0, 7.0, 20.0]), max_size=60))
def test_a_flapping_series_makes_one_alert(tail: list[float]) -> None:
    """Bad long enough once, and then never good for five minutes at a stretch: one alert, whatever it does."""
    flapping: list[float | None] = [20, 20, 20, 20]
    for value in tail:
        flapping += [value, 20]
    assert changes(flapping, 120).count("firing") == 1


def test_a_figure_is_the_sum_of_what_has_its_labels_and_unknown_where_there_is_none() -> None:
    samples = {'aitbc_jobs{kind="chat",state="queued"}': 2.0, 'aitbc_jobs{kind="ocr",state="queued"}': 3.0}
    samples |= {'aitbc_delay_seconds{module="ai"}': 4.0, 'aitbc_delay_seconds{module="gpu"}': 1.0, "aitbc_dead{}": 0.0}
    assert value_of(samples, 'aitbc_jobs{state="queued"}') == 5.0
    assert value_of(samples, 'aitbc_jobs{state="running"}') == 0.0
    assert value_of(samples, "aitbc_delay_seconds") == 4.0
    assert value_of(samples, 'aitbc_dead{module="ai"}') == 0.0
    assert value_of(samples, "aitbc_nothing") is None


async def evaluate(
    watched: Watched, seconds: float = 0.0, *, monitors: Sequence[str] = (), **figures: float
) -> list[tuple[str, str, bool]]:
    """Let time pass, and evaluate the rules over these figures: rule, series and whether it fired, of what changed.

    Of monitors only these are told of: the others are unknown while nobody looks.
    """
    clock.move(timedelta(seconds=seconds))
    operator = watched.admin.principal.account
    calm = {"aitbc_ledger_drift": 0.0, "aitbc_events_stuck{}": 0.0, "aitbc_events{}": 0.0}
    events = await watched.service.figures.events_lately()
    outcomes = await watched.service.evaluation.run(calm | figures, events, {}, operator=operator)
    told = [(one.rule.name, one.alert.series, one.fired) for one in outcomes]
    return [one for one in told if one[1] in monitors or one[0] not in {"parts-down", *_left_over}]


_left_over: set[str] = set()
"""The rules of tests that are over: what becomes of them does not matter to those that follow."""


@pytest.fixture(autouse=True)
def forget_rules() -> Iterator[None]:
    """What a test declared is left over for the next one."""
    yield
    _left_over.update(_declared)


_declared: set[str] = set()


async def rule(watched: Watched, **body: Any) -> str:
    """The name of a new rule."""
    name = fresh_name("rule")
    _declared.add(name)
    await watched.post("alert-rules", {"name": name, "for_seconds": 60, "clear_seconds": 120, **body})
    return name


@pytest.fixture(scope="module")
async def calm(watched: Watched) -> Watched:
    """The app, whose missing miners alarm nobody."""
    await watched.step()
    window = {"title": "No miners here", "monitors": ["miners"], "starts_at": clock.now().isoformat()}
    await watched.post("maintenance", {**window, "ends_at": (clock.now() + timedelta(days=2)).isoformat()})
    return watched


async def test_a_rule_on_a_figure_holds_at_once_and_its_account_is_told_by_webhook(calm: Watched) -> None:
    name = await rule(calm, source="figure", target=FIGURE, threshold=10, clear_threshold=5)
    assert await evaluate(calm, aitbc_made=20) == []
    assert await evaluate(calm, 61, aitbc_made=20) == [(name, FIGURE, True)]
    assert await evaluate(calm, 61, aitbc_made=0) == []
    (alert,) = [one for one in (await calm.get("alerts", firing="true"))["data"] if one["rule"] == name]
    assert (alert["state"], alert["value"], alert["series"]) == ("firing", 20.0, FIGURE)
    assert await evaluate(calm, 121, aitbc_made=0) == [(name, FIGURE, False)]
    assert not [one for one in (await calm.get("alerts", firing="true"))["data"] if one["rule"] == name]
    async with calm.service.db.raw() as connection:
        told = await connection.fetch(
            "SELECT body FROM monitoring.outbox WHERE kind = 'monitoring.alerts_changed' AND body LIKE $1",
            f"%{name}: {FIGURE} is 20%",
        )
    assert told and all(calm.admin.principal.account in one["body"] for one in told)
    await calm.admin.client.delete(f"/api/v1/monitoring/alert-rules/{name}")


async def test_a_figure_that_nobody_tells_is_not_ok(calm: Watched) -> None:
    name = await rule(calm, source="figure", target="aitbc_never_seen", threshold=10)
    await evaluate(calm)
    assert await evaluate(calm, 61) == [(name, "aitbc_never_seen", True)]
    gone = await calm.admin.client.delete(f"/api/v1/monitoring/alert-rules/{name}")
    assert gone.status_code == 200
    assert await evaluate(calm, 1) == [(name, "aitbc_never_seen", False)]  # with its rule the alert goes


async def test_events_are_counted_for_the_rules_that_look_at_them(calm: Watched) -> None:
    from aitbc.modules.trading.events import HoldExpired

    name = await rule(calm, source="event", target="trading.hold_expired", threshold=2, for_seconds=0)
    assert await evaluate(calm) == []
    event = HoldExpired(hold=ids.new_id("hold"), payer=ids.new_id("acct"), reference="x")
    async with calm.service.db.unit_of_work() as uow:
        await calm.service.on_facts(uow, [event] * 3)
    assert await evaluate(calm) == [(name, "trading.hold_expired", True)]
    await evaluate(calm, 400)
    assert await evaluate(calm, 121) == [(name, "trading.hold_expired", False)]


async def test_monitors_that_are_down_alarm_once_and_their_children_stay_silent(calm: Watched) -> None:
    async with a_place() as place:
        parent, child = fresh_name("parent"), fresh_name("child")
        for name, parents in ((parent, []), (child, [parent])):
            body = {"name": name, "kind": "http", "target": place.url, "interval_seconds": 10, "fall": 1, "rise": 1}
            await calm.post("monitors", {**body, "parents": parents})
        await calm.step()
        await evaluate(calm, monitors=(parent, child))
        place.status = 500
        await calm.step(10)
        await evaluate(calm, monitors=(parent, child))
        await calm.step(61)
        assert await evaluate(calm, monitors=(parent, child)) == [("parts-down", parent, True)]
        place.status = 200
        await calm.step(20)
        await evaluate(calm, monitors=(parent, child))
        for _ in range(16):
            await calm.step(20)
            fired = await evaluate(calm, monitors=(parent, child))
            if fired:
                break
        assert fired == [("parts-down", parent, False)]


async def test_a_webhook_of_the_rules_account_gets_one_message_a_group(calm: Watched) -> None:
    arrived: list[Received] = []

    def take(asked: Received) -> Reply:
        if asked.json()["data"]["group"] == "told":  # what other tests made may be cleared meanwhile
            arrived.append(asked)
        return Reply(204, b"")

    with answering(take) as receiver:
        hook = {"url": f"{receiver.url}/alerts", "events": ["monitoring.alerts_changed"]}
        made = (await calm.admin.post("/api/v1/webhooks/endpoints", hook)).json()
        names = [
            await rule(calm, source="figure", target=f"aitbc_told_{word}", threshold=1, for_seconds=0, group="told")
            for word in ("a", "b")
        ]
        await evaluate(calm, aitbc_told_a=5, aitbc_told_b=5)
        for _ in range(400):
            if arrived:
                break
            await asyncio.sleep(0.05)
        (message,) = arrived
        body = message.json()  # its signature is that of all webhooks
        assert body["type"] == "monitoring.alerts_changed"
        assert [line.split(": ")[1] for line in body["data"]["fired"]] == names
        assert body["data"]["group"] == "told" and body["data"]["page"] == "/monitoring/alerts"
        await calm.admin.client.delete(f"/api/v1/webhooks/endpoints/{made['id']}")
