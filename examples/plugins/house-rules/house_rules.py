"""A trusted plugin: no job of this house costs more than a hundred AITBC."""

from collections.abc import Awaitable, Callable

from aitbc.kernel.hooks.points import VALIDATE_SUBMISSION, Refusal, Submission
from aitbc.kernel.hooks.trusted import plugin_hook

MOST_UNITS = 100 * 10**8
"""In minor units."""


@plugin_hook(VALIDATE_SUBMISSION, wraps=True)
async def rules(
    submission: Submission, inner: Callable[[Submission], Awaitable[Refusal | None]]
) -> Refusal | None:
    """Refuse what is too expensive, and ask the other plugins about the rest."""
    if submission.max_price_units > MOST_UNITS:
        return Refusal(reason="no job of this house may cost more than 100 AITBC")
    return await inner(submission)
