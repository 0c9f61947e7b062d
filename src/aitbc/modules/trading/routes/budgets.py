"""The HTTP of budgets."""

from typing import Annotated, Literal

from litestar import Controller, delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody
from msgspec import Meta, Struct

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.http.positions import after_id
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.errors import AmountOverflow
from aitbc.kernel.primitives.money import InvalidAmount, parse
from aitbc.kernel.primitives.pagination import Cursor, InvalidCursor, Limit, Page
from aitbc.kernel.primitives.text import Name
from aitbc.modules.trading.models.views import BudgetView
from aitbc.modules.trading.routes.ledger import Amount
from aitbc.modules.trading.service.budgets import BudgetNotFound, BudgetOfOwnKey, SpendingBudgets, TooManyBudgets

KeyId = Annotated[
    str,
    Meta(max_length=30, pattern=r"^key_[0-7][0-9a-hjkmnp-tv-z]{25}\Z"),
    Meta(description="The key.", extra_json_schema={"pattern": "^key_[0-7][0-9a-hjkmnp-tv-z]{25}$"}),
]
CHANGES = {
    "permission": "budgets:write",
    "idempotency": "natural",
    "errors": (BudgetNotFound, BudgetOfOwnKey, InvalidAmount, AmountOverflow),
}


class MakeBudget(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A limit on what the caller's account spends."""

    limit: Amount
    """The most that may be spent in a period, in AITBC. For example `10`."""
    period: Literal["day", "month", "total"] = "month"
    """How long a period is: a day or a month (UTC), or all time. For example `day`."""
    key: KeyId | None = None
    """Only what this API key spends counts. For example `key_01k0000000000000000000000a`."""
    model: Name | None = None
    """Only what is spent on this model counts. For example `llama-3-8b`."""


class ChangeBudget(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Another limit."""

    limit: Amount
    """The most that may be spent in a period, in AITBC. For example `20`."""


class BudgetController(Controller):
    """Limits on what an account spends."""

    path = "/budgets"
    tags = ("ledger",)

    @post(
        "/",
        operation_id="make_budget",
        summary="Limit what you spend",
        opt={
            "permission": "budgets:write",
            "idempotency": "required",
            "errors": (InvalidAmount, AmountOverflow, TooManyBudgets),
        },
    )
    async def make(
        self,
        spending_budgets: NamedDependency[SpendingBudgets],
        who: NamedDependency[Principal],
        once: NamedDependency[IdempotencyKey],
        data: JSONBody[MakeBudget],
    ) -> BudgetView:
        """Limit what the caller's account spends: all of it, by one key, on one model, or by one key on one model.

        The most that a job can cost is reserved with the money that is held for it, so no budget is ever exceeded.
        """
        return await spending_budgets.make(
            who,
            key=data.key,
            model=data.model,
            period=data.period,
            limit_units=parse(data.limit),
            once=once,
        )

    @get(
        "/",
        operation_id="list_budgets",
        summary="List your budgets",
        opt={"permission": "ledger:read", "errors": (InvalidCursor,)},
    )
    async def budgets(
        self,
        spending_budgets: NamedDependency[SpendingBudgets],
        who: NamedDependency[Principal],
        limit: FromQuery[Limit] = 50,
        cursor: FromQuery[Cursor] = None,
    ) -> Page[BudgetView]:
        """List the budgets of the caller's account, with what counts against each now."""
        after = after_id("budgets", cursor, "bdgt")
        found = await spending_budgets.page(who, limit=limit + 1, after=after)
        return Page.of("budgets", found, limit, lambda budget: budget.id)

    @get(
        "/{budget:str}",
        operation_id="get_budget",
        summary="Read a budget",
        opt={"permission": "ledger:read", "errors": (BudgetNotFound,)},
    )
    async def one(
        self,
        spending_budgets: NamedDependency[SpendingBudgets],
        who: NamedDependency[Principal],
        budget: FromPath[str],
    ) -> BudgetView:
        """Read a budget of the caller's account, with what counts against it in the period that goes on."""
        return await spending_budgets.one(who, budget)

    @put("/{budget:str}", operation_id="change_budget", summary="Change a budget", opt=CHANGES)
    async def change(
        self,
        spending_budgets: NamedDependency[SpendingBudgets],
        who: NamedDependency[Principal],
        budget: FromPath[str],
        data: JSONBody[ChangeBudget],
    ) -> BudgetView:
        """Set another limit, from the next job on. A key cannot change what limits itself."""
        return await spending_budgets.change(who, budget, parse(data.limit))

    @delete("/{budget:str}", status_code=200, operation_id="remove_budget", summary="Remove a budget", opt=CHANGES)
    async def remove(
        self,
        spending_budgets: NamedDependency[SpendingBudgets],
        who: NamedDependency[Principal],
        budget: FromPath[str],
    ) -> BudgetView:
        """Limit nothing by it any more. A key cannot remove what limits itself."""
        return await spending_budgets.remove(who, budget)
