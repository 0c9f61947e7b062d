"""Whether two engines run one model: log-probabilities of tokens told while decoding, against those of a prefill; pure.

Honest engines differ: with each other, and each with itself, since decoding and prefill round differently. So a single
token proves nothing; the mean over many does, against a tolerance that was measured for the model.
"""

import random
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

POSITIONS_MIN = 20
"""Fewer checked positions prove nothing."""
PROMPTS_MIN = 4
"""They must be spread over so many prompts."""
POSITIONS_MORE = 40
"""How many more are checked where the mean lies between passing and failing."""
PASSES_MIN = 0.10
"""No tolerance is narrower: honest storage of the same weights in another form had a mean of 0.059 in 160 positions."""
FAILS_RATIO = 1.3
"""How much above the passing mean a mean fails."""
MARGIN = 1.15
"""How far above the highest mean of honest draws the passing mean lies."""
DRAWS = 5_000
ACCUSED_ONE_IN = 1_000
PASSED, FAILED, MORE = "passed", "failed", "more"


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """What is allowed for a model, and the measurement that says so."""

    model: str
    passes: float
    """A mean up to this passes."""
    fails: float
    """A mean above this fails; between the two more positions are checked."""
    positions: int
    prompts: int
    mean: float
    p95: float
    p99: float
    most: float
    """The mean, two percentiles and the most of the differences that were measured, in natural logarithms."""
    accused: float
    """The share of honest draws of 20 positions out of the measurement that would fail."""

    def told(self) -> dict[str, Any]:
        """As it is written to a file."""
        return asdict(self)


def tolerance_of(model: str, by_prompt: Sequence[Sequence[float]], *, seed: int = 1) -> Tolerance:
    """The tolerance for a model, from the differences that an honest pair of engines has, by prompt.

    Raises `ValueError` for fewer than 20 positions or 4 prompts.
    """
    found = sorted(value for prompt in by_prompt for value in prompt)
    prompts = sum(1 for prompt in by_prompt if prompt)
    require_enough(len(found), prompts)
    chance = random.Random(seed)
    means = sorted(statistics.fmean(chance.choices(found, k=POSITIONS_MIN)) for _ in range(DRAWS))
    highest = means[-max(DRAWS // ACCUSED_ONE_IN, 1)]
    passes = round(max(PASSES_MIN, highest * MARGIN), 4)
    fails = round(passes * FAILS_RATIO, 4)
    return Tolerance(
        model=model,
        passes=passes,
        fails=fails,
        positions=len(found),
        prompts=prompts,
        mean=round(statistics.fmean(found), 4),
        p95=round(found[int(len(found) * 0.95)], 4),
        p99=round(found[min(int(len(found) * 0.99), len(found) - 1)], 4),
        most=round(found[-1], 4),
        accused=sum(mean > fails for mean in means) / DRAWS,
    )


def judged(passes: float, fails: float, differences: Sequence[float], *, prompts: int) -> str:
    """`passed`, `failed`, or `more` where 40 more positions are to be checked. Raises `ValueError` for too few."""
    require_enough(len(differences), prompts)
    mean = statistics.fmean(differences)
    if mean <= passes:
        return PASSED
    return FAILED if mean > fails else MORE


def require_enough(positions: int, prompts: int) -> None:
    """Raises `ValueError` for fewer positions or prompts than prove anything."""
    if positions < POSITIONS_MIN or prompts < PROMPTS_MIN:
        raise ValueError(
            f"{positions} positions of {prompts} prompts prove nothing; "
            f"at least {POSITIONS_MIN} of {PROMPTS_MIN} prompts are needed"
        )
