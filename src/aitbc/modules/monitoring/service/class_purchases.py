"""Purchases of service classes: the price lies in escrow until its period is judged, and what is missed comes back.

Each step is a compare-and-set and a call of the ledger that may be repeated; the periodic task ends what a crash cut.
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Annotated, Any

import structlog
from msgspec import Struct, structs
from sqlalchemy import select, update

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.accounts import Identity
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids, money
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError, Conflict, NotFound
from aitbc.kernel.primitives.json_schema import one_of
from aitbc.modules.ai.api import AiApi, ServiceLevel, ServiceLimits
from aitbc.modules.monitoring.events import ClassJudged, ClassRenewalEnded
from aitbc.modules.monitoring.models import service_classes as rules
from aitbc.modules.monitoring.models.class_tables import ClassPurchaseRow, ServiceClassRow
from aitbc.modules.monitoring.models.service_classes import (
    ACTIVE,
    HELD_AFTER,
    KEPT,
    MISSED,
    MOVES,
    PLACED,
    PURCHASE_STATES,
    REFUSED,
    RENEWAL_RETRY,
    RETURNED,
    hold_of,
)
from aitbc.modules.monitoring.service.service_classes import sold
from aitbc.modules.trading.api import (
    BudgetExceeded,
    HoldNotFound,
    HoldNotOpen,
    InsufficientFunds,
    PayRent,
    PlaceHold,
    TradingApi,
)

SELLER = "operator"
"""The name of the account that gets the price of what was kept."""
PLACING = timedelta(seconds=60)
"""A purchase whose money is not set aside after so long lost its maker on the way."""
AT_ONCE = 100

log = structlog.get_logger("aitbc.monitoring")


class ClassPurchaseNotFound(NotFound):
    """There is no such purchase, or it is not yours."""

    code = "class_purchase_not_found"


class ClassPurchaseRefused(Conflict):
    """The price of this purchase could not be set aside, so nothing was bought; buy it anew."""

    code = "class_purchase_refused"


class ClassBoughtAhead(Conflict):
    """The next period of this class is bought already; buy one more once it has begun."""

    code = "class_bought_ahead"


class ClassPurchase(Struct, frozen=True, kw_only=True):
    """One period of a service class that an account bought."""

    id: str
    """The purchase. For example `sbuy_01k0000000000000000000000a`."""
    account: str
    """Who bought it. For example `acct_01k0000000000000000000000a`."""
    service_class: str
    """The class, by its name. For example `chat-gold`."""
    work: str
    """The kind of work. For example `chat`."""
    state: Annotated[str, one_of(PURCHASE_STATES)]
    """`placed` until its price is set aside; `active` until it is judged; then `kept` or `missed`. `refused`: the money
    was not there; `returned`: it went back before anybody could judge. For example `active`."""
    starts_at: datetime
    """From when on the account's jobs count."""
    ends_at: datetime
    """Until when."""
    price: str
    """What it costs, in AITBC; held until it is judged. For example `5`."""
    target: float
    """The share of jobs that are to be in time. For example `0.99`."""
    good: int
    """Jobs that were in time: at the judgement, or in the answer about one purchase until now. For example `980`."""
    bad: int
    """Jobs that were not. For example `2`."""
    credit: str
    """What of the price came back because the target was missed, in AITBC. For example `0`."""
    transaction: str | None
    """The transaction that paid the price and the credit; null before. For example
    `txn_01k0000000000000000000000a`."""
    judged_at: datetime | None
    """When it was judged; null before."""
    renews: bool
    """Whether the next period is bought by itself, shortly before this one ends. For example `false`."""
    previous: str | None
    """The period that this one renewed by itself; null for one that somebody bought.
    For example `sbuy_01k0000000000000000000000b`."""


class _Bought(Struct, frozen=True):
    """The answer that is stored with an `Idempotency-Key`."""

    id: str


