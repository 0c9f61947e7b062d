"""How a version is rolled out to edges: pure functions of what is known of them and of the time."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from math import ceil

from msgspec import Struct

HEALTHY, CUT_OFF, FAILED, UNKNOWN = "healthy", "cut_off", "failed", "unknown"
PRESENCES = (HEALTHY, CUT_OFF, FAILED, UNKNOWN)
ONLINE_SECONDS = 30.0
"""For how long a report of an edge counts."""
VOUCHED_SECONDS = 90.0
"""For how long a sign of life counts that a neighbour brought."""
BALANCINGS = ("round_robin", "active_passive")


def presence(reported_at: datetime | None, vouched_at: datetime | None, at: datetime) -> str:
    """How an edge is: heard of lately, only seen by a neighbour, silent, or never heard of."""
    if reported_at is not None and at - reported_at <= timedelta(seconds=ONLINE_SECONDS):
        return HEALTHY
    if vouched_at is not None and at - vouched_at <= timedelta(seconds=VOUCHED_SECONDS):
        return CUT_OFF
    return UNKNOWN if reported_at is None else FAILED


class Gate(Struct, frozen=True, kw_only=True):
    """How a version reaches its edges; times in seconds."""

    canary_percent: int = 5
    at_once: int = 10
    failures_max: int = 0
    gate_seconds: int = 30
    ready_seconds: int = 300


class Spot(Struct, frozen=True, kw_only=True):
    """One edge of a deployment."""

    edge: str
    presence: str
    wanted: int
    serves: int
    state: str
    """How far `wanted` is there."""
    since: datetime


class Next(Struct, frozen=True, kw_only=True):
    """What is to be done now about a roll-out."""

    begin: tuple[str, ...] = ()
    """Edges that are to have the target from now on."""
    verdict: str | None = None
    """`live` where all that can be reached have stood the gate, `rolled_back` where too many failed."""
    failed: tuple[str, ...] = ()


def next_of(gate: Gate, target: int, spots: Sequence[Spot], at: datetime, *, is_live: bool) -> Next:
    """What is to be done now. The order of the edges is that of their ids, so the same facts give the same answer.

    A canary comes first; what follows waits until as many have been ready for the time of the gate. An edge that
    cannot be reached holds nothing up: it gets the version once it is back, also after the version is live.
    """
    ordered = sorted(spots, key=lambda spot: spot.edge)
    told = [spot for spot in ordered if spot.wanted == target]
    rest = [spot for spot in ordered if spot.wanted != target and spot.presence == HEALTHY]
    failed = [spot for spot in told if _has_failed(spot, gate, at)]
    if len(failed) > gate.failures_max and not is_live:
        return Next(verdict="rolled_back", failed=tuple(spot.edge for spot in failed))
    ready = [spot for spot in told if spot.state == "ready"]
    under_way = [spot for spot in told if spot.state != "ready" and spot not in failed and spot.presence == HEALTHY]
    steady = [spot for spot in ready if at - spot.since >= timedelta(seconds=gate.gate_seconds)]
    canary = max(1, ceil(len(ordered) * gate.canary_percent / 100))
    limit = len(ordered) if is_live or len(steady) >= canary else canary
    room = min(limit - len(ready) - len(under_way), gate.at_once - len(under_way))
    begin = tuple(spot.edge for spot in rest[: max(room, 0)])
    is_through = not begin and not rest and not under_way and len(steady) == len(ready) and bool(steady)
    return Next(begin=begin, verdict="live" if is_through and not is_live else None)


def _has_failed(spot: Spot, gate: Gate, at: datetime) -> bool:
    if spot.state == "failed":
        return True
    is_late = at - spot.since >= timedelta(seconds=gate.ready_seconds)
    return spot.state != "ready" and spot.presence == HEALTHY and is_late


def fits(needs_mib: int | None, has_mib: int | None) -> bool:
    """Whether an edge has as much memory or disk as is needed; what it has not shown is not held against it."""
    return needs_mib is None or has_mib is None or needs_mib <= has_mib


def chosen(spots: Sequence[Spot], balancing: str, turn: int) -> str | None:
    """The edge for a caller: in turn among those that serve and are healthy, or always the first of them."""
    able = sorted(spot.edge for spot in spots if spot.serves > 0 and spot.presence == HEALTHY)
    if not able:
        return None
    return able[0] if balancing == "active_passive" else able[turn % len(able)]
