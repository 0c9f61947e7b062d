"""Placements: where a number of equal jobs would be done best; nothing is changed."""

import math
from typing import Annotated

from msgspec import Meta, Struct

from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import money
from aitbc.modules.ai.models.kinds.registry import price_of
from aitbc.modules.ai.models.placements import Place, Way, best_ways, cheapest, fastest
from aitbc.modules.ai.models.submit_job import SubmitJob
from aitbc.modules.ai.service.fleet_view import FleetView
from aitbc.modules.ai.service.planner import Plan, Planner

JOBS_MAX = 1000
PLACES_MAX = 20
"""So many miners are weighed, half of them the cheapest and half the fastest."""
WAYS_MAX = 20


class ComparePlacements(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Equal jobs that are to be done, and within what."""

    job: SubmitJob
    """One of them."""
    jobs: Annotated[int, Meta(ge=1, le=JOBS_MAX)] = 1
    """How many there are. For example `100`."""
    deadline_seconds: Annotated[float, Meta(gt=0, le=31_536_000)] | None = None
    """Within how many seconds; left out, in any time. For example `600`."""
    budget: Annotated[str, Meta(max_length=40, examples=["0.5"])] | None = None
    """For how much at most, in AITBC; left out, for whatever it costs."""


class PlacementShare(Struct, frozen=True, kw_only=True):
    """What one miner would do."""

    miner: str
    """The miner. For example `mnr_01k0000000000000000000000a`."""
    jobs: int
    """How many of the jobs. For example `60`."""
    price: str
    """What they would cost there at most, in AITBC. For example `0.3`."""
    seconds: float
    """How many seconds they would take there. For example `42.5`."""


class Placement(Struct, frozen=True, kw_only=True):
    """A way to have all jobs done."""

    price: str
    """What all would cost at most, in AITBC. For example `0.5`."""
    seconds: float
    """How many seconds all would take, from the first to the last. For example `42.5`."""
    shares: tuple[PlacementShare, ...]
    """What each miner would do."""


class Placements(Struct, frozen=True, kw_only=True):
    """How jobs would be done best, by what is known of the miners that fit."""

    cheapest: Placement | None
    """The cheapest way within the deadline; null where there is none."""
    fastest: Placement | None
    """The fastest way within the budget; null where there is none."""
    ways: tuple[Placement, ...]
    """The ways of which none is both cheaper and faster, from the fastest on; the budget and the deadline aside."""
    problem: str | None
    """What is in the way where one of them is null: no miner fits, of none that fits a speed is measured, or the
    deadline or the budget is less than any way needs. For example `the shortest way takes 42.5 s`."""
    miners_fitting: int
    """How many miners fit and are online. For example `5`."""
    miners_measured: int
    """Of how many of them a speed is known: the others are left out. For example `3`."""


class PlacementPlans:
    """Compares ways to have jobs done."""

    def __init__(self, planner: Planner, fleet_view: FleetView) -> None:
        self._planner = planner
        self._fleet_view = fleet_view

    async def compare(self, who: Principal, command: ComparePlacements) -> Placements:
        """Compare where jobs would be done. Raises what a quote raises, and `InvalidAmount`."""
        budget = None if command.budget is None else money.parse(command.budget)
        deadline = None if command.deadline_seconds is None else int(command.deadline_seconds * 1000)
        plan = await self._planner.plan(who, command.job)
        fitting, places = await self._places(plan)
        weighed = _weighed(places)
        cheap = cheapest(weighed, command.jobs, deadline) if weighed else None
        fast = fastest(weighed, command.jobs, budget) if weighed else None
        ways = best_ways(weighed, command.jobs, WAYS_MAX)
        return Placements(
            cheapest=_shown(cheap),
            fastest=_shown(fast),
            ways=tuple(shown for shown in map(_shown, ways) if shown is not None),
            problem=_problem(fitting, ways, cheap, fast),
            miners_fitting=fitting,
            miners_measured=len(places),
        )

    async def _places(self, plan: Plan) -> tuple[int, list[Place]]:
        """How many miners fit, and those of them whose speed is known."""
        fleet = await self._fleet_view.miners()
        slots = {miner.id: miner.slots for miner in fleet}
        candidates = await self._planner.candidates(plan, fleet)
        units = plan.measure.units_max
        return len(candidates), [
            Place(
                miner=one.miner,
                price_units=price_of(units, one.unit_price_units, money.LARGEST),
                milliseconds=max(math.ceil(1000 * units / one.units_per_second), 1),
                slots=max(slots[one.miner], 1),
            )
            for one in candidates
            if one.units_per_second
        ]


def _weighed(places: list[Place]) -> list[Place]:
    if len(places) <= PLACES_MAX:
        return places
    by_price = sorted(places, key=lambda one: (one.price_units, one.milliseconds, one.miner))[: PLACES_MAX // 2]
    by_time = sorted(places, key=lambda one: (one.milliseconds / one.slots, one.price_units, one.miner))
    return by_price + [one for one in by_time if one not in by_price][: PLACES_MAX - len(by_price)]


def _problem(fitting: int, ways: tuple[Way, ...], cheap: Way | None, fast: Way | None) -> str | None:
    if not fitting:
        return "no miner that is online fits"
    if not ways:
        return "of no miner that fits a speed is measured"
    if cheap is None:
        return f"the shortest way takes {ways[0].milliseconds / 1000} s"
    if fast is None:
        return f"the cheapest way costs up to {money.render(ways[-1].price_units)}"
    return None


def _shown(way: Way | None) -> Placement | None:
    if way is None:
        return None
    return Placement(
        price=money.render(way.price_units),
        seconds=way.milliseconds / 1000,
        shares=tuple(
            PlacementShare(
                miner=place.miner,
                jobs=jobs,
                price=money.render(place.price_units * jobs),
                seconds=place.time_for(jobs) / 1000,
            )
            for place, jobs in way.shares
        ),
    )
