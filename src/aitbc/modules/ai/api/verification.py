"""How a job is verified, as its owner sees it, and what a trusted miner is asked to check."""

from typing import Annotated

from msgspec import Struct

from aitbc.kernel.primitives.json_schema import one_of


class JobVerification(Struct, frozen=True, kw_only=True):
    """How a job is verified, and what that found."""

    tier: str
    """What was asked for. For example `quorum:3`."""
    verdict: Annotated[str, one_of(("valid", "unclear", "trusted", "unchecked", "no_majority"))] | None
    """What was found; null before the end. For example `valid`."""
    rule: str
    """When two answers agree. For example `The same exit code and the same standard output, byte for byte.`."""
    answers: int
    """How many answers were compared; 0 before the verdict. For example `3`."""
    agreeing: int
    """How many of them agree with the one that was taken. For example `3`."""


class CheckedToken(Struct, frozen=True, kw_only=True):
    """A token of an answer that is checked, by its place in the text."""

    start: int
    """At which byte of the text in UTF-8 it begins. For example `0`."""
    end: int
    """The byte behind it. For example `5`."""
    likelihood: float
    """The natural logarithm of how likely the miner that answered said it was. For example `-0.21`."""


class LeaseCheck(Struct, frozen=True, kw_only=True):
    """The answer of another miner that a trusted one is to check, instead of doing the work anew."""

    text: str
    """The answer. For example `Paris.`."""
    tokens: tuple[CheckedToken, ...]
    """The tokens of it that are to be checked, in their order."""
    passes: float
    """Up to this mean of differences they are honest; beyond it the checking miner answers itself too. For example
    `0.1`."""
