"""Routing: hard filters, then a score whose terms are shown. A pure function of a snapshot of agents."""

from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from aitbc.kernel.primitives import money
from aitbc.modules.hermes.models.plans import most_units
from aitbc.modules.hermes.models.shapes import AgentSkill

PERFORMANCE = {"match": 0.3, "success": 0.4, "speed": 0.2, "price": 0.1}
COST = {"match": 0.2, "success": 0.2, "speed": 0.1, "price": 0.5}
"""What each term counts, by what is wanted; they add up to 1."""


class Candidate(Struct, frozen=True, kw_only=True):
    """A skill of an agent in the snapshot."""

    agent: str
    name: str
    skill: AgentSkill
    is_online: bool
    success: float
    """From 0 to 1."""
    seconds: float | None


class Wish(Struct, frozen=True, kw_only=True):
    """What is looked for."""

    skill: str | None = None
    tags: tuple[str, ...] = ()
    input_modes: tuple[str, ...] = ()
    """All of them must be taken."""
    output_modes: tuple[str, ...] = ()
    """One of them must be answered with, where any is named."""
    max_units: int | None = None
    """The most that a call may cost, its steps included."""
    min_success: float = 0.0
    prefers_performance: bool = True


class Terms(Struct, frozen=True, kw_only=True):
    """What a score is made of; each from 0 to 1."""

    match: float
    """The share of the wished tags that the skill has. For example `1.0`."""
    success: float
    """The share of its agent's runs that succeeds. For example `0.93`."""
    speed: float
    """1 for the fastest that fits, less for slower ones; 0.5 where nothing is known. For example `0.8`."""
    price: float
    """1 for the cheapest that fits, less for dearer ones. For example `0.5`."""


class Ranked(Struct, frozen=True, kw_only=True):
    """A candidate with its score."""

    candidate: Candidate
    score: float
    terms: Terms


class Ranking(Struct, frozen=True, kw_only=True):
    """What fits, the best first; and what each filter left over."""

    ranked: tuple[Ranked, ...]
    left: Mapping[str, int]
    """By filter, in their order: how many candidates were left behind it."""
    nearest: tuple[str, ...]
    """Where nothing fits: what the wish would have to be like, in words."""


def rank(candidates: Sequence[Candidate], wish: Wish) -> Ranking:
    """Rank what fits. Equal scores are in the order of agent and skill, so the same snapshot gives the same order."""
    left = {}
    kept = list(candidates)
    for name, fits in _FILTERS.items():
        before, kept = kept, [one for one in kept if fits(one, wish)]
        left[name] = len(kept)
        if not kept:
            return Ranking(ranked=(), left=left, nearest=_nearest(name, before, wish))
    weights = PERFORMANCE if wish.prefers_performance else COST
    cheapest = min(most_units(one.skill) for one in kept)
    fastest = min((one.seconds for one in kept if one.seconds is not None), default=None)
    found = [_ranked(one, wish, weights, cheapest, fastest) for one in kept]
    found.sort(key=lambda one: (-one.score, one.candidate.agent, one.candidate.skill.id))
    return Ranking(ranked=tuple(found), left=left, nearest=())


def _ranked(one: Candidate, wish: Wish, weights: Mapping[str, float], cheapest: int, fastest: float | None) -> Ranked:
    words = {one.skill.id, *one.skill.tags}
    cost = most_units(one.skill)
    terms = Terms(
        match=len(words.intersection(wish.tags)) / len(wish.tags) if wish.tags else 1.0,
        success=one.success,
        speed=0.5 if one.seconds is None or fastest is None else (fastest + 1) / (one.seconds + 1),
        price=1.0 if cost == cheapest else (cheapest + 1) / (cost + 1),
    )
    score = sum(weight * float(getattr(terms, name)) for name, weight in weights.items())
    return Ranked(candidate=one, score=round(score, 6), terms=terms)


_FILTERS: Mapping[str, Callable[[Candidate, Wish], bool]] = {
    "online": lambda one, wish: one.is_online,
    "skill": lambda one, wish: wish.skill in (None, one.skill.id, *one.skill.tags),
    "tags": lambda one, wish: not wish.tags or not {one.skill.id, *one.skill.tags}.isdisjoint(wish.tags),
    "input_modes": lambda one, wish: set(wish.input_modes) <= set(one.skill.input_modes),
    "output_modes": lambda one, wish: (
        not wish.output_modes or not set(wish.output_modes).isdisjoint(one.skill.output_modes)
    ),
    "price": lambda one, wish: wish.max_units is None or most_units(one.skill) <= wish.max_units,
    "success": lambda one, wish: one.success >= wish.min_success,
}


def _nearest(failed: str, before: Sequence[Candidate], wish: Wish) -> tuple[str, ...]:
    """What would fit, of what was left before the filter that left nothing."""
    match failed:
        case "online":
            return ("an agent that is online",) if before else ("any agent at all: none is registered",)
        case "skill" | "tags":
            words = sorted(set().union(*({one.skill.id, *one.skill.tags} for one in before)))
            return tuple(f"skill {word}" for word in words[:20])
        case "input_modes":
            modes = sorted({mode for one in before for mode in one.skill.input_modes})
            return tuple(f"input {mode}" for mode in modes[:20])
        case "output_modes":
            modes = sorted({mode for one in before for mode in one.skill.output_modes})
            return tuple(f"output {mode}" for mode in modes[:20])
        case "price":
            return (f"a budget of {money.render(min(most_units(one.skill) for one in before))}",)
    return (f"a success of at least {max(one.success for one in before):.4f}",)
