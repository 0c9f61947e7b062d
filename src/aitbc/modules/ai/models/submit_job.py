"""What a client asks for when it submits a job."""

from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, Struct

from aitbc.kernel.primitives.json_schema import Tagged
from aitbc.kernel.primitives.text import Name
from aitbc.modules.ai.api import Clocks
from aitbc.modules.ai.models.checks.tiers import TierName
from aitbc.modules.ai.models.kinds.registry import KINDS

BookingId = Annotated[
    str,
    Meta(max_length=31, pattern=r"^book_[0-9a-z]{26}\Z"),
    Meta(extra_json_schema={"pattern": "^book_[0-9a-z]{26}$", "examples": ["book_01kb2c3d4e5f6g7h8j9kamnpqr"]}),
]


_CAPABILITY = Meta(extra_json_schema={"pattern": r"^[0-9]{1,2}\.[0-9]{1,2}$", "examples": ["8.0"]})
_CUDA = Meta(extra_json_schema={"pattern": r"^[0-9]{1,4}(\.[0-9]{1,4}){0,2}$", "examples": ["12"]})


GPUS_MAX = 16
"""The most GPUs that one job may have."""


class Requirements(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a miner must have."""

    device: Literal["cpu", "gpu"] | None = None
    """What it must run on; left out, on either. For example `gpu`."""
    gpu_model: Name | None = None
    """A part of the GPU's name, in any case: `h100`."""
    min_vram_mib: Annotated[int, Meta(ge=0, le=16_777_216)] = 0
    """The memory that one GPU of it must have, in MiB. For example `24576`."""
    region: Name | None = None
    """Where it must be, as miners name it. For example `eu-central`."""
    model: Name | None = None
    """A model that it must serve for the job's kind. For example `llama-3-8b`."""
    models: Annotated[tuple[Name, ...], Meta(max_length=16)] = ()
    """Models that it must serve beside the one that the job names."""
    cuda: Annotated[str, Meta(max_length=16, pattern=r"^[0-9]{1,4}(\.[0-9]{1,4}){0,2}\Z"), _CUDA] | None = None
    """A version of CUDA that it must have, as exact as it matters: `12`, or `12.4`."""
    gpus: Annotated[int, Meta(ge=0, le=GPUS_MAX)] = 0
    """How many GPUs the program gets, each with nobody else on it, or with `vram_mib` a share of one; all of them are
    of one miner. A program that asks for nothing of a GPU sees none. For example `1`."""
    vram_mib: Annotated[int, Meta(ge=0, le=16_777_216)] = 0
    """A share of one GPU: so much of its memory, in MiB, is reserved for the program, which ends when it holds more.
    It counts what each process costs there by itself, about 630 MiB. For example `8192`."""
    min_compute_capability: (
        Annotated[str, Meta(max_length=5, pattern=r"^[0-9]{1,2}\.[0-9]{1,2}\Z"), _CAPABILITY] | None
    ) = None
    """The compute capability that its GPUs must have at least, as NVIDIA counts it: `8.0`."""
    verified: bool = False
    """Only GPUs that have proved within the last hours that they compute as their name says and have their memory."""
    booking: BookingId | None = None
    """A booking of yours: the job goes to the GPU that you booked and nowhere else. It costs one minor unit, for
    the booking
    pays."""


class RetryPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When to try again."""

    attempts_max: Annotated[int, Meta(ge=1, le=10)] = 3
    """How many attempts may be made at the job. For example `3`."""
    requester_faults: bool = False
    """Try again even where the work itself failed, for instance a program that ended with an exit code other than 0."""


class SubmitJob(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A job to be done, and the most it may cost."""

    tagged: ClassVar = Tagged("kind", {kind.name: {"input": kind.input} for kind in KINDS.values()})
    kind: Annotated[str, Meta(max_length=40, examples=["embed"])]
    """The kind of work, one of `GET /api/v1/ai/kinds`."""
    input: Annotated[dict[str, Any], Meta(examples=[{"texts": ["A sentence to embed."]}])]
    """What to work on, as the kind has it."""
    max_price: Annotated[str, Meta(max_length=40, examples=["0.05"])]
    """The most it may cost, in AITBC: so much is held until it ends."""
    requirements: Requirements = Requirements()
    """What a miner must have to take it."""
    verification: TierName = "none"
    """How the work is verified, which max_price covers too: not at all (`none`); now and then, as its miner has proved
    itself (`sampled`, at most twice the price); always, by a trusted miner that does it again (`recheck`, twice); or
    by several miners of different owners, of which more than half must agree (`quorum:3`, three times).
    """
    prefer: Literal["cheapest", "fastest", "balanced"] | None = None
    """Which of the miners that fit and have a slot free get it first: for three seconds it is kept for the `cheapest`,
    the `fastest` by what was measured of its paid jobs, or the one with the least price times seconds of a unit
    (`balanced`); then whoever fits takes it. Left out, whoever fits takes it at once.
    """
    priority: Literal["low", "normal", "high", "urgent"] | Annotated[int, Meta(ge=0, le=9)] = "normal"
    """A name, or 0 (least) to 9 (most urgent): the weight of the job in its account's share."""
    clocks: Clocks = Clocks()
    """How long it may take, in each part of its life."""
    retry: RetryPolicy = RetryPolicy()
    """When to try again."""
