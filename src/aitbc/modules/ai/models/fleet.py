"""The miners as ai knows them: which conditions of a job leave how many of them, and what would help."""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from aitbc.modules.ai.api import FilterCount
from aitbc.modules.ai.models.life import AVOIDED_FOR
from aitbc.modules.ai.models.queue import FILTERS, Needs, matches

ONLINE = "online"
DRAINING = "draining"


class FleetMiner(Struct, frozen=True):
    """A miner as the picture of the fleet has it."""

    id: str
    status: str
    status_reason: str | None
    kinds: tuple[str, ...]
    models: dict[str, tuple[str, ...]]
    programs: tuple[str, ...]
    device: str
    gpu_models: tuple[str, ...]
    vram_mib: int
    region: str | None
    slots: int
    cuda: str | None = None
    booking: str | None = None
    booker: str | None = None


def filter_counts(needs: Needs, fleet: Sequence[FleetMiner], *, avoided: str) -> tuple[FilterCount, ...]:
    """How many miners each condition leaves, one after the other; the last count is of those that can take the job."""
    left = list(fleet)
    counts = []

    def keep(name: str, wanted: str, staying: list[FleetMiner]) -> None:
        nonlocal left
        counts.append(FilterCount(filter=name, wanted=wanted, before=len(left), after=len(staying)))
        left = staying

    keep("online", "yes", [miner for miner in left if miner.status == ONLINE])
    for name, passes in FILTERS:
        if wanted := _wanted(needs, name):
            keep(name, wanted, [miner for miner in left if passes(needs, miner)])
    if needs.booking is None and any(miner.booking for miner in left):
        keep("not_booked", "yes", [miner for miner in left if not miner.booking])
    keep("not_avoided", "yes", [miner for miner in left if miner.id not in avoided])
    return tuple(counts)


def _wanted(needs: Needs, name: str) -> str:
    value = getattr(needs, name)
    if isinstance(value, tuple):
        return ", ".join(value)
    return str(value) if value else ""


def suggest(needs: Needs, fleet: Sequence[FleetMiner], counts: Sequence[FilterCount]) -> str:
    """The cheapest change that would let at least one miner take the job; the wish that costs least is tried first."""
    if counts[-1].after:
        return "Nothing has to change: miners fit, and take the jobs before this one first."
    online = [miner for miner in fleet if miner.status == ONLINE]
    resting = [miner for miner in fleet if miner.status == DRAINING and matches(needs, miner)]
    if not online and not resting:
        return "No miner is online; start one with `aitbc miner run`."
    if needs.booking:
        return (
            f"Only the GPU of {needs.booking} may take it, while that booking lasts and its miner serves {needs.kind}."
        )
    for name in ("region", "gpu_model", "min_vram_mib", "cuda", "device", "models", "model"):
        if _wanted(needs, name):
            nothing: dict[str, Any] = {"min_vram_mib": 0, "models": ()}
            relaxed = msgspec.structs.replace(needs, **{name: nothing.get(name)})
            able = [miner for miner in online if matches(relaxed, miner)]
            if able:
                return _relaxation(needs, name, able)
    if resting:
        return _patience(resting)
    if online and all(miner.booking for miner in online):
        return "Every miner that is online is booked; start another with `aitbc miner run`, or wait until one is free."
    if any(matches(needs, miner) for miner in online):
        return f"Only miners that failed this job before fit; they may try again after {AVOIDED_FOR.seconds} seconds."
    if needs.program and any(needs.kind in miner.kinds for miner in online):
        return f"No online miner allows the program {needs.program}; ask an operator to allow it."
    if not any(needs.kind in miner.kinds for miner in online):
        return f"No online miner serves {needs.kind}; start one that does with `aitbc miner run`."
    return "Several requirements have to be dropped together before a miner fits; the filters say which leave nobody."


def _patience(resting: Sequence[FleetMiner]) -> str:
    said = next((f", for this reason: {miner.status_reason}" for miner in resting if miner.status_reason), "")
    return (
        f"{len(resting)} fitting miners take no new work for now{said}. "
        "Wait until they go on, or start another with `aitbc miner run`."
    )


def _relaxation(needs: Needs, name: str, able: Sequence[FleetMiner]) -> str:
    if name == "min_vram_mib":
        return (
            f"Ask for at most {max(miner.vram_mib for miner in able)} MiB of GPU memory: {len(able)} miners would fit."
        )
    return f"Drop the requirement {name} = {_wanted(needs, name)}: {len(able)} miners would fit."
