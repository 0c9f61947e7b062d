"""A trusted plugin: no job of this house costs more than a hundred AITBC, and a route says so."""

from collections.abc import Awaitable, Callable

from aitbc.kernel.hooks.points import VALIDATE_SUBMISSION, Refusal, Submission
from aitbc.kernel.hooks.routes import RouteAnswer, RouteAsked, plugin_route
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


@plugin_route("limits", summary="The most that a job of this house may cost.")
def limits(asked: RouteAsked) -> RouteAnswer:
    """Answer GET /api/v1/plugins/routes/house-rules/limits."""
    return RouteAnswer(body={"max_price": str(MOST_UNITS // 10**8), "asked_by": asked.account})
