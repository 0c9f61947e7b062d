"""Whether an answer was made by the model that it names, by how likely another engine finds its tokens; pure.

Honest engines differ, so that no text and no single token convicts anybody: the mean over many positions of several
prompts does, within a tolerance that was measured for the model (docs/verification.md).
"""

import statistics
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any

from msgspec import Struct

from aitbc.modules.ai.api.verification import CheckedToken
from aitbc.modules.ai.models.kinds.chat import ChatOutput, Evaluated
from aitbc.modules.ai.models.kinds.chat_input import BYTES_PER_TOKEN_MAX
from aitbc.modules.ai.models.kinds.kind import OutputRefused

POSITIONS_MAX = 40
"""So many tokens of an answer are checked at most."""
POSITIONS_MIN = 20
"""Of fewer positions in all, a part of the mean counts that is as large as theirs of these."""
PROMPTS_MIN = 4
"""What is not known of so many prompts counts as equal."""
POSITIONS_OF_A_PROMPT = POSITIONS_MIN // PROMPTS_MIN
RECENT = 12
"""The last checks of a miner's model that count together."""
FAILS_RATIO = 1.3
"""How much above the passing mean a mean fails, as `aitbc verify calibrate` has it."""
DIFFERENCE_MAX = 20.0
"""No difference counts more, in natural logarithms."""
MISSED = 1.0
"""What a token counts that the checking engine would not cut there."""
LIKELIHOOD_LEAST = -1e9
LIKELIHOOD_ROUNDING = 0.01
"""How far above zero a log-probability may lie that was rounded."""


class Finding(StrEnum):
    """What the check of one answer found."""

    VALID = "valid"
    """It differs no more than those of honest engines do."""
    WRONG = "wrong"
    """So do the last ones of the same miner and model, together: another model made them."""
    UNCLEAR = "unclear"
    """It differs more, but there is too little evidence to accuse anybody."""


class Measured(Struct, frozen=True):
    """What one check measured."""

    positions: int
    mean: float
    """The mean of the absolute differences, in natural logarithms."""


def tokens_in(text: str, logprobs: Any) -> list[CheckedToken]:
    """The tokens of an answer's text with the likelihoods that its miner tells, by their bytes within the text.

    Raises `OutputRefused` where they are not the tokens of just this text.
    """
    told = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not isinstance(told, list) or not told:
        raise OutputRefused("it does not say how likely its tokens were, which the check of a chat needs")
    pieces = [(_bytes_of(one), _likelihood_of(one)) for one in told]
    spoken, content = b"".join(piece for piece, _ in pieces), text.encode()
    before = spoken.find(content)
    if not content or before < 0 or spoken[:before].strip() or len(pieces) * BYTES_PER_TOKEN_MAX < len(content):
        raise OutputRefused("the tokens that it tells are not those of its text")
    found, at = [], -before
    for piece, likelihood in pieces:
        if at >= 0 and piece and at + len(piece) <= len(content):
            found.append(CheckedToken(start=at, end=at + len(piece), likelihood=likelihood))
        at += len(piece)
    return found


def _bytes_of(token: Any) -> bytes:
    values = token.get("bytes") if isinstance(token, dict) else None
    try:
        return bytes(values) if isinstance(values, list) else str(token["token"]).encode()
    except (TypeError, ValueError, KeyError, OverflowError):
        raise OutputRefused("a token that it tells cannot be read") from None


def _likelihood_of(token: Any) -> float:
    value = token.get("logprob") if isinstance(token, dict) else None
    if not isinstance(value, int | float) or not LIKELIHOOD_LEAST <= value <= LIKELIHOOD_ROUNDING:
        raise OutputRefused("a token that it tells has no log-probability")
    return float(value)


def chosen(tokens: Sequence[CheckedToken], sample: Callable[[int, int], list[int]]) -> tuple[CheckedToken, ...]:
    """The tokens to be checked, in their order; `sample` draws so many of the first so many whole numbers."""
    if len(tokens) <= POSITIONS_MAX:
        return tuple(tokens)
    return tuple(tokens[at] for at in sorted(sample(len(tokens), POSITIONS_MAX)))


def measure(tokens: Sequence[CheckedToken], found: Sequence[Evaluated], *, is_greedy: bool) -> Measured | None:
    """How far two engines lie apart; none where nothing was checked.

    A greedy answer has the likeliest token everywhere, but where honest engines hardly tell two apart: how far it is
    from that counts too, so that it does not help to tell what the right model would have said of other tokens.
    """
    told = {token.start: token.likelihood for token in tokens}
    apart = [_apart(told[one.start], one, is_greedy=is_greedy) for one in found if one.start in told]
    return Measured(len(apart), round(statistics.fmean(apart), 4)) if apart else None


def _apart(told: float, found: Evaluated, *, is_greedy: bool) -> float:
    if found.likelihood is None:
        return MISSED
    behind = found.most - found.likelihood if is_greedy and found.most is not None else 0.0
    return min(max(abs(told - found.likelihood), behind), DIFFERENCE_MAX)


def judge(passes: float, own: Measured | None, recent: Sequence[Measured]) -> Finding:
    """The finding on one answer, with the last checks of the same miner and model, the newest first.

    An answer that lies within the tolerance by itself is valid. One that does not is wrong only where the mean of the
    last prompts, each counted once, fails too. What is not known counts as equal: so one answer alone is wrong only
    where it differs four times as much.
    """
    if own is None:
        return Finding.UNCLEAR
    if _padded(own) <= passes:
        return Finding.VALID
    known = [own, *recent[: RECENT - 1]]
    mean = sum(map(_padded, known)) / max(len(known), PROMPTS_MIN)
    share = min(sum(one.positions for one in known) / POSITIONS_MIN, 1.0)
    return Finding.WRONG if mean * share > passes * FAILS_RATIO else Finding.UNCLEAR


def _padded(one: Measured) -> float:
    """The mean of a prompt, as if those of few positions had more of them that are equal."""
    return one.mean * min(one.positions / POSITIONS_OF_A_PROMPT, 1.0)


def recent_of(words: str) -> list[Measured]:
    """The last checks out of a record, the newest first."""
    pairs = (word.partition(":") for word in words.split())
    return [Measured(int(positions), float(mean)) for positions, _, mean in pairs]


def word_of(one: Measured) -> str:
    """A check as a record has it."""
    return f"{one.positions}:{one.mean}"


def require_evaluable(output: ChatOutput, *, is_evaluation: bool) -> None:
    """Raises `OutputRefused` for an answer that cannot be checked, and for a check that evaluates nothing."""
    if is_evaluation != (output.evaluation is not None):
        wanted = "it does not evaluate the answer" if is_evaluation else "it evaluates an answer where none is to be"
        raise OutputRefused(f"{wanted} that the lease names")
    if not is_evaluation:
        tokens_in(output.message.content, output.logprobs)
