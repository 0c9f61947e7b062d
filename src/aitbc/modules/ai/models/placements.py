"""Where equal jobs are best done: cheapest within a deadline, fastest within a budget, and all between; pure.

A miner does its share in rounds, as many jobs at once as it has slots; the whole takes as long as the longest share.
For a given time each miner has room for so many jobs, so the cheapest way is to fill the cheapest miners first; and
of all times only those matter at which some miner ends a round.
"""

from collections.abc import Sequence

from msgspec import Struct


class Place(Struct, frozen=True):
    """A miner on which jobs may be done."""

    miner: str
    price_units: int
    """What one job costs there at most."""
    milliseconds: int
    """How long one takes there."""
    slots: int

    def room(self, milliseconds: int) -> int:
        """How many jobs it can do in a time."""
        return milliseconds // self.milliseconds * self.slots

    def time_for(self, jobs: int) -> int:
        """How long it takes for so many jobs."""
        return -(-jobs // self.slots) * self.milliseconds


class Way(Struct, frozen=True):
    """How many jobs each miner does, what that costs, and how long it takes."""

    shares: tuple[tuple[Place, int], ...]
    price_units: int
    milliseconds: int


def cheapest(places: Sequence[Place], jobs: int, milliseconds: int | None) -> Way | None:
    """The cheapest way within a time, of equally cheap ones the fastest; none where that is too short."""
    if milliseconds is None:
        milliseconds = max((place.time_for(jobs) for place in places), default=0)
    found = _within(places, jobs, milliseconds)
    if found is None:
        return None
    return next(way for way in _ways(places, jobs) if way.price_units == found.price_units)


def fastest(places: Sequence[Place], jobs: int, price_units: int | None) -> Way | None:
    """The fastest way within a budget, of equally fast ones the cheapest; none where that is too small."""
    return next((way for way in _ways(places, jobs) if price_units is None or way.price_units <= price_units), None)


def best_ways(places: Sequence[Place], jobs: int, count: int) -> tuple[Way, ...]:
    """The ways of which none is both cheaper and faster, from the fastest on; so many at most, spread evenly."""
    kept = _ways(places, jobs)
    if len(kept) <= count:
        return tuple(kept)
    return tuple(kept[number * (len(kept) - 1) // (count - 1)] for number in range(count))


def _ways(places: Sequence[Place], jobs: int) -> list[Way]:
    """The cheapest way within each time that matters, from the shortest on; each costs less than the one before."""
    times = sorted({place.time_for(number) for place in places for number in range(1, jobs + 1)})
    least: int | None = None
    ways: list[Way] = []
    for time in times:
        way = _within(places, jobs, time)
        if way is not None and (least is None or way.price_units < least):
            least = way.price_units
            ways.append(way)
    return ways


def _within(places: Sequence[Place], jobs: int, milliseconds: int) -> Way | None:
    shares: list[tuple[Place, int]] = []
    left = jobs
    for place in sorted(places, key=lambda one: (one.price_units, one.milliseconds, one.miner)):
        share = min(place.room(milliseconds), left)
        if share:
            shares.append((place, share))
            left -= share
    if left:
        return None
    price = sum(place.price_units * share for place, share in shares)
    return Way(tuple(shares), price, max(place.time_for(share) for place, share in shares))
