"""What miners have, in the face of ai: as jobs are matched by it, as leases bind GPUs, as attempts had them."""

from msgspec import Struct


class GpuClass(Struct, frozen=True, kw_only=True):
    """The GPUs of one miner that are alike, as jobs are matched by them."""

    name: str | None
    memory_mib: int
    """What work can have of the memory of each."""
    compute_capability: str | None
    """`9.0`; none where its driver does not say."""
    count: int
    verified: bool = False
    """Whether proofs have measured them."""


class ModelFacts(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a miner says of a model that it serves, beside its name; none where nobody says."""

    context: int | None = None
    """How many tokens one conversation may have, its answer included."""
    modalities: tuple[str, ...] | None = None
    """What it takes: `text`, `image`, `audio`."""
    quantization: str | None = None
    """How its weights are stored. For example `Q4_K_M`."""


class Capabilities(Struct, frozen=True, kw_only=True):
    """What a miner can take, in the terms that jobs are matched by."""

    kinds: tuple[str, ...]
    models: dict[str, tuple[str, ...]] = {}
    """The models that it serves, by kind; a kind that is absent takes only jobs that name no model."""
    model_facts: dict[str, ModelFacts] = {}
    """What is known of some of these, by name."""
    device: str = "cpu"
    """`cpu` or `gpu`."""
    gpu_models: tuple[str, ...] = ()
    vram_mib: int = 0
    """The largest memory of a single GPU."""
    region: str | None = None
    programs: tuple[str, ...] = ()
    """For kind `command`: the names of the programs its operator allows."""
    cuda: str | None = None
    """The version of CUDA; none where nothing is known of it."""
    gpus: tuple[GpuClass, ...] = ()
    """The GPUs that can be leased to jobs; none of a miner that does not name its devices."""
    run_seconds_max: int | None = None
    """How long work may take that it begins now; none sets no limit."""
    booking: str | None = None
    """The booking that the miner is in: it takes the jobs of that booking only, and only from who booked it."""
    booker: str | None = None


class LeasedDevice(Struct, frozen=True, kw_only=True):
    """A GPU that a lease has, whole or a share of its memory."""

    uuid: str
    """Its own id. For example `GPU-5b2c0c4e-8f5a-4a53-9d5b-7f1f2f6b3a10`."""
    index: int | None
    """Its number among the GPUs of its miner. For example `0`."""
    memory_mib: int
    """How much of its memory the job may hold, in MiB, what its processes cost there included. For example `24576`."""
    is_whole: bool
    """Whether no other job has it at the same time."""


class UsedDevice(Struct, frozen=True, kw_only=True):
    """A GPU that an attempt had."""

    index: int | None
    """Its number among the GPUs of its miner. For example `0`."""
    uuid_digest: str
    """SHA-256 of its uuid: the same GPU has the same. For example
    `sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08`."""
    name: str | None
    """What its driver calls it. For example `NVIDIA H100 80GB HBM3`."""
    memory_mib: int
    """How much of its memory the job might hold, in MiB. For example `24576`."""
    is_whole: bool
    """Whether no other job had it at the same time."""
