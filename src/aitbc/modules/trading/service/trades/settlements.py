"""How agreements are paid: money set aside, deliveries confirmed, payments released or refunded, each once."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import retry, retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.modules.trading.events import TradeDelivered
from aitbc.modules.trading.models.trades.life import (
    DISPUTE_LASTS,
    EVEN,
    TERMS,
    UNPAID,
    PaymentState,
    TradeState,
)
from aitbc.modules.trading.models.trades.shapes import settlement_view
from aitbc.modules.trading.models.trades.tables import (
    TradeAgreementRow,
    TradeEvidenceRow,
    TradePaymentRow,
    TradeSettlementRow,
)
from aitbc.modules.trading.models.trades.values import METERED
from aitbc.modules.trading.models.trades.views import Milestone, TradeSettlement
from aitbc.modules.trading.service.trades.commands import (
    NoSubscription,
    NotYourSide,
    PaidByBooking,
    TradeAgreementNotFound,
    TradeAgreementNotOpen,
    TradeDisputed,
    TradeFilter,
    TradeIdTaken,
    TradePaymentNotFound,
    TradePaymentNotOpen,
    TradeSettlementNotFound,
)
from aitbc.modules.trading.service.trades.payments import (
    Ending,
    add_up,
    divided,
    end_payments,
    paid,
    payments_of,
    refunded,
)
from aitbc.modules.trading.service.trades.rows import (
    advance,
    lock_request,
    newest,
    of_trade,
    parties,
    require_party,
)

PER_ROUND = 200


class TradeSettlements:
    """Settles agreements."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @retrying
    async def start(
        self, who: Principal, agreement: str, once: IdempotencyKey, *, name: str | None = None
    ) -> TradeSettlement:
        """Set all of an agreement's price aside, the buyer's part; an immediate one is paid at once. Once for each.

        `name` becomes the settlement's id: the same again under it is harmless.

        Raises `TradeAgreementNotFound`, `TradeAgreementNotOpen`, `PaidByBooking`, `NotYourSide`, `InsufficientFunds`.
        """
        async with self._database.unit_of_work() as uow:
            if (earlier := await uow.replay(once, TradeSettlement)) is not None:
                return earlier
            _, agreed = await of_trade(uow, TradeAgreementRow, agreement, who, TradeAgreementNotFound)
            if agreed.buyer != who.account:
                raise NotYourSide
            if name is not None and (known := await uow.session.get(TradeSettlementRow, name)) is not None:
                if known.agreement != agreed.id:
                    raise TradeIdTaken
                return await uow.answer(once, await shown(uow, known))
            if agreed.settlement_type == METERED:
                raise PaidByBooking
            at = now()
            if agreed.state != TradeState.AGREED or agreed.settle_by <= at:
                raise TradeAgreementNotOpen
            settlement = TradeSettlementRow(
                id=name or ids.new_id("tset"),
                request=agreed.request,
                agreement=agreed.id,
                buyer=agreed.buyer,
                seller=agreed.seller,
                settlement_type=agreed.settlement_type,
                total_units=agreed.price_units,
                fee_units=0,
                net_units=0,
                refunded_units=0,
                state=TradeState.SETTLING,
                started_at=at,
            )
            milestones = msgspec.json.decode(agreed.milestones, type=tuple[Milestone, ...])
            payments = payments_of(settlement, milestones, period_of(agreed))
            settlement.due_at = payments[0].due_at
            uow.add(settlement)
            await uow.session.flush()
            uow.session.add_all(payments)
            await advance(uow, agreed, TradeState.SETTLING)
            ended = [paid(payment) for payment in payments] if agreed.settlement_type == "immediate" else []
            await end_payments(uow, settlement, payments, ended, placed=payments)
            await uow.audit(who.account, who.key, "trade.settle", settlement.id, agreement=agreed.id)
            return await uow.answer(once, await shown(uow, settlement))

    @retrying
    async def deliver(self, who: Principal, settlement: str, number: int, once: IdempotencyKey) -> TradeSettlement:
        """Say that what a payment pays is delivered: it is paid after a while unless the buyer objects.

        Raises `TradeSettlementNotFound`, `TradePaymentNotFound`, `TradePaymentNotOpen`, `TradeDisputed`, `NotYourSide`.
        """
        async with self._database.unit_of_work() as uow:
            if (earlier := await uow.replay(once, TradeSettlement)) is not None:
                return earlier
            row, payments = await opened(uow, who, settlement)
            if row.seller != who.account:
                raise NotYourSide
            payment = _numbered(payments, number)
            if row.settlement_type == "subscription":
                raise TradePaymentNotOpen("A subscription is paid as time goes by; nothing of it is delivered.")
            if payment.state == PaymentState.HELD:
                payment.state, payment.delivered_at = PaymentState.DELIVERED, now()
                payment.due_at = payment.delivered_at + TERMS[row.settlement_type].confirmed_after
                add_up(row, payments)
                uow.publish(_delivered(row, payment))
            elif payment.state != PaymentState.DELIVERED:
                raise TradePaymentNotOpen
            return await uow.answer(once, await shown(uow, row))

    async def confirm(self, who: Principal, settlement: str, number: int, once: IdempotencyKey) -> TradeSettlement:
        """Pay a payment: the buyer has what it is for, whether or not the seller said so. Repeating it is harmless.

        Raises `TradeSettlementNotFound`, `TradePaymentNotFound`, `TradePaymentNotOpen`, `TradeDisputed`, `NotYourSide`.
        """
        return await self._end(who, settlement, number, once, PaymentState.PAID)

    async def refund(self, who: Principal, settlement: str, number: int, once: IdempotencyKey) -> TradeSettlement:
        """Give a payment back to the buyer, the seller's part. Repeating it is harmless.

        Raises `TradeSettlementNotFound`, `TradePaymentNotFound`, `TradePaymentNotOpen`, `TradeDisputed`, `NotYourSide`.
        """
        return await self._end(who, settlement, number, once, PaymentState.REFUNDED)

    @retrying
    async def _end(
        self, who: Principal, settlement: str, number: int, once: IdempotencyKey, end: PaymentState
    ) -> TradeSettlement:
        """End a payment: the buyer pays it, the seller gives it back."""
        async with self._database.unit_of_work() as uow:
            if (earlier := await uow.replay(once, TradeSettlement)) is not None:
                return earlier
            row, payments = await opened(uow, who, settlement)
            is_paid = end == PaymentState.PAID
            if who.account != (row.buyer if is_paid else row.seller):
                raise NotYourSide
            payment = _numbered(payments, number)
            if payment.state in UNPAID:
                await end_payments(uow, row, payments, [paid(payment) if is_paid else refunded(payment)])
                await uow.audit(
                    who.account, who.key, f"trade.{'confirm' if is_paid else 'refund'}", row.id, payment=number
                )
            elif payment.state != end:
                raise TradePaymentNotOpen
            return await uow.answer(once, await shown(uow, row))

    @retrying
    async def stop(self, who: Principal, settlement: str, once: IdempotencyKey) -> TradeSettlement:
        """End a subscription; either side may. The period that goes on is paid when it is over, later ones go back.

        Repeating it is harmless. Raises `TradeSettlementNotFound`, `NoSubscription`, `TradeDisputed`.
        """
        async with self._database.unit_of_work() as uow:
            if (earlier := await uow.replay(once, TradeSettlement)) is not None:
                return earlier
            row, payments = await opened(uow, who, settlement)
            if row.settlement_type != "subscription":
                raise NoSubscription
            agreed = await uow.session.get_one(TradeAgreementRow, row.agreement)
            ahead = not_begun(payments, agreed, now())
            if ahead:
                await end_payments(uow, row, payments, [refunded(payment) for payment in ahead])
                await uow.audit(who.account, who.key, "trade.stop", row.id, payments=len(ahead))
            return await uow.answer(once, await shown(uow, row))

    async def end_due(self) -> None:
        """Do what time decides: pay what was delivered and what periods were for, refund the rest, divide disputes."""
        due = (TradeSettlementRow.state == "settling", TradeSettlementRow.due_at <= now())
        wanted = select(TradeSettlementRow.id).where(*due).order_by(TradeSettlementRow.due_at).limit(PER_ROUND)
        async with self._database.reading() as session:
            found = (await session.scalars(wanted)).all()
        for settlement in found:
            await retry(partial(self._end_due, settlement))

    async def _end_due(self, settlement: str) -> None:
        async with self._database.unit_of_work() as uow:
            row = await uow.find(TradeSettlementRow, settlement, missing=TradeSettlementNotFound)
            await lock_request(uow, row.request)
            await uow.session.refresh(row)
            payments = await payments_in(uow, row)
            at = now()
            if row.due_at is None or row.due_at > at:
                return
            if row.decide_by is not None:
                agreed = await uow.session.get_one(TradeAgreementRow, row.agreement)
                ahead = not_begun(payments, agreed, row.decide_by - DISPUTE_LASTS)
                row.decide_by, row.resolution = None, "Nobody decided in time: divided evenly."
                left = [payment for payment in payments if payment.state in UNPAID]
                ended = [refunded(one) if one in ahead else divided(one, EVEN) for one in left]
            else:
                due = [payment for payment in payments if payment.due_at and payment.due_at <= at]
                ended = [_by_time(row, payment) for payment in due]
            await end_payments(uow, row, payments, ended)

    async def one(self, who: Principal, settlement: str) -> TradeSettlement:
        """A settlement of the caller's. Raises `TradeSettlementNotFound`."""
        async with self._database.reading() as session:
            row = await session.get(TradeSettlementRow, settlement)
            if row is None:
                raise TradeSettlementNotFound
            require_party(who, row, TradeSettlementNotFound)
            (found,) = await _shown(session, [row])
            return found

    async def page(self, who: Principal, filters: TradeFilter) -> Sequence[TradeSettlement]:
        """The caller's settlements, as buyer or seller, from the newest on."""
        async with self._database.reading() as session:
            mine = parties(who, TradeSettlementRow)
            found = await newest(session, TradeSettlementRow, filters, *mine, at="started_at")
            return await _shown(session, found)


