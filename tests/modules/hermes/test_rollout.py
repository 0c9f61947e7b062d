"""Roll-outs as pure functions: who gets a version when, what stops it, and who answers a caller."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aitbc.modules.hermes.models.rollout import Gate, Spot, chosen, fits, next_of, presence
from tests.scale import scaled

START = datetime(2030, 1, 1, tzinfo=UTC)
GATE = Gate(canary_percent=20, at_once=3, failures_max=0, gate_seconds=30, ready_seconds=60)


def spots(count: int, **changes: Any) -> list[Spot]:
    """Edges that nothing was told yet."""
    fields: dict[str, Any] = {
        "presence": "healthy",
        "wanted": 0,
        "serves": 0,
        "state": "waiting",
        "since": START,
    } | changes
    return [Spot(edge=f"e{number}", **fields) for number in range(count)]


def told(all_of: list[Spot], edges: tuple[str, ...], version: int, at: datetime, state: str) -> list[Spot]:
    """The same edges, after these were told of a version and came so far."""
    return [
        Spot(edge=one.edge, presence=one.presence, wanted=version, serves=0, state=state, since=at)
        if one.edge in edges
        else one
        for one in all_of
    ]


def later(seconds: float) -> datetime:
    """A moment after the start."""
    return START + timedelta(seconds=seconds)


def test_a_canary_stands_the_gate_before_the_others_begin() -> None:
    edges = spots(10)
    first = next_of(GATE, 1, edges, START, is_live=False)
    assert first.begin == ("e0", "e1") and first.verdict is None
    edges = told(edges, first.begin, 1, START, "ready")
    assert next_of(GATE, 1, edges, later(29), is_live=False).begin == ()
    assert next_of(GATE, 1, edges, later(30), is_live=False).begin == ("e2", "e3", "e4"), "three at a time"
    edges = told(edges, tuple(f"e{number}" for number in range(2, 10)), 1, later(30), "ready")
    assert next_of(GATE, 1, edges, later(59), is_live=False).verdict is None
    assert next_of(GATE, 1, edges, later(60), is_live=False).verdict == "live"


@pytest.mark.parametrize("state", ["failed", "preparing"])
def test_one_that_fails_or_is_late_has_the_version_rolled_back(state: str) -> None:
    edges = told(spots(10), ("e0",), 1, START, state)
    if state == "preparing":
        assert next_of(GATE, 1, edges, later(59), is_live=False).verdict is None
    found = next_of(GATE, 1, edges, later(60), is_live=False)
    assert (found.verdict, found.failed, found.begin) == ("rolled_back", ("e0",), ())


def test_one_that_cannot_be_reached_holds_nothing_up_and_gets_it_later() -> None:
    away = [Spot(edge="e9", presence="cut_off", wanted=0, serves=0, state="waiting", since=START)]
    edges = told(spots(2), ("e0", "e1"), 1, START, "ready") + away
    assert next_of(GATE, 1, edges, later(30), is_live=False).verdict == "live"
    back = edges[:2] + spots(10)[9:]
    assert next_of(GATE, 1, back, later(600), is_live=True).begin == ("e9",)
    assert next_of(GATE, 1, spots(3, presence="failed"), later(600), is_live=False).verdict is None


@settings(max_examples=scaled(100, 2000), deadline=None)
@given(st.data())
def test_no_roll_out_passes_its_bounds_and_each_ends(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 12))
    gate = Gate(
        canary_percent=data.draw(st.integers(1, 100)),
        at_once=data.draw(st.integers(1, 5)),
        failures_max=data.draw(st.integers(0, 3)),
        gate_seconds=5,
        ready_seconds=20,
    )
    edges, at, verdict = spots(count), START, None
    for _ in range(200):
        found = next_of(gate, 1, edges, at, is_live=False)
        assert found == next_of(gate, 1, edges[::-1], at, is_live=False), "the same facts, the same answer"
        verdict = found.verdict
        if verdict is not None:
            break
        edges = told(edges, found.begin, 1, at, "waiting")
        open_ones = [one for one in edges if one.wanted == 1 and one.state == "waiting"]
        assert len(open_ones) <= gate.at_once
        at += timedelta(seconds=1)
        for one in open_ones:
            state = data.draw(st.sampled_from(["ready", "ready", "waiting", "failed"]))
            if state != "waiting":
                edges = told(edges, (one.edge,), 1, at, state)
    failed = [one for one in edges if one.state == "failed" or (one.wanted == 1 and one.state == "waiting")]
    assert verdict in ("live", "rolled_back") or len([one for one in edges if one.state == "ready"]) == 0
    assert verdict != "live" or len(failed) <= gate.failures_max
    assert verdict != "rolled_back" or len(failed) > gate.failures_max


def test_an_edge_is_healthy_cut_off_failed_or_unknown() -> None:
    assert presence(None, None, START) == "unknown"
    assert presence(START, None, later(30)) == "healthy"
    assert presence(START, None, later(31)) == "failed"
    assert presence(START, later(100), later(150)) == "cut_off"
    assert presence(START, later(100), later(191)) == "failed"


def test_callers_are_spread_over_healthy_edges_alone() -> None:
    edges = spots(3, serves=1)
    assert [chosen(edges, "round_robin", turn) for turn in range(4)] == ["e0", "e1", "e2", "e0"]
    assert [chosen(edges, "active_passive", turn) for turn in range(4)] == ["e0"] * 4
    without = [*spots(1, serves=1, presence="cut_off"), *edges[1:]]
    assert chosen(without, "active_passive", 0) == "e1"
    assert chosen(spots(3), "round_robin", 0) is None
    assert fits(None, 1) and fits(2, None) and fits(2, 2) and not fits(3, 2)
