"""Who gets which job, and when: matching, fair order and the newcomers' share; pure, and what `explain` counts by.

Order is start-time fair queueing. Jobs with equal needs form a lane. In a lane each account has a flow for each
priority, with a tag of its own: a job's rank is the later of the lane's present rank and its flow's tag, and pushes the
tag on by STEP ÷ weight. Miners take the lowest ranks first. So ten thousand jobs of one account lie behind each other,
while a single job of another starts where the lane is now; a job's rank never grows, so nothing waits for ever behind
newcomers. Below zero are the ranks of jobs that an operator put first: they move nobody else.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Protocol
from uuid import UUID

import msgspec
from msgspec import Struct

from aitbc.kernel.primitives.model_names import is_named
from aitbc.modules.ai.api.devices import ModelFacts

IMAGE = "image"
UNKNOWN = ModelFacts()
STEP = 1 << 20
PRIORITIES = {"low": 1, "normal": 4, "high": 7, "urgent": 9}
WEIGHTS = (1, 1, 2, 2, 4, 4, 8, 8, 16, 16)
"""The share of a flow by its priority, 0 to 9."""
EXPLORE_ONE_IN = 8
"""One job in so many, chosen by its id, goes to a newcomer first when one waits: more than a tenth of the work."""


class AgreedAsk(Struct, frozen=True, array_like=True):
    """What a payer and an owner agreed on for one unit, in place of what the miner asks."""

    units: int
    """Minor units of money."""
    offer: str
    """The offer about which they agreed."""


class Needs(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a job asks of a miner. Jobs with equal needs are in one lane."""

    kind: str
    model: str | None = None
    program: str | None = None
    device: str | None = None
    gpu_model: str | None = None
    min_vram_mib: int = 0
    region: str | None = None
    models: tuple[str, ...] = ()
    """Models that it must serve beside the one that the job names."""
    cuda: str | None = None
    gpus: int = 0
    """How many GPUs it gets for itself; none leaves the device to the miner's programs."""
    vram_mib: int = 0
    """How much memory of one GPU it gets, where it wants a share and not all of it."""
    min_compute_capability: str | None = None
    verified: bool = False
    """Whether its GPUs must have been measured."""
    booking: str | None = None
    """The booking whose GPU it is for, and who asks: only the miner that this account booked takes it."""
    booker: str | None = None
    miner: str | None = None
    """The one miner that may take it."""
    agreed: AgreedAsk | None = None
    """What one unit of it costs by an agreement; none where its miner says."""
    context: int = 0
    """How many tokens its model must take at least, in steps: far fewer than its input will be counted as."""
    pictures: bool = False
    """Whether its model must take pictures."""


class Offer(Protocol):
    """What a miner has, as `Capabilities` and `FleetMiner` both say it."""

    @property
    def kinds(self) -> Sequence[str]:
        """The kinds of work."""
        ...

    @property
    def models(self) -> dict[str, tuple[str, ...]]:
        """The models that it serves, by kind; a kind that is absent takes only jobs that name no model."""
        ...

    @property
    def model_facts(self) -> Mapping[str, ModelFacts]:
        """What is known of some of these, by name."""
        ...

    @property
    def programs(self) -> Sequence[str]:
        """The programs allowed for kind `command`."""
        ...

    @property
    def device(self) -> str:
        """`cpu` or `gpu`."""
        ...

    @property
    def gpu_models(self) -> Sequence[str]:
        """The names of its GPUs."""
        ...

    @property
    def vram_mib(self) -> int:
        """The largest memory of a single GPU."""
        ...

    @property
    def region(self) -> str | None:
        """Where it stands."""
        ...

    @property
    def cuda(self) -> str | None:
        """The version of CUDA."""
        ...

    @property
    def gpus(self) -> Sequence["Gpu"]:
        """The GPUs that can be leased to jobs."""
        ...

    @property
    def booking(self) -> str | None:
        """The booking that it is in."""
        ...

    @property
    def booker(self) -> str | None:
        """The account that booked it."""
        ...


def _model(needs: Needs, offer: Offer) -> bool:
    if needs.model is None:
        return True
    served = offer.models.get(needs.kind, ())
    return needs.model in served or any_image(needs.kind, needs.model) in served


def _context(needs: Needs, offer: Offer) -> bool:
    """Whether its model takes so many tokens, as far as anybody says."""
    facts = _facts(needs, offer)
    return not needs.context or facts.context is None or facts.context >= needs.context


def _pictures(needs: Needs, offer: Offer) -> bool:
    """Whether its model takes pictures, as far as anybody says."""
    facts = _facts(needs, offer)
    return not needs.pictures or facts.modalities is None or IMAGE in facts.modalities


def _facts(needs: Needs, offer: Offer) -> ModelFacts:
    return UNKNOWN if needs.model is None else offer.model_facts.get(needs.model, UNKNOWN)


def any_image(kind: str, model: str) -> str | None:
    """What miners announce that run any image, where a container asks for one by its digest; else none."""
    if kind != "container" or not model.startswith("sha256:"):
        return None
    return "any+network" if model.endswith("+network") else "any"


def _gpu_model(needs: Needs, offer: Offer) -> bool:
    if needs.gpu_model is None:
        return True
    wanted = needs.gpu_model
    return any(is_named(model, wanted) for model in offer.gpu_models)


