"""Where work is to be done and how it is split: pure functions of what is known, each with its terms."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

LOCAL_PRICE = 0.10
NETWORK_PRICE = 0.08
"""What a second of work costs here and there in AITBC, where a request names no prices of its own."""
NETWORK_SPEED = 1.3
"""How much faster the network is taken to be where nothing was measured."""
COMPLEXITY = {"inference": 0.3, "training": 0.8}
COMPLEXITY_ELSE = 0.5
SIZES = {"small": -0.1, "medium": 0.0, "large": 0.2}
GPU_FROM = 0.6
RATIOS = {"performance": (0.3, 0.7), "cost": (0.1, 0.9), "balanced": (0.5, 0.5)}
"""By what is wanted: the share that is done here, and the share of the network, where prices and times are unknown."""


class Known(Struct, frozen=True, kw_only=True):
    """What is stored of the network when it is decided: who can be called, what they ask, how long they took."""

    capacity: int
    """How many agents can be called now."""
    price: float | None = None
    """The least that one which does such work asks for a call, in AITBC; none where nobody offers it."""
    seconds: float | None = None
    """How long such work took them on average; none where nothing was measured."""


class Offload(Struct, frozen=True, kw_only=True):
    """Whether work is to leave, and why."""

    should_offload: bool
    reason: str
    complexity: float
    seconds: float
    network_seconds: float
    cpu_cores: int
    memory_gb: int
    gpu_required: bool
    local_cost: float
    network_cost: float
    savings: float
    speedup: float


def offload(
    task: str, size: str, batch: int, *, known: Known, is_private: bool, deadline_seconds: float | None = None
) -> Offload:
    """Decide where a piece of work is done: the same request and the same knowledge give the same answer.

    Work that `is_private` never leaves. Where it would be too late on one side, the other one does it.
    """
    complexity = round(min(max(COMPLEXITY.get(task, COMPLEXITY_ELSE) + SIZES.get(size, 0.0), 0.0), 1.0), 4)
    seconds = round(complexity * batch * 0.1, 4)
    away = seconds / NETWORK_SPEED if known.seconds is None else known.seconds
    speedup = round(seconds / away, 4) if away > 0 else NETWORK_SPEED
    local = round(seconds * LOCAL_PRICE, 8)
    network = round(seconds * NETWORK_PRICE, 8) if known.price is None else known.price
    needs_gpu = complexity > GPU_FROM
    wanted = local > network or (speedup > 1.2 and needs_gpu)
    reason = "saves" if wanted else "local_is_better"
    if deadline_seconds is not None and away > deadline_seconds:
        reason = "too_late"
    elif deadline_seconds is not None and seconds > deadline_seconds:
        reason = "deadline"
    if is_private:
        reason = "private"
    elif known.capacity <= 0:
        reason = "no_capacity"
    return Offload(
        should_offload=reason in ("saves", "deadline"),
        reason=reason,
        complexity=complexity,
        seconds=seconds,
        network_seconds=round(away, 4),
        cpu_cores=max(2, round(8 * complexity)),
        memory_gb=max(4, round(16 * complexity)),
        gpu_required=needs_gpu,
        local_cost=local,
        network_cost=network,
        savings=round(local - network, 8),
        speedup=speedup,
    )


class Whole(Struct, frozen=True, kw_only=True):
    """What all of the work would take and cost on one side alone."""

    seconds: float
    cost: float
    """In AITBC."""


class Split(Struct, frozen=True, kw_only=True):
    """How work is split between here and the network."""

    local_ratio: float
    network_ratio: float
    local: Mapping[str, float]
    network: Mapping[str, float]
    seconds: float | None = None
    """When it is done, both sides at work at once; none where the times are unknown."""
    cost: float | None = None


def hybrid(
    strategy: str,
    here: Mapping[str, float],
    there: Mapping[str, float],
    sides: tuple[Whole, Whole] | None = None,
    deadline_seconds: float | None = None,
) -> Split:
    """Split work by a strategy; what is used is never more than there is. Raises `KeyError` for an unknown one.

    `sides` is what all of it would take here and there. Then `performance` has both done at one time, `cost` gives as
    much to the cheaper side as the deadline allows, and `balanced` is in the middle of the two.
    """
    mine = RATIOS[strategy][0] if sides is None else _shared(strategy, *sides, deadline_seconds)
    mine = round(mine if any(there.values()) else 1.0, 4)
    theirs = round(1 - mine, 4)
    local, network = sides or (None, None)
    return Split(
        local_ratio=mine,
        network_ratio=theirs,
        local={name: round(amount * mine, 4) for name, amount in here.items()},
        network={name: round(amount * theirs, 4) for name, amount in there.items()},
        seconds=None if local is None or network is None else max(local.seconds * mine, network.seconds * theirs),
        cost=None if local is None or network is None else local.cost * mine + network.cost * theirs,
    )


def _shared(strategy: str, here: Whole, there: Whole, deadline: float | None) -> float:
    """The share that is done here."""
    together = here.seconds + there.seconds
    quickest = there.seconds / together if together else 0.5
    cheapest = 1.0 if here.cost <= there.cost else 0.0
    if deadline is not None:
        # No more than is done in time on the cheaper side; where both are too slow, as quick as can be.
        cheaper = here if cheapest else there
        part = min(1.0, deadline / cheaper.seconds) if cheaper.seconds else 1.0
        wanted = part if cheapest else 1 - part
        cheapest = max(wanted, quickest) if cheapest else min(wanted, quickest)
    return {"performance": quickest, "cost": cheapest, "balanced": (quickest + cheapest) / 2}[strategy]


class Collaboration(Struct, frozen=True, kw_only=True):
    """Who does which part, who coordinates, and whether they agree."""

    coordinator: str
    parts: Mapping[str, Sequence[Any]]
    """By agent: its parts; each part is somebody's, once."""
    yes: int
    no: int
    consensus_reached: bool


def collaborate(
    agents: Sequence[str], success: Mapping[str, float], subtasks: Sequence[Any], votes: Mapping[str, bool]
) -> Collaboration:
    """Split a task over agents in turn, the most successful first, and count the votes that were really cast.

    More than half of all agents must agree; those who did not vote count as not agreeing.
    """
    order = sorted(agents, key=lambda agent: (-success.get(agent, 0.0), agent))
    parts: dict[str, list[Any]] = {agent: [] for agent in order}
    for number, part in enumerate(subtasks):
        parts[order[number % len(order)]].append(part)
    cast = {agent: vote for agent, vote in votes.items() if agent in parts}
    yes = sum(cast.values())
    return Collaboration(
        coordinator=order[0],
        parts=parts,
        yes=yes,
        no=len(cast) - yes,
        consensus_reached=yes * 2 > len(order),
    )
