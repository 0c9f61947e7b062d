"""The HTTP of rate limits."""

from litestar import Controller, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.http.positions import after_id
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.pagination import Cursor, InvalidCursor, Limit, Page
from aitbc.modules.ai.models.views import RateLimitView
from aitbc.modules.ai.service.rate_limits import (
    RateLimitNotFound,
    RateLimits,
    SetByOperator,
    SetRateLimit,
    TooManyRateLimits,
)

LIST = "rate_limits"


class RateLimitController(Controller):
    """Limits on how much is asked at a time."""

    path = "/rate-limits"
    tags = ("ai",)

    @post(
        "/",
        operation_id="set_rate_limit",
        summary="Limit requests",
        opt={
            "permission": "limits:write",
            "idempotency": "required",
            "errors": (SetByOperator, TooManyRateLimits),
        },
    )
    async def set(
        self,
        rate_limits: NamedDependency[RateLimits],
        who: NamedDependency[Principal],
        once: NamedDependency[IdempotencyKey],
        data: JSONBody[SetRateLimit],
    ) -> RateLimitView:
        """Limit the requests of the caller's account: of all, of one API key, for one model, or of one key for one.

        Operators limit any account; its owner cannot remove what they set.
        """
        return await rate_limits.set(who, data, once)

    @get(
        "/",
        operation_id="list_rate_limits",
        summary="List rate limits",
        opt={"permission": "jobs:read", "errors": (InvalidCursor,)},
    )
    async def list_limits(
        self,
        rate_limits: NamedDependency[RateLimits],
        who: NamedDependency[Principal],
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[RateLimitView]:
        """List the limits on the caller's account; operators see those of all accounts."""
        after = after_id(LIST, cursor, "rlim")
        found = await rate_limits.page(who, limit=limit + 1, after=after)
        return Page.of(LIST, found, limit, lambda one: one.id)

    @delete(
        "/{rate_limit:str}",
        status_code=200,
        operation_id="remove_rate_limit",
        summary="Remove a rate limit",
        opt={
            "permission": "limits:write",
            "idempotency": "natural",
            "errors": (RateLimitNotFound, SetByOperator),
        },
    )
    async def remove(
        self,
        rate_limits: NamedDependency[RateLimits],
        who: NamedDependency[Principal],
        rate_limit: FromPath[str],
    ) -> RateLimitView:
        """Limit nothing by it any more."""
        return await rate_limits.remove(who, rate_limit)
