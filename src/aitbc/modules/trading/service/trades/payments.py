"""The money of settlements: each payment is a hold of the ledger, placed and ended in the transaction of its trade."""

from collections.abc import Sequence
from datetime import timedelta

from msgspec import Struct

from aitbc.kernel.database.unit_of_work import UnitOfWork
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.money import share, split
from aitbc.modules.trading.api import PayRent, PlaceHold
from aitbc.modules.trading.events import TradeEnded
from aitbc.modules.trading.models.rows import ESCROW, FEES
from aitbc.modules.trading.models.trades.life import (
    DELIVERY_LASTS,
    HELD_FOR,
    TERMS,
    UNPAID,
    PaymentState,
    TradeState,
)
from aitbc.modules.trading.models.trades.tables import TradeAgreementRow, TradePaymentRow, TradeSettlementRow
from aitbc.modules.trading.models.trades.views import Milestone
from aitbc.modules.trading.service.book_rows import load_book, open_accounts, save_book
from aitbc.modules.trading.service.trades.rows import advance

TRADED = "traded"
REFUNDED = "refunded"


class Ending(Struct, frozen=True):
    """How a payment ends: with so much of its amount paid, and the rest back with the buyer."""

    payment: TradePaymentRow
    price_units: int
    state: PaymentState


def paid(payment: TradePaymentRow) -> Ending:
    """All of it goes to the seller, less the fee."""
    return Ending(payment, payment.amount_units, PaymentState.PAID)


def refunded(payment: TradePaymentRow) -> Ending:
    """All of it goes back."""
    return Ending(payment, 0, PaymentState.REFUNDED)


def divided(payment: TradePaymentRow, seller_basis_points: int) -> Ending:
    """A part of it goes to the seller, less the fee of that part."""
    price = share(payment.amount_units, seller_basis_points)
    state = {0: PaymentState.REFUNDED, payment.amount_units: PaymentState.PAID}.get(price, PaymentState.DIVIDED)
    return Ending(payment, price, state)


def payments_of(
    settlement: TradeSettlementRow, milestones: Sequence[Milestone], period: timedelta | None
) -> list[TradePaymentRow]:
    """The payments of a settlement: one, or one for each milestone or period; they add up to the total."""
    named = [(one.name, one.share) for one in milestones] or [("all", 1)]
    amounts = split(settlement.total_units, [weight for _, weight in named])
    return [
        TradePaymentRow(
            settlement=settlement.id,
            position=position,
            name=name,
            amount_units=amount,
            hold=ids.new_id("hold"),
            state=PaymentState.HELD,
            paid_units=0,
            fee_units=0,
            due_at=settlement.started_at + (DELIVERY_LASTS if period is None else position * period),
        )
        for position, ((name, _), amount) in enumerate(zip(named, amounts, strict=True), 1)
    ]


async def move_money(
    uow: UnitOfWork, settlement: TradeSettlementRow, *, placed: Sequence[TradePaymentRow] = (), ended: Sequence[Ending]
) -> None:
    """Set money of the buyer aside, and end holds, in one step of the ledger. Raises `InsufficientFunds`."""
    seller = {ids.decode("acct", settlement.seller): settlement.seller}
    await open_accounts(uow, seller)
    accounts = {ESCROW, FEES, *seller, ids.decode("acct", settlement.buyer)}
    book = await load_book(uow, accounts, holds=[ending.payment.hold for ending in ended])
    book.fee_basis_points = TERMS[settlement.settlement_type].fee_basis_points
    for payment in placed:
        book.place(
            PlaceHold(
                hold=payment.hold,
                payer=settlement.buyer,
                amount_units=payment.amount_units,
                expires_at=book.at + HELD_FOR,
                reference=settlement.id,
            )
        )
    for ending in ended:
        if ending.price_units == 0:
            book.give_back(ending.payment.hold, "voided", REFUNDED)
            continue
        book.pay_rent(
            PayRent(
                hold=ending.payment.hold,
                payer=settlement.buyer,
                owner=settlement.seller,
                reference=settlement.id,
                price_units=ending.price_units,
                reason=TRADED,
            )
        )
    await save_book(uow, book)
    for ending in ended:
        payment = ending.payment
        payment.state, payment.paid_units = ending.state, ending.price_units
        payment.fee_units = share(ending.price_units, book.holds[payment.hold].fee_basis_points)
        payment.due_at, payment.ended_at = None, book.at


async def end_payments(
    uow: UnitOfWork,
    settlement: TradeSettlementRow,
    payments: Sequence[TradePaymentRow],
    ended: Sequence[Ending],
    *,
    placed: Sequence[TradePaymentRow] = (),
) -> None:
    """End payments with their holds, and add the settlement up; with the last one the trade ends."""
    await move_money(uow, settlement, placed=placed, ended=ended)
    add_up(settlement, payments)
    await uow.session.flush()
    if settlement.ended_at is None:
        return
    agreement = await uow.session.get_one(TradeAgreementRow, settlement.agreement, populate_existing=True)
    await advance(uow, agreement, TradeState(settlement.state), settlement.ended_at)
    uow.publish(ended_event(settlement))


def add_up(settlement: TradeSettlementRow, payments: Sequence[TradePaymentRow]) -> None:
    """Bring a settlement up to its payments."""
    over = [payment for payment in payments if payment.state not in UNPAID]
    settlement.fee_units = sum(payment.fee_units for payment in over)
    settlement.net_units = sum(payment.paid_units - payment.fee_units for payment in over)
    settlement.refunded_units = sum(payment.amount_units - payment.paid_units for payment in over)
    if len(over) < len(payments):
        due = [payment.due_at for payment in payments if payment.due_at is not None]
        settlement.due_at = settlement.decide_by or min(due)
        return
    at = max(payment.ended_at for payment in over if payment.ended_at is not None)
    something = any(payment.paid_units for payment in over)
    settlement.state = TradeState.COMPLETED if something else TradeState.FAILED
    settlement.due_at, settlement.ended_at = None, at


def ended_event(settlement: TradeSettlementRow) -> TradeEnded:
    """How a trade ended, for whoever hears of it."""
    assert settlement.ended_at is not None, "a settlement that has ended knows when"
    return TradeEnded(
        agreement=settlement.agreement,
        settlement=settlement.id,
        buyer=settlement.buyer,
        seller=settlement.seller,
        state=settlement.state,
        fee_units=settlement.fee_units,
        net_units=settlement.net_units,
        refunded_units=settlement.refunded_units,
        ended_at=settlement.ended_at,
    )
