"""What a miner offers: the terms that jobs are matched by, within limits."""

import functools
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from aitbc.kernel.primitives.text import Name
from aitbc.modules.ai.api import Capabilities, ModelFacts
from aitbc.modules.gpu.api import Inventory, Label, MachineOffer
from aitbc.modules.gpu.models.devices import Shown, is_such

Word = Annotated[
    str,
    Meta(max_length=40, pattern=r"^[a-z][a-z0-9_-]*\Z"),
    Meta(extra_json_schema={"pattern": "^[a-z][a-z0-9_-]*$", "examples": ["embed"]}),
]
Model = Annotated[
    str,
    Meta(max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._:/@+()-]*\Z"),
    Meta(extra_json_schema={"pattern": r"^[A-Za-z0-9][A-Za-z0-9 ._:/@+()-]*$", "examples": ["llama3.2:3b"]}),
]
Program = Annotated[
    str,
    Meta(max_length=40, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\Z"),
    Meta(extra_json_schema={"pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$", "examples": ["wc"]}),
]
Quantization = Annotated[
    str,
    Meta(max_length=24, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\Z"),
    Meta(extra_json_schema={"pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$", "examples": ["Q4_K_M"]}),
]
# Together these stay below what an event may carry.
KINDS_MAX = 8
MODELS_MAX = 64
GPU_MODELS_MAX = 8
PROGRAMS_MAX = 64
MODEL_FACTS_MAX = 24
TOLD_BYTES_MAX = 52 * 1024
"""What models and what is known of them may have together, as JSON."""


class ToldModel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a miner says of a model that it serves; what it does not know it leaves out."""

    context: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    """How many tokens one conversation may have, its answer included. For example `8192`."""
    modalities: Annotated[tuple[Literal["text", "image", "audio"], ...], Meta(max_length=3)] | None = None
    """What it takes. For example `["text", "image"]`."""
    quantization: Quantization | None = None
    """How its weights are stored. For example `Q4_K_M`."""

    @property
    def facts(self) -> ModelFacts:
        """As a profile keeps it."""
        takes = None if self.modalities is None else tuple(sorted(set(self.modalities)))
        return ModelFacts(context=self.context, modalities=takes, quantization=self.quantization)


class Offer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a miner can take."""

    kinds: Annotated[tuple[Word, ...], Meta(min_length=1, max_length=KINDS_MAX)]
    """The kinds of work that it takes. For example `["chat", "embed"]`."""
    models: Annotated[
        dict[Word, Annotated[tuple[Model, ...], Meta(max_length=MODELS_MAX)]], Meta(max_length=KINDS_MAX)
    ] = {}
    """The models that it serves, by kind; a kind that is absent takes only jobs that name no model."""
    model_facts: Annotated[dict[Model, ToldModel], Meta(max_length=MODEL_FACTS_MAX)] = {}
    """What is known of some of these models, by name. For example `{"llama3.2:3b": {"context": 8192}}`."""
    device: Literal["cpu", "gpu"] = "cpu"
    """What it works on."""
    gpu_models: Annotated[tuple[Label, ...], Meta(max_length=GPU_MODELS_MAX)] = ()
    """The names of its GPUs. For example `["NVIDIA H100 80GB HBM3"]`."""
    vram_mib: Annotated[int, Meta(ge=0, le=16_777_216)] = 0
    """The largest memory of a single GPU, in MiB."""
    cuda: Label | None = None
    """The version of CUDA; left out, what its inventory says."""
    region: Name | None = None
    """Where it is. For example `eu-central`."""
    programs: Annotated[tuple[Program, ...], Meta(max_length=PROGRAMS_MAX)] = ()
    """For kind `command`: the names of the programs its operator allows."""
    machine: MachineOffer | None = None
    """What it gives as a machine to who has it booked; left out, nothing is known of it."""

    def __post_init__(self) -> None:
        if self.model_facts and len(msgspec.json.encode((self.models, self.model_facts))) > TOLD_BYTES_MAX:
            raise ValueError(f"models and model_facts together may have {TOLD_BYTES_MAX} bytes")

    @property
    def stored_machine(self) -> str | None:
        """What it gives as a machine, as a profile keeps it."""
        return None if self.machine is None else msgspec.json.encode(self.machine).decode()

    def stored(self, inventory: Inventory) -> str:
        """As a profile keeps it, and as `capabilities_of` reads it: equal offers are equal text."""
        told = Capabilities(
            kinds=tuple(sorted(set(self.kinds))),
            models={kind: tuple(sorted(set(models))) for kind, models in sorted(self.models.items())},
            model_facts={name: told.facts for name, told in sorted(self.model_facts.items())},
            device=self.device,
            gpu_models=tuple(sorted(set(self.gpu_models))),
            vram_mib=self.vram_mib,
            cuda=self.cuda or cuda_of(inventory),
            region=self.region,
            programs=tuple(sorted(set(self.programs))),
        )
        offered = msgspec.to_builtins(told)
        # Who has it booked is no part of what it offers; its GPUs are what it shows; its hours come with each poll.
        for passing in ("booking", "booker", "gpus", "run_seconds_max"):
            del offered[passing]
        for unknown in ("cuda", "model_facts"):
            if not offered[unknown]:
                del offered[unknown]
        return msgspec.json.encode(offered).decode()


def cuda_of(inventory: Inventory) -> str | None:
    """The version of CUDA that the devices are reached by: the first that one of them states."""
    told = (device.runtime_version for device in inventory.devices if device.type in (None, "cuda"))
    return next((version for version in told if version), None)


@functools.lru_cache(maxsize=4096)
def capabilities_of(stored: str, shown: str | None = None) -> Capabilities:
    """What a profile keeps, in the terms of jobs, as far as it is believed; read once for all miners that offer the
    same."""
    offered = msgspec.json.decode(stored, type=Capabilities)
    return offered if shown is None else within(offered, msgspec.json.decode(shown, type=Shown))


def within(offered: Capabilities, shown: Shown) -> Capabilities:
    """An offer, less the GPUs that its miner does not show or that have a fault."""
    largest = offered.vram_mib if shown.vram_mib is None else min(offered.vram_mib, shown.vram_mib)
    return msgspec.structs.replace(
        offered,
        device=offered.device if shown.gpus else "cpu",
        gpu_models=tuple(model for model in offered.gpu_models if _is_shown(model, shown)),
        vram_mib=largest if shown.gpus else 0,
        gpus=shown.leasable,
    )


def _is_shown(model: str, shown: Shown) -> bool:
    return model in shown.names or any(is_such(model, name) for name in shown.names)
