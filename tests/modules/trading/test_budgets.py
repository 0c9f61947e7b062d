"""Budgets: reserved with the hold, given back with it, and never exceeded, whoever asks at the same time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec import structs

from aitbc.kernel.database.unit_of_work import Target
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import clock
from aitbc.kernel.primitives.errors import AppError
from aitbc.modules.trading.api import BudgetExceeded, PlaceHold, RaiseHold
from aitbc.modules.trading.service import TradingService
from aitbc.modules.trading.service.budgets import BudgetNotFound, BudgetOfOwnKey
from tests.modules.trading.make import a_hold, a_rent, a_settlement, funded, once, person, trading_on
from tests.scale import scaled

pytestmark = pytest.mark.anyio
NOON = datetime(2030, 1, 31, 12, tzinfo=UTC)


@asynccontextmanager
async def limited(
    owner: Target, limit_units: int, **budget: Any
) -> AsyncIterator[tuple[TradingService, Principal, str]]:
    """A service, somebody with money, and a budget of theirs."""
    async with trading_on(owner) as trading:
        who = structs.replace(person(), account=await funded(trading, 10_000))
        wanted = {"key": None, "model": None, "period": "day"} | budget
        made = await trading.spending_budgets.make(who, limit_units=limit_units, once=once(), **wanted)
        yield trading, who, made.id


def job_hold(who: Principal, units: int, **more: Any) -> PlaceHold:
    return structs.replace(a_hold(who.account, units), key=who.key, **more)


async def use_of(trading: TradingService, who: Principal, budget: str) -> tuple[str, str, str]:
    view = await trading.spending_budgets.one(who, budget)
    return view.held, view.spent, view.remaining


async def test_many_at_once_never_exceed_a_budget(owner: Target) -> None:
    requests = scaled(200, 500)
    async with limited(owner, 50) as (trading, who, budget):
        attempts = (trading.hold(job_hold(who, 1)) for _ in range(requests))
        outcomes = await asyncio.gather(*attempts, return_exceptions=True)
        refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        assert len(outcomes) - len(refused) == 50 and all(isinstance(one, BudgetExceeded) for one in refused)
        assert await use_of(trading, who, budget) == ("0.0000005", "0", "0")


async def test_what_was_not_spent_can_be_reserved_again(owner: Target) -> None:
    async with limited(owner, 100) as (trading, who, budget):
        paid, returned, rented, open_ = (job_hold(who, 25) for _ in range(4))
        for command in (paid, returned, rented, open_):
            await trading.hold(command)
        with pytest.raises(BudgetExceeded):
            await trading.hold(job_hold(who, 1))
        await trading.settle(a_settlement(paid, 10))
        await trading.void(returned.hold, "not wanted")
        await trading.pay_rent(a_rent(rented, 5))
        assert await use_of(trading, who, budget) == ("0.00000025", "0.00000015", "0.0000006")
        await trading.hold(paid)
        assert await use_of(trading, who, budget) == ("0.00000025", "0.00000015", "0.0000006"), "a repetition"


async def test_a_refusal_names_what_remains_and_when_it_is_renewed(owner: Target) -> None:
    clock.move(NOON - clock.now())
    async with limited(owner, 100, period="month") as (trading, who, budget):
        await trading.hold(job_hold(who, 70))
        with pytest.raises(BudgetExceeded) as refused:
            await trading.hold(job_hold(who, 31))
        details = refused.value.details
        assert (details["budget"], details["remaining"], details["needed"]) == (budget, "0.0000003", "0.00000031")
        assert (
            details["resets_at"] == datetime(2030, 2, 1, tzinfo=UTC) and "2030-02-01T00:00:00Z" in refused.value.message
        )


async def test_a_hold_counts_in_the_period_in_which_it_was_placed(owner: Target) -> None:
    clock.move(NOON - clock.now())
    async with limited(owner, 100) as (trading, who, budget):
        placed = job_hold(who, 90)
        await trading.hold(placed)
        clock.move(timedelta(days=1))
        assert await use_of(trading, who, budget) == ("0", "0", "0.000001")
        await trading.settle(a_settlement(placed, 80))
        await trading.hold(job_hold(who, 100))
        assert await use_of(trading, who, budget) == ("0.000001", "0", "0")


async def test_budgets_of_keys_and_models_count_only_those(owner: Target) -> None:
    async with limited(owner, 10, model="llama") as (trading, who, _):
        of_key = await trading.spending_budgets.make(
            who, key=who.key, model=None, period="total", limit_units=30, once=once()
        )
        await trading.hold(job_hold(who, 10, model="llama"))
        with pytest.raises(BudgetExceeded):
            await trading.hold(job_hold(who, 1, model="llama"))
        await trading.hold(job_hold(who, 20, model="qwen"))
        with pytest.raises(BudgetExceeded, match="not renewed"):
            await trading.hold(job_hold(who, 1))
        await trading.hold(structs.replace(a_hold(who.account, 1000), key=person().key))
        assert await use_of(trading, who, of_key.id) == ("0.0000003", "0", "0")


async def test_a_raised_hold_reserves_what_it_adds(owner: Target) -> None:
    async with limited(owner, 100) as (trading, who, budget):
        placed = job_hold(who, 40)
        await trading.hold(placed)
        with pytest.raises(BudgetExceeded):
            await trading.raise_hold(RaiseHold(hold=placed.hold, payer=who.account, amount_units=101))
        assert await use_of(trading, who, budget) == ("0.0000004", "0", "0.0000006")
        await trading.raise_hold(RaiseHold(hold=placed.hold, payer=who.account, amount_units=100))
        assert await use_of(trading, who, budget) == ("0.000001", "0", "0")
        await trading.settle(a_settlement(placed, 60))
        assert await use_of(trading, who, budget) == ("0", "0.0000006", "0.0000004")


async def test_an_expired_hold_gives_back_what_it_reserved(owner: Target) -> None:
    async with limited(owner, 100, period="total") as (trading, who, budget):
        await trading.hold(job_hold(who, 100))
        clock.move(timedelta(hours=2))
        await trading.ledger.expire_holds()
        assert await use_of(trading, who, budget) == ("0", "0", "0.000001")
        assert (await trading.verify()).ok


async def test_a_budget_can_be_changed_and_removed_by_its_account_but_not_by_the_key_that_it_limits(
    owner: Target,
) -> None:
    async with limited(owner, 5) as (trading, who, budget):
        with pytest.raises(BudgetNotFound):
            await trading.spending_budgets.one(person(), budget)
        with pytest.raises(BudgetExceeded):
            await trading.hold(job_hold(who, 6))
        await trading.spending_budgets.change(who, budget, 6)
        await trading.hold(job_hold(who, 6))
        await trading.spending_budgets.remove(who, budget)
        assert (await trading.spending_budgets.remove(who, budget)).ended_at is not None
        await trading.hold(job_hold(who, 600))
        own = await trading.spending_budgets.make(
            who, key=who.key, model=None, period="day", limit_units=0, once=once()
        )
        with pytest.raises(BudgetOfOwnKey):
            await trading.spending_budgets.remove(who, own.id)
        assert [one.id for one in await trading.spending_budgets.page(who, limit=9, after=None)] == [own.id]
        assert isinstance(await _outcome(trading.hold(job_hold(who, 1))), BudgetExceeded)


async def _outcome(command: Any) -> Any:
    try:
        return await command
    except AppError as error:
        return error
