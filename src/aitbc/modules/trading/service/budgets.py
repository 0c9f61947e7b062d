"""Budgets: made, changed and removed by their accounts; the ledger counts against them as it places holds."""

from collections.abc import Sequence

from sqlalchemy import func, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Forbidden, NotFound, TooMany
from aitbc.kernel.primitives.money import render
from aitbc.modules.trading.models.budgets import BudgetUse, period_of, resets_at
from aitbc.modules.trading.models.tables import AccountRow, BudgetRow, BudgetUseRow
from aitbc.modules.trading.models.views import BudgetView
from aitbc.modules.trading.service.book_rows import BALANCES

BUDGETS_MAX = 100


class BudgetNotFound(NotFound):
    """There is no such budget, or it is another account's."""

    code = "budget_not_found"


class BudgetOfOwnKey(Forbidden):
    """This budget limits the very key that asks; another key of the account changes it."""

    code = "budget_of_own_key"


class TooManyBudgets(TooMany):
    """An account has at most 100 budgets."""

    code = "too_many_budgets"


class SpendingBudgets:
    """What accounts limit their spending to."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @retrying
    async def make(
        self,
        who: Principal,
        *,
        key: str | None,
        model: str | None,
        period: str,
        limit_units: int,
        once: IdempotencyKey,
    ) -> BudgetView:
        """Limit what the caller's account spends from now on. Raises `TooManyBudgets`."""
        async with self._database.unit_of_work() as uow:
            if (earlier := await uow.replay(once, BudgetView)) is not None:
                return earlier
            await _lock_account(uow, who.account)
            mine = (BudgetRow.account == who.account, BudgetRow.ended_at.is_(None))
            count = await uow.session.scalar(select(func.count()).select_from(BudgetRow).where(*mine)) or 0
            if count >= BUDGETS_MAX:
                raise TooManyBudgets
            row = BudgetRow(
                id=ids.new_id("bdgt"),
                account=who.account,
                key=key,
                model=model,
                period=period,
                limit_units=limit_units,
                created_at=now(),
            )
            uow.add(row)
            await _count(uow, who.account, count + 1)
            await uow.audit(who.account, who.key, "budget.make", row.id, limit=render(limit_units), period=period)
            return await uow.answer(once, _view(row, None))

    @retrying
    async def change(self, who: Principal, budget: str, limit_units: int) -> BudgetView:
        """Set another limit, from the next hold on. Raises `BudgetNotFound`, `BudgetOfOwnKey`."""
        async with self._database.unit_of_work() as uow:
            row = await _locked(uow, who, budget)
            row.limit_units = limit_units
            await uow.audit(who.account, who.key, "budget.change", row.id)
            return await _viewed(uow.session, row)

    @retrying
    async def remove(self, who: Principal, budget: str) -> BudgetView:
        """Limit nothing by it any more; again changes nothing. Raises `BudgetNotFound`, `BudgetOfOwnKey`."""
        async with self._database.unit_of_work() as uow:
            row = await _locked(uow, who, budget)
            if row.ended_at is None:
                row.ended_at = now()
                left = (BudgetRow.account == row.account, BudgetRow.ended_at.is_(None), BudgetRow.id != row.id)
                count = await uow.session.scalar(select(func.count()).select_from(BudgetRow).where(*left)) or 0
                await _count(uow, row.account, count)
                await uow.audit(who.account, who.key, "budget.remove", row.id)
            return await _viewed(uow.session, row)

    async def one(self, who: Principal, budget: str) -> BudgetView:
        """A budget of the caller's account, also one that was removed. Raises `BudgetNotFound`."""
        if not ids.is_id("bdgt", budget):
            raise BudgetNotFound
        async with self._database.reading() as session:
            row = await session.get(BudgetRow, budget)
            if row is None or not who.owns(row.account):
                raise BudgetNotFound
            return await _viewed(session, row)

    async def page(self, who: Principal, *, limit: int, after: str | None) -> Sequence[BudgetView]:
        """The budgets that limit the caller's account now, in the order in which they were made."""
        wanted = select(BudgetRow).where(BudgetRow.account == who.account, BudgetRow.ended_at.is_(None))
        if after is not None:
            wanted = wanted.where(BudgetRow.id > after)
        async with self._database.reading() as session:
            rows = (await session.scalars(wanted.order_by(BudgetRow.id).limit(limit))).all()
            uses = await _uses(session, rows)
        return [_view(row, uses.get(row.id)) for row in rows]


async def _locked(uow: UnitOfWork, who: Principal, budget: str) -> BudgetRow:
    row = await uow.find(BudgetRow, budget, missing=BudgetNotFound)
    if row.account != who.account:
        raise BudgetNotFound
    if row.key == who.key:
        raise BudgetOfOwnKey
    await _lock_account(uow, who.account)
    await uow.session.refresh(row)
    return row


async def _lock_account(uow: UnitOfWork, account: str) -> None:
    """The account's row in the ledger, made if nothing was ever paid into it; holds are placed behind its lock."""
    id_ = ids.decode("acct", account)
    fresh = {"id": id_, "owner": account, "purpose": "main", "created_at": now()} | dict.fromkeys(BALANCES, 0)
    await uow.session.execute(upsert(AccountRow).values(fresh).on_conflict_do_nothing())
    await uow.session.execute(select(AccountRow.id).where(AccountRow.id == id_).with_for_update(key_share=True))


async def _count(uow: UnitOfWork, account: str, count: int) -> None:
    changing = update(AccountRow).where(AccountRow.id == ids.decode("acct", account)).values(budgets=count)
    await uow.session.execute(changing, execution_options={"synchronize_session": False})


async def _viewed(session: AsyncSession, row: BudgetRow) -> BudgetView:
    return _view(row, (await _uses(session, [row])).get(row.id))


async def _uses(session: AsyncSession, rows: Sequence[BudgetRow]) -> dict[str, BudgetUse]:
    """What counts against these budgets in the periods that go on."""
    wanted = [(row.id, period_of(row.period, now())) for row in rows]
    reading = select(BudgetUseRow).where(tuple_(BudgetUseRow.budget, BudgetUseRow.period_start).in_(wanted))
    found = await session.scalars(reading, execution_options={"populate_existing": True})
    return {use.budget: BudgetUse(use.budget, use.period_start, use.held_units, use.spent_units) for use in found}


def _view(row: BudgetRow, use: BudgetUse | None) -> BudgetView:
    held, spent = (0, 0) if use is None else (use.held_units, use.spent_units)
    return BudgetView(
        id=row.id,
        account=row.account,
        key=row.key,
        model=row.model,
        period=row.period,
        limit=render(row.limit_units),
        held=render(held),
        spent=render(spent),
        remaining=render(max(row.limit_units - held - spent, 0)),
        resets_at=resets_at(row.period, now()),
        created_at=row.created_at,
        ended_at=row.ended_at,
    )
