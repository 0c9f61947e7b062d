"""Verdicts: what follows from the answers to a job that is verified; pure."""

from collections.abc import Sequence
from enum import StrEnum

from msgspec import Struct

from aitbc.modules.ai.models.checks.tiers import RECHECK, SAMPLED, copies_of, is_quorum


class Verdict(StrEnum):
    """What verification found."""

    VALID = "valid"
    """Enough answers agree with the one that was taken."""
    UNCLEAR = "unclear"
    """The answer differs from what was evaluated by more than honest ones mostly do; too little is known to accuse."""
    TRUSTED = "trusted"
    """A trusted miner did the work, so that nobody had to repeat it."""
    UNCHECKED = "unchecked"
    """A sampled job that was not drawn, or for which no trusted miner was there in time."""
    NO_MAJORITY = "no_majority"
    """No answer has more than half of the quorum behind it: nobody is paid."""


class Answer(Struct, frozen=True, kw_only=True):
    """One answer to a job, as far as the verdict goes by it."""

    attempt: str
    is_trusted: bool
    """Whether its miner was trusted when it took the job."""
    agrees_with: frozenset[str]
    """The attempts before it whose answers agree with its own."""
    is_unclear: bool = False
    """Whether it agrees only for want of evidence."""


class Decision(Struct, frozen=True, kw_only=True):
    """The verdict on some answers, and what becomes of each."""

    verdict: Verdict
    paid: tuple[str, ...] = ()
    """The attempts that are paid; the first has the answer that the job's owner gets."""
    wrong: tuple[str, ...] = ()
    """The attempts whose answers were found wrong, which is their miners' fault."""


def decide(tier: str, answers: Sequence[Answer], *, is_drawn: bool) -> Decision | None:
    """The verdict on the answers so far, in the order in which they came; none where another one is wanted.

    `is_drawn` says whether a sampled job is to be checked.
    """
    if is_quorum(tier):
        return _quorum(answers) if len(answers) >= copies_of(tier) else None
    assert tier in (SAMPLED, RECHECK)
    first = answers[0]
    if len(answers) == 1:
        if first.is_trusted:
            return Decision(verdict=Verdict.TRUSTED, paid=(first.attempt,))
        if tier == SAMPLED and not is_drawn:
            return Decision(verdict=Verdict.UNCHECKED, paid=(first.attempt,))
        return None
    check = answers[1]
    if first.attempt in check.agrees_with:
        verdict = Verdict.UNCLEAR if check.is_unclear else Verdict.VALID
        return Decision(verdict=verdict, paid=(first.attempt, check.attempt))
    return Decision(verdict=Verdict.VALID, paid=(check.attempt,), wrong=(first.attempt,))


def _quorum(answers: Sequence[Answer]) -> Decision:
    """The answer that most agree with, the earliest of several, once that is more than half of all."""
    following = {
        one.attempt: [other.attempt for other in answers if other.attempt == one.attempt or _agree(one, other)]
        for one in answers
    }
    best = max(answers, key=lambda one: len(following[one.attempt])).attempt
    agreeing = following[best]
    if len(agreeing) * 2 <= len(answers):
        return Decision(verdict=Verdict.NO_MAJORITY)
    return Decision(
        verdict=Verdict.VALID,
        paid=(best, *(attempt for attempt in agreeing if attempt != best)),
        wrong=tuple(one.attempt for one in answers if one.attempt not in agreeing),
    )


def _agree(one: Answer, other: Answer) -> bool:
    return one.attempt in other.agrees_with or other.attempt in one.agrees_with
