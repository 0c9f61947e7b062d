"""How a job is verified, as its owner sees it."""

from typing import Annotated

from msgspec import Struct

from aitbc.kernel.primitives.json_schema import one_of


class JobVerification(Struct, frozen=True, kw_only=True):
    """How a job is verified, and what that found."""

    tier: str
    """What was asked for. For example `quorum:3`."""
    verdict: Annotated[str, one_of(("valid", "trusted", "unchecked", "no_majority"))] | None
    """What was found; null before the end. For example `valid`."""
    rule: str
    """When two answers agree. For example `The same exit code and the same standard output, byte for byte.`."""
    answers: int
    """How many answers were compared; 0 before the verdict. For example `3`."""
    agreeing: int
    """How many of them agree with the one that was taken. For example `3`."""
