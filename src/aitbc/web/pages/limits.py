"""Limits of one's account: budgets, and how many requests go on at once and in a minute."""

from collections.abc import Mapping
from typing import Any

from litestar import Controller, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from aitbc.kernel.primitives.errors import AppError
from aitbc.kernel.primitives.ids import new_uuid
from aitbc.web.visit import READ, SEND, Visit, faults_of, part, see

BUDGETS = "/api/v1/trading/budgets"
RATE_LIMITS = "/api/v1/ai/rate-limits"
RATES = ("requests_per_minute", "tokens_per_minute", "concurrency")
LISTED = 100


class LimitPages(Controller):
    """Budgets and rate limits."""

    path = "/account/limits"
    include_in_schema = False

    @get("/", opt=READ)
    async def limits(self, visit: NamedDependency[Visit]) -> Response[bytes]:
        """What may be spent and asked for, and how much of it is used."""
        return await _page(visit)

    @post("/budgets", opt=SEND)
    async def set_budget(self, visit: NamedDependency[Visit]) -> Response[bytes]:
        """Limit what one's account spends."""
        form = await visit.form()
        try:
            await visit.send(BUDGETS, form.given("limit", "period", "key", "model"), once=form.get("once") or None)
        except AppError as refusal:
            return await _page(visit, error=refusal, values=form.fields)
        return see("/account/limits")

    @post("/rates", opt=SEND)
    async def set_rate(self, visit: NamedDependency[Visit]) -> Response[bytes]:
        """Limit the requests of one's account."""
        form = await visit.form()
        try:
            body: dict[str, Any] = {name: form.whole(name) for name in RATES if form.get(name)}
            await visit.send(RATE_LIMITS, body | form.given("key", "model"), once=form.get("once") or None)
        except AppError as refusal:
            return await _page(visit, error=refusal, values=form.fields)
        return see("/account/limits")

    @post("/budgets/{budget:str}/change", opt=SEND)
    async def change_budget(self, visit: NamedDependency[Visit], budget: FromPath[str]) -> Response[bytes]:
        """Give a budget another limit."""
        form = await visit.form()
        try:
            await visit.send(f"{BUDGETS}/{part(budget)}", {"limit": form.get("limit")}, method="PUT")
        except AppError as refusal:
            return await _page(visit, error=refusal)
        return see("/account/limits")

    @post("/budgets/{budget:str}/remove", opt=SEND)
    async def remove_budget(self, visit: NamedDependency[Visit], budget: FromPath[str]) -> Response[bytes]:
        """Remove a budget."""
        await visit.form()
        await visit.send(f"{BUDGETS}/{part(budget)}", method="DELETE")
        return see("/account/limits")

    @post("/rates/{rate_limit:str}/remove", opt=SEND)
    async def remove_rate(self, visit: NamedDependency[Visit], rate_limit: FromPath[str]) -> Response[bytes]:
        """Remove a rate limit."""
        await visit.form()
        await visit.send(f"{RATE_LIMITS}/{part(rate_limit)}", method="DELETE")
        return see("/account/limits")


async def _page(
    visit: Visit, *, error: AppError | None = None, values: Mapping[str, str] | None = None
) -> Response[bytes]:
    keys = await visit.maybe("/api/v1/identity/keys", scope="keys:manage", account=visit.who.account, limit=LISTED)
    return visit.page(
        "identity/limits.html",
        budgets=(await visit.get(BUDGETS, limit=LISTED))["data"],
        rates=await visit.maybe(RATE_LIMITS, scope="jobs:read", limit=LISTED),
        keys=[key for key in keys["data"] if not key["revoked_at"]] if keys else [],
        values=values or {},
        once=new_uuid().hex,
        error=error,
        faults=faults_of(error) if error else {},
        status=error.status if error else 200,
        cli=["aitbc budget list", "aitbc budget set 20 --period month", "aitbc budget remove BUDGET"],
    )