class ClassPurchases:
    """Sells periods of service classes, judges them, and credits what was missed."""

    def __init__(self, db: Database, trading: TradingApi, ai: AiApi, identity: Identity) -> None:
        self._db = db
        self._trading = trading
        self._ai = ai
        self._identity = identity

    async def buy(
        self, who: Principal, service_class: str, once: IdempotencyKey, *, renews: bool = False
    ) -> ClassPurchase:
        """Buy a period: from now on, or from the end of the one that the account has. A repetition goes on.

        With `renews` the next ones are bought by themselves.

        Raises `ServiceClassNotFound`, `ClassBoughtAhead`, `InsufficientFunds`, and `ClassPurchaseRefused` for one that
        was refused before.
        """
        purchase = await self._place(who, service_class, once, renews=renews)
        row, sold_class = await self._read(purchase)
        if row.state == PLACED:
            await self._hold(row, sold_class)
            row, sold_class = await self._read(purchase)
        if row.state == REFUSED:
            raise ClassPurchaseRefused
        return _view(row, sold_class)

    async def get(self, who: Principal, purchase: str) -> ClassPurchase:
        """One purchase, with what is known now of its jobs where it goes on. Raises `ClassPurchaseNotFound`."""
        if not ids.is_id("sbuy", purchase):
            raise ClassPurchaseNotFound
        async with self._db.reading() as session:
            row = await session.get(ClassPurchaseRow, purchase)
        if row is None or (row.account != who.account and not who.is_admin):
            raise ClassPurchaseNotFound
        row, sold_class = await self._read(purchase)
        view = _view(row, sold_class)
        if row.state != ACTIVE:
            return view
        level = await self._level(row, sold_class)
        return structs.replace(view, good=level.good, bad=level.bad)

    async def list_page(self, who: Principal, limit: int, before: str | None) -> Sequence[ClassPurchase]:
        """The caller's purchases, for an admin everybody's, newest first; those made before the purchase `before`."""
        query = select(ClassPurchaseRow, ServiceClassRow).join(ServiceClassRow)
        if not who.is_admin:
            query = query.where(ClassPurchaseRow.account == who.account)
        if before is not None:
            query = query.where(ClassPurchaseRow.id < before)
        async with self._db.reading() as session:
            found = await session.execute(query.order_by(ClassPurchaseRow.id.desc()).limit(limit))
            return [_view(row, sold_class) for row, sold_class in found]

    async def run_due(self) -> int:
        """Judge, pay and refuse what is due; returns how many purchases came further. A periodic task."""
        due = select(ClassPurchaseRow.id).where(ClassPurchaseRow.due_at <= now())
        async with self._db.reading() as session:
            found = (await session.scalars(due.order_by(ClassPurchaseRow.due_at).limit(AT_ONCE))).all()
        moved = 0
        for purchase in found:
            try:
                moved += await self._bring_further(purchase)
            except AppError as error:  # the next round tries again
                log.warning("class_purchase_postponed", purchase=purchase, reason=error.message)
        return moved

    @retrying
    async def _place(self, who: Principal, service_class: str, once: IdempotencyKey, *, renews: bool) -> str:
        async with self._db.unit_of_work() as uow:
            if (earlier := await uow.replay(once, _Bought)) is not None:
                return earlier.id
            bought = await sold(uow, service_class)
            last = await last_bought(uow, who.account, bought.id)
            if last is not None and last.ends_at > now() + timedelta(days=bought.period_days):
                raise ClassBoughtAhead
            row = placed_row(bought, last, account=who.account, key=who.key, renews=renews)
            uow.add(row)
            price = money.render(bought.price_units)
            await uow.audit(
                *(who.account, who.key, "service_class.buy", row.id),
                service_class=bought.name,
                price=price,
                renews=renews,
            )
            await uow.answer(once, _Bought(row.id))
            return row.id

    async def _hold(self, row: ClassPurchaseRow, bought: ServiceClassRow) -> None:
        """Set the price aside; where that fails, the purchase is refused. Raises what the ledger raises."""
        judged_from = rules.judged_from(row.ends_at, bought.finish_seconds)
        command = PlaceHold(
            hold=hold_of(row.id),
            payer=row.account,
            amount_units=bought.price_units,
            expires_at=judged_from + HELD_AFTER,
            reference=row.id,
            key=row.key,
            fee_basis_points=0,
        )
        try:
            await self._trading.hold(command)
        except InsufficientFunds:
            if row.previous is None:
                await self._move(row.id, PLACED, REFUSED)
            raise
        if not await self._move(row.id, PLACED, ACTIVE, due_at=judged_from):
            await self._void_refused(row.id)

    async def _bring_further(self, purchase: str) -> bool:
        row, bought = await self._read(purchase)
        if row.due_at is None or row.due_at > now():
            return False
        if row.state == PLACED:
            return await (self._refuse(row) if row.previous is None else self._renew(row, bought))
        if row.state == ACTIVE:
            level = await self._level(row, bought)
            await self._judge(row, bought, level)
            row, bought = await self._read(purchase)
        return row.state in (KEPT, MISSED) and await self._pay(row, bought)

    async def _level(self, row: ClassPurchaseRow, bought: ServiceClassRow) -> ServiceLevel:
        limits = ServiceLimits(
            kind=bought.work,
            start_seconds=bought.start_seconds,
            first_text_seconds=bought.first_text_seconds,
            finish_seconds=bought.finish_seconds,
        )
        return await self._ai.service_level(row.account, limits, row.starts_at, row.ends_at)

    async def _renew(self, row: ClassPurchaseRow, bought: ServiceClassRow) -> bool:
        """Set the money of a renewal aside; where it is not there, again later, until the period would begin."""
        try:
            await self._hold(row, bought)
        except (InsufficientFunds, BudgetExceeded) as refusal:
            log.info("class_renewal_unpaid", purchase=row.id, reason=refusal.message)
            if now() < row.starts_at:
                return await self._move(row.id, PLACED, PLACED, due_at=min(now() + RENEWAL_RETRY, row.starts_at))
            return await self._end_renewal(row, bought, "Its price was not there when it would have begun.")
        return True

    @retrying
    async def _end_renewal(self, row: ClassPurchaseRow, bought: ServiceClassRow, reason: str) -> bool:
        refusing = update(ClassPurchaseRow).where(ClassPurchaseRow.id == row.id, ClassPurchaseRow.state == PLACED)
        async with self._db.unit_of_work() as uow:
            done = refusing.values(state=REFUSED, renews=False, due_at=None).returning(ClassPurchaseRow.id)
            if (await uow.session.execute(done)).first() is None:
                return False
            uow.publish(renewal_ended(row, bought, reason))
        return True

    async def _refuse(self, row: ClassPurchaseRow) -> bool:
        refused = await self._move(row.id, PLACED, REFUSED)
        await self._void_refused(row.id)
        return refused

    async def _void_refused(self, purchase: str) -> None:
        """Return what was set aside for a purchase that was refused meanwhile."""
        row, _ = await self._read(purchase)
        if row.state == REFUSED:
            with suppress(HoldNotFound, HoldNotOpen):
                await self._trading.void(hold_of(purchase), REFUSED)

    @retrying
    async def _judge(self, row: ClassPurchaseRow, bought: ServiceClassRow, level: ServiceLevel) -> None:
        """Write the verdict, once: what is credited is decided here, and told with it."""
        missed = rules.is_missed(level.good, level.bad, bought.target)
        credit = rules.credit_of(bought.price_units, bought.credit_percent) if missed else 0
        at = now()
        judging = update(ClassPurchaseRow).where(ClassPurchaseRow.id == row.id, ClassPurchaseRow.state == ACTIVE)
        verdict = {"state": MISSED if missed else KEPT, "good": level.good, "bad": level.bad, "credit_units": credit}
        async with self._db.unit_of_work() as uow:
            done = judging.values(**verdict, judged_at=at, due_at=at).returning(ClassPurchaseRow.id)
            if (await uow.session.execute(done)).first() is None:
                return
            uow.publish(
                ClassJudged(
                    account=row.account,
                    purchase=row.id,
                    service_class=bought.name,
                    missed=missed,
                    good=level.good,
                    bad=level.bad,
                    credit=money.render(credit),
                    judged_at=at,
                )
            )

    async def _pay(self, row: ClassPurchaseRow, bought: ServiceClassRow) -> bool:
        """Pay what was earned of the price to the operator, and credit the rest, in one transaction of the ledger."""
        seller = await self._identity.ensure_account(SELLER)
        command = PayRent(
            hold=hold_of(row.id),
            payer=row.account,
            owner=seller.id,
            reference=row.id,
            price_units=bought.price_units - row.credit_units,
            reason=_reason(row, bought),
        )
        try:
            paid = await self._trading.pay_rent(command)
        except (HoldNotOpen, HoldNotFound) as refusal:  # all of it went back at its deadline
            log.warning("class_purchase_unpaid", purchase=row.id, reason=refusal.message)
            return await self._finish(row, {"state": RETURNED, "credit_units": 0})
        return await self._finish(row, {"transaction": paid.transaction})

    @retrying
    async def _finish(self, row: ClassPurchaseRow, values: dict[str, Any]) -> bool:
        same = (ClassPurchaseRow.state == row.state, ClassPurchaseRow.due_at.is_not(None))
        ending = update(ClassPurchaseRow).where(ClassPurchaseRow.id == row.id, *same)
        async with self._db.unit_of_work() as uow:
            done = ending.values(due_at=None, **values).returning(ClassPurchaseRow.id)
            return (await uow.session.execute(done)).first() is not None

    @retrying
    async def _move(self, purchase: str, before: str, after: str, due_at: datetime | None = None) -> bool:
        assert after == before or after in MOVES[before]
        moving = update(ClassPurchaseRow).where(ClassPurchaseRow.id == purchase, ClassPurchaseRow.state == before)
        async with self._db.unit_of_work() as uow:
            ended = {"renews": False} if after == REFUSED else {}
            done = moving.values(state=after, due_at=due_at, **ended).returning(ClassPurchaseRow.id)
            return (await uow.session.execute(done)).first() is not None

    async def _read(self, purchase: str) -> tuple[ClassPurchaseRow, ServiceClassRow]:
        query = select(ClassPurchaseRow, ServiceClassRow).join(ServiceClassRow).where(ClassPurchaseRow.id == purchase)
        async with self._db.reading() as session:
            row, bought = (await session.execute(query)).one()
            return row, bought