async def opened(uow: UnitOfWork, who: Principal, settlement: str) -> tuple[TradeSettlementRow, list[TradePaymentRow]]:
    """A settlement of the caller's with its payments, locked. Raises `TradeDisputed` while it is disputed."""
    _, row = await of_trade(uow, TradeSettlementRow, settlement, who, TradeSettlementNotFound)
    if row.decide_by is not None:
        raise TradeDisputed
    return row, await payments_in(uow, row)


async def payments_in(uow: UnitOfWork, settlement: TradeSettlementRow) -> list[TradePaymentRow]:
    """The payments of a settlement, in their order, as they are behind the lock of its request."""
    wanted = select(TradePaymentRow).where(TradePaymentRow.settlement == settlement.id)
    found = await uow.session.scalars(
        wanted.order_by(TradePaymentRow.position), execution_options={"populate_existing": True}
    )
    return list(found)


async def shown(uow: UnitOfWork, settlement: TradeSettlementRow) -> TradeSettlement:
    """A settlement as callers see it."""
    await uow.session.flush()
    (found,) = await _shown(uow.session, [settlement])
    return found


async def _shown(session: AsyncSession, settlements: Sequence[TradeSettlementRow]) -> list[TradeSettlement]:
    """Settlements with their payments and evidence, which two statements read for all of them."""
    names = [settlement.id for settlement in settlements]
    paying = select(TradePaymentRow).where(TradePaymentRow.settlement.in_(names)).order_by(TradePaymentRow.position)
    saying = select(TradeEvidenceRow).where(TradeEvidenceRow.settlement.in_(names)).order_by(TradeEvidenceRow.id)
    payments, evidence = defaultdict(list), defaultdict(list)
    for payment in await session.scalars(paying):
        payments[payment.settlement].append(payment)
    for one in await session.scalars(saying):
        evidence[one.settlement].append(one)
    return [settlement_view(one, payments[one.id], evidence[one.id]) for one in settlements]


