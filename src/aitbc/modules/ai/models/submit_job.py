"""What a client asks for when it submits a job."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from aitbc.kernel.primitives.text import Name
from aitbc.modules.ai.api import Clocks

BookingId = Annotated[
    str,
    Meta(max_length=31, pattern=r"^book_[0-9a-z]{26}\Z"),
    Meta(extra_json_schema={"pattern": "^book_[0-9a-z]{26}$", "examples": ["book_01kb2c3d4e5f6g7h8j9kamnpqr"]}),
]


_CUDA = Meta(extra_json_schema={"pattern": r"^[0-9]{1,4}(\.[0-9]{1,4}){0,2}$", "examples": ["12"]})


class Requirements(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a miner must have."""

    device: Literal["cpu", "gpu"] | None = None
    gpu_model: Name | None = None
    """A part of the GPU's name, in any case: `h100`."""
    min_vram_mib: Annotated[int, Meta(ge=0, le=16_777_216)] = 0
    region: Name | None = None
    model: Name | None = None
    models: Annotated[tuple[Name, ...], Meta(max_length=16)] = ()
    """Models that it must serve beside the one that the job names."""
    cuda: Annotated[str, Meta(max_length=16, pattern=r"^[0-9]{1,4}(\.[0-9]{1,4}){0,2}\Z"), _CUDA] | None = None
    """A version of CUDA that it must have, as exact as it matters: `12`, or `12.4`."""
    booking: BookingId | None = None
    """A booking of yours: the job goes to the GPU that you booked and nowhere else. It costs one minor unit, for
    the booking
    pays."""


class RetryPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When to try again."""

    attempts_max: Annotated[int, Meta(ge=1, le=10)] = 3
    requester_faults: bool = False
    """Try again even where the work itself failed, for instance a program that ended with an exit code other than 0."""


class SubmitJob(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A job to be done, and the most it may cost."""

    kind: Annotated[str, Meta(max_length=40, examples=["embed"])]
    input: Annotated[dict[str, Any], Meta(examples=[{"texts": ["A sentence to embed."]}])]
    max_price: Annotated[str, Meta(max_length=40, examples=["0.05"])]
    requirements: Requirements = Requirements()
    priority: Literal["low", "normal", "high", "urgent"] | Annotated[int, Meta(ge=0, le=9)] = "normal"
    """A name, or 0 (least) to 9 (most urgent): the weight of the job in its account's share."""
    clocks: Clocks = Clocks()
    retry: RetryPolicy = RetryPolicy()