async def last_bought(uow: UnitOfWork, account: str, service_class: str) -> ClassPurchaseRow | None:
    """The latest period of a class that an account has, locked."""
    own = (ClassPurchaseRow.account == account, ClassPurchaseRow.service_class == service_class)
    live = ClassPurchaseRow.state.not_in((REFUSED, RETURNED))
    query = select(ClassPurchaseRow).where(*own, live).order_by(ClassPurchaseRow.ends_at.desc()).limit(1)
    return (await uow.session.scalars(query.with_for_update())).one_or_none()


def placed_row(
    bought: ServiceClassRow,
    last: ClassPurchaseRow | None,
    *,
    account: str,
    key: str,
    renews: bool,
    previous: str | None = None,
) -> ClassPurchaseRow:
    """The row of a further period, from now on or from the end of the last one."""
    at = now()
    starts_at = max(at, last.ends_at) if last is not None else at
    return ClassPurchaseRow(
        id=ids.new_id("sbuy"),
        service_class=bought.id,
        account=account,
        key=key,
        state=PLACED,
        starts_at=starts_at,
        ends_at=starts_at + timedelta(days=bought.period_days),
        due_at=at + PLACING if previous is None else at,
        good=0,
        bad=0,
        credit_units=0,
        renews=renews,
        previous=previous,
        created_at=at,
    )


def renewal_ended(row: ClassPurchaseRow, bought: ServiceClassRow, reason: str) -> ClassRenewalEnded:
    """What tells an account that a period is not followed by another one."""
    return ClassRenewalEnded(
        account=row.account, purchase=row.previous or row.id, service_class=bought.name, reason=reason, ended_at=now()
    )


def _reason(row: ClassPurchaseRow, bought: ServiceClassRow) -> str:
    """What the statement says."""
    if row.state == KEPT:
        return f"service class {bought.name} was kept"
    share = f"{row.good} of {row.good + row.bad} jobs in time, {bought.target * 100:g} % promised"
    return f"credit: service class {bought.name} was missed ({share})"


def _view(row: ClassPurchaseRow, bought: ServiceClassRow) -> ClassPurchase:
    return ClassPurchase(
        id=row.id,
        account=row.account,
        service_class=bought.name,
        work=bought.work,
        state=row.state,
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        price=money.render(bought.price_units),
        target=bought.target,
        good=row.good,
        bad=row.bad,
        credit=money.render(row.credit_units),
        transaction=row.transaction,
        judged_at=row.judged_at,
        renews=row.renews,
        previous=row.previous,
    )