def _numbered(payments: Sequence[TradePaymentRow], number: int) -> TradePaymentRow:
    found = next((payment for payment in payments if payment.position == number), None)
    if found is None:
        raise TradePaymentNotFound
    return found


def period_of(agreement: TradeAgreementRow) -> timedelta | None:
    """How long a period of a subscription is; none for other settlements."""
    return None if agreement.period_hours is None else timedelta(hours=agreement.period_hours)


def not_begun(payments: Sequence[TradePaymentRow], agreement: TradeAgreementRow, at: datetime) -> list[TradePaymentRow]:
    """The payments for periods of a subscription that have not begun; none of other settlements."""
    period = period_of(agreement)
    if period is None:
        return []
    return [one for one in payments if one.state in UNPAID and one.due_at is not None and one.due_at - period >= at]


def _delivered(settlement: TradeSettlementRow, payment: TradePaymentRow) -> TradeDelivered:
    assert payment.due_at is not None, "what is delivered has a time at which it is paid"
    return TradeDelivered(
        agreement=settlement.agreement,
        settlement=settlement.id,
        buyer=settlement.buyer,
        seller=settlement.seller,
        payment=payment.position,
        amount_units=payment.amount_units,
        due_at=payment.due_at,
    )


def _by_time(settlement: TradeSettlementRow, payment: TradePaymentRow) -> Ending:
    is_paid = settlement.settlement_type == "subscription" or payment.state == PaymentState.DELIVERED
    return paid(payment) if is_paid else refunded(payment)
