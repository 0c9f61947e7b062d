"""The miners as ai knows them: which conditions of a job leave how many of them, and what would help."""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from aitbc.modules.ai.api import ModelFacts
from aitbc.modules.ai.models.devices import LeasableDevice
from aitbc.modules.ai.models.life import AVOIDED_FOR
from aitbc.modules.ai.models.prospects import FilterCount
from aitbc.modules.ai.models.queue import FILTERS, Needs, gpu_fits, matches
from aitbc.modules.ai.models.rest import REST_MAX

ONLINE = "online"
DRAINING = "draining"
RELAXABLE: dict[str, Any] = {
    **dict.fromkeys(("region", "gpu_model")),
    "min_vram_mib": 0,
    **dict.fromkeys(("min_compute_capability", "cuda", "device")),
    "verified": False,
    "vram_mib": 0,
    "gpus": 0,
    "models": (),
    "model": None,
}
"""The requirements that may be given up, each with its value for none: the one that costs least first."""

HARDWARE = frozenset({"device", "gpu_model", "min_vram_mib", "cuda", "min_compute_capability", "vram_mib", "gpus"})
"""The conditions that go by what miners claim to have."""


class FleetMiner(Struct, frozen=True):
    """A miner, as ai knows it from the events of gpu."""

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
    gpus: tuple[LeasableDevice, ...] = ()
    booking: str | None = None
    booker: str | None = None
    resting: tuple[str, ...] = ()
    """The kinds that are out of the choice after faults in a row, or until a canary passes."""
    account: str | None = None
    """Whose it is; none where that is not known yet."""
    model_facts: dict[str, ModelFacts] = {}


def own_miners(account: str, needs: Needs, fleet: Sequence[FleetMiner]) -> list[FleetMiner]:
    """An account's own miners that can take a job with these needs: they do, before the jobs of others."""
    return [one for one in fleet if one.account == account and one.status == ONLINE and matches(needs, one)]


def filter_counts(needs: Needs, fleet: Sequence[FleetMiner], *, avoided: str) -> tuple[FilterCount, ...]:
    """How many miners each filter leaves, one after the other; the last count is of those that can take the job."""
    left = list(fleet)
    counts = []

    def keep(name: str, wanted: str, staying: list[FleetMiner]) -> None:
        nonlocal left
        counts.append(
            FilterCount(
                filter=name,
                wanted=wanted,
                before=len(left),
                after=len(staying),
                hardware="claimed" if name in HARDWARE else None,
            )
        )
        left = staying

    keep("online", "yes", [miner for miner in left if miner.status == ONLINE])
    for name, passes in FILTERS:
        if wanted := _wanted(needs, name):
            keep(name, wanted, [miner for miner in left if passes(needs, miner)])
    if needs.booking is None and any(miner.booking for miner in left):
        keep("not_booked", "yes", [miner for miner in left if not miner.booking])
    if any(needs.kind in miner.resting for miner in left):
        keep("not_resting", "yes", [miner for miner in left if needs.kind not in miner.resting])
    keep("not_avoided", "yes", [miner for miner in left if miner.id not in avoided])
    return tuple(counts)


def _wanted(needs: Needs, name: str) -> str:
    value = getattr(needs, name)
    if isinstance(value, tuple):
        return ", ".join(value)
    return str(value) if value else ""


def suggest(needs: Needs, fleet: Sequence[FleetMiner], counts: Sequence[FilterCount]) -> str:
    """The cheapest change that would let at least one miner take the job."""
    if counts[-1].filter == "gpus_free" and not counts[-1].after:
        return "Wait until a GPU is free, or ask for less of it: a share (vram_mib), or fewer gpus."
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
    if (said := _resting_gpus(needs, online)) is not None:
        return said
    relaxed = _relaxation(needs, online)
    if relaxed is not None:
        return relaxed
    return _patience(resting) if resting else _obstacle(needs, online)


def _resting_gpus(needs: Needs, online: Sequence[FleetMiner]) -> str | None:
    """What keeps GPUs that would be enough from being leased now."""
    if not needs.gpus:
        return None
    reasons = []
    for miner in online:
        resting = [gpu for gpu in miner.gpus if gpu.rests is not None and gpu_fits(needs, gpu)]
        if resting and matches(needs, _rested(miner)):
            reasons += [gpu.rests for gpu in resting]
    if not reasons:
        return None
    return f"Wait until a GPU rests no more: of those that fit {len(reasons)} do, one for this reason: {reasons[0]}."


def _rested(miner: FleetMiner) -> FleetMiner:
    """A miner as it would be if none of its GPUs rested."""
    names = tuple({*miner.gpu_models, *(gpu.name for gpu in miner.gpus if gpu.name)})
    return msgspec.structs.replace(
        miner,
        device="gpu",
        gpu_models=names,
        vram_mib=max([miner.vram_mib, *(gpu.memory_mib for gpu in miner.gpus)]),
        gpus=tuple(msgspec.structs.replace(gpu, rests=None) for gpu in miner.gpus),
    )


def _relaxation(needs: Needs, online: Sequence[FleetMiner]) -> str | None:
    """The requirement that costs least to give up, if one alone is in the way."""
    for name, nothing in RELAXABLE.items():
        if not _wanted(needs, name):
            continue
        relaxed = msgspec.structs.replace(needs, **{name: nothing})
        able = [miner for miner in online if matches(relaxed, miner)]
        if able and name == "min_vram_mib":
            largest = max(miner.vram_mib for miner in able)
            return f"Ask for at most {largest} MiB of GPU memory: {len(able)} miners would fit."
        if able:
            return f"Drop the requirement {name} = {_wanted(needs, name)}: {len(able)} miners would fit."
    return None


def _patience(resting: Sequence[FleetMiner]) -> str:
    said = next((f", for this reason: {miner.status_reason}" for miner in resting if miner.status_reason), "")
    return (
        f"{len(resting)} fitting miners take no new work for now{said}. "
        "Wait until they go on, or start another with `aitbc miner run`."
    )


def _obstacle(needs: Needs, online: Sequence[FleetMiner]) -> str:
    """Why no miner that is online takes it, where giving up one requirement does not help."""
    if online and all(miner.booking for miner in online):
        return "Every miner that is online is booked; start another with `aitbc miner run`, or wait until one is free."
    fitting = [miner for miner in online if matches(needs, miner)]
    if fitting and all(needs.kind in miner.resting for miner in fitting):
        return (
            f"{len(fitting)} fitting miners failed at {needs.kind} several times in a row and rest from it; one job at a "
            f"time is tried there, the next within {REST_MAX.seconds // 60} minutes. Start another with `aitbc miner run`."
        )
    if fitting:
        return f"Only miners that failed this job before fit; they may try again after {AVOIDED_FOR.seconds} seconds."
    if needs.program and any(needs.kind in miner.kinds for miner in online):
        return f"No online miner allows the program {needs.program}; ask an operator to allow it."
    if not any(needs.kind in miner.kinds for miner in online):
        return f"No online miner serves {needs.kind}; start one that does with `aitbc miner run`."
    return "Several requirements have to be dropped together before a miner fits; the filters say which leave nobody."