def _models(needs: Needs, offer: Offer) -> bool:
    served = offer.models.get(needs.kind, ())
    return all(model in served for model in needs.models)


class Gpu(Protocol):
    """A GPU or several that are alike, as far as jobs ask for one."""

    @property
    def count(self) -> int:
        """How many there are that can be leased."""
        ...

    @property
    def verified(self) -> bool:
        """Whether a proof has measured it."""
        ...

    @property
    def name(self) -> str | None:
        """What its driver calls it."""
        ...

    @property
    def memory_mib(self) -> int:
        """What work can have of its memory."""
        ...

    @property
    def compute_capability(self) -> str | None:
        """What its processors can do: `9.0`."""
        ...


def gpu_fits(needs: Needs, gpu: Gpu) -> bool:
    """Whether a GPU is one that a job asks for, whoever has it now."""
    return (
        gpu.memory_mib >= max(needs.min_vram_mib, needs.vram_mib)
        and (needs.gpu_model is None or (gpu.name is not None and is_named(gpu.name, needs.gpu_model)))
        and (gpu.verified or not needs.verified)
        and _is_capable(needs, gpu)
    )


def _is_capable(needs: Needs, gpu: Gpu) -> bool:
    if needs.min_compute_capability is None:
        return True
    return gpu.compute_capability is not None and _version(gpu.compute_capability) >= _version(
        needs.min_compute_capability
    )


@lru_cache(maxsize=256)
def _version(text: str) -> tuple[int, ...]:
    """`9.0` as numbers; what is none counts as nothing."""
    return tuple(int(part) if part.isascii() and part.isdecimal() else 0 for part in text.split("."))


def _gpus(needs: Needs, offer: Offer) -> bool:
    return not needs.gpus or sum(gpu.count for gpu in offer.gpus if gpu_fits(needs, gpu)) >= needs.gpus


def _min_compute_capability(needs: Needs, offer: Offer) -> bool:
    return needs.min_compute_capability is None or any(gpu.count and _is_capable(needs, gpu) for gpu in offer.gpus)


def _vram_mib(needs: Needs, offer: Offer) -> bool:
    return not needs.vram_mib or any(gpu.count and gpu.memory_mib >= needs.vram_mib for gpu in offer.gpus)


def _cuda(needs: Needs, offer: Offer) -> bool:
    """Whether the version is the one that is asked for, as far as that goes: 12 is 12.4, and 11.8 is not 11.80."""
    if needs.cuda is None:
        return True
    wanted = needs.cuda.split(".")
    return offer.cuda is not None and offer.cuda.split(".")[: len(wanted)] == wanted


def _miner(needs: Needs, offer: Offer) -> bool:
    """Whether it is the one that is named: claims are looked at by who makes them, see `batched/seats.py`."""
    return needs.miner is None or getattr(offer, "id", needs.miner) == needs.miner


FILTERS: tuple[tuple[str, Callable[[Needs, Offer], bool]], ...] = (
    ("miner", _miner),
    ("kind", lambda needs, offer: needs.kind in offer.kinds),
    ("program", lambda needs, offer: needs.program is None or needs.program in offer.programs),
    ("model", _model),
    ("device", lambda needs, offer: needs.device is None or needs.device == offer.device),
    ("gpu_model", _gpu_model),
    ("min_vram_mib", lambda needs, offer: needs.min_vram_mib <= offer.vram_mib),
    ("region", lambda needs, offer: needs.region is None or needs.region == offer.region),
    ("models", _models),
    ("context", _context),
    ("pictures", _pictures),
    ("cuda", _cuda),
    ("min_compute_capability", _min_compute_capability),
    ("vram_mib", _vram_mib),
    ("verified", lambda needs, offer: not needs.verified or any(gpu.count and gpu.verified for gpu in offer.gpus)),
    ("gpus", _gpus),
    # Both ways: what is for a booking goes nowhere else, and nothing else goes to a miner that is booked.
    ("booking", lambda needs, offer: needs.booking == offer.booking and needs.booker == offer.booker),
)
"""Every condition by name, in the order in which `explain` counts them."""


def matches(needs: Needs, offer: Offer) -> bool:
    """Whether a miner can take a job with these needs."""
    return all(passes(needs, offer) for _, passes in FILTERS)


@lru_cache(maxsize=4096)
def lane_of(needs: Needs) -> UUID:
    """The lane of some needs: 128 bits of the digest of their text."""
    return UUID(bytes=hashlib.sha256(needs_text(needs).encode()).digest()[:16])


def needs_text(needs: Needs) -> str:
    """The canonical text of some needs."""
    return msgspec.json.encode(needs, order="sorted").decode()


@lru_cache(maxsize=4096)
def needs_of(text: str) -> Needs:
    """The needs behind their text."""
    return msgspec.json.decode(text, type=Needs)


def rank_after(lane_rank: int, tag: int, priority: int) -> tuple[int, int]:
    """The rank of a new job of a flow, and the flow's next tag."""
    rank = max(lane_rank, tag)
    return rank, rank + STEP // WEIGHTS[priority]


def explores(job: UUID) -> bool:
    """Whether this job belongs to the newcomers' share; decided by its random bits, so that nobody chooses."""
    return (job.int & 0xFFFF_FFFF) % EXPLORE_ONE_IN == 0
