"""Disputes about settlements: raised by a party, argued by both, decided by the operator or by time."""

from datetime import datetime

from sqlalchemy import func, select

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import TooMany
from aitbc.modules.trading.events import DisputeOpened
from aitbc.modules.trading.models.trades.life import DISPUTE_LASTS, UNPAID, TradeState
from aitbc.modules.trading.models.trades.tables import TradeEvidenceRow, TradeSettlementRow
from aitbc.modules.trading.models.trades.views import TradeSettlement
from aitbc.modules.trading.service.trades.commands import (
    NotDisputed,
    TradeDisputed,
    TradePaymentNotOpen,
    TradeSettlementNotFound,
)
from aitbc.modules.trading.service.trades.payments import add_up, divided, end_payments
from aitbc.modules.trading.service.trades.rows import lock_request, of_trade
from aitbc.modules.trading.service.trades.settlements import payments_in, shown

EVIDENCE_MAX = 20


class TooMuchEvidence(TooMany):
    """A dispute takes 20 statements of each side."""

    code = "trade_too_much_evidence"


class TradeDisputes:
    """Stops payments, and divides what is not paid yet."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @retrying
    async def begin(self, who: Principal, settlement: str, reason: str, once: IdempotencyKey) -> TradeSettlement:
        """Dispute what is not paid yet: nothing is paid or refunded until it is decided. Once for each settlement.

        Raises `TradeSettlementNotFound`, `TradeDisputed`, and `TradePaymentNotOpen` when all is paid.
        """
        async with self._database.unit_of_work() as uow:
            if (earlier := await uow.replay(once, TradeSettlement)) is not None:
                return earlier
            _, row = await of_trade(uow, TradeSettlementRow, settlement, who, TradeSettlementNotFound)
            if row.state != TradeState.SETTLING:
                raise TradePaymentNotOpen
            if row.disputed_by is not None:
                raise TradeDisputed("This settlement is disputed, or was before.")
            decide_by = now() + DISPUTE_LASTS
            row.disputed_by, row.dispute, row.decide_by = who.account, reason, decide_by
            add_up(row, await payments_in(uow, row))
            uow.publish(_opened(row, who.account, reason, decide_by))
            await uow.audit(who.account, who.key, "trade.dispute", row.id)
            return await uow.answer(once, await shown(uow, row))

    @retrying
    async def say(self, who: Principal, settlement: str, text: str, once: IdempotencyKey) -> TradeSettlement:
        """Add evidence to an open dispute. Raises `TradeSettlementNotFound`, `NotDisputed`, `TooMuchEvidence`."""
        async with self._database.unit_of_work() as uow:
            if (earlier := await uow.replay(once, TradeSettlement)) is not None:
                return earlier
            _, row = await of_trade(uow, TradeSettlementRow, settlement, who, TradeSettlementNotFound)
            if row.decide_by is None:
                raise NotDisputed
            mine = (TradeEvidenceRow.settlement == row.id, TradeEvidenceRow.account == who.account)
            counting = select(func.count()).select_from(TradeEvidenceRow).where(*mine)
            if (await uow.session.scalar(counting) or 0) >= EVIDENCE_MAX:
                raise TooMuchEvidence
            uow.add(
                TradeEvidenceRow(
                    id=ids.new_id("tevi"), settlement=row.id, account=who.account, text=text, created_at=now()
                )
            )
            return await uow.answer(once, await shown(uow, row))

    @retrying
    async def decide(
        self, who: Principal, settlement: str, seller_basis_points: int, reason: str, once: IdempotencyKey
    ) -> TradeSettlement:
        """Divide all that is not paid yet between the seller and the buyer, the operator's part.

        Raises `TradeSettlementNotFound`, `NotDisputed`.
        """
        async with self._database.unit_of_work() as uow:
            if (earlier := await uow.replay(once, TradeSettlement)) is not None:
                return earlier
            row = await uow.find(TradeSettlementRow, settlement, missing=TradeSettlementNotFound)
            await lock_request(uow, row.request)
            await uow.session.refresh(row)
            if row.decide_by is None:
                raise NotDisputed
            payments = await payments_in(uow, row)
            row.decide_by, row.resolution = None, reason
            ended = [divided(payment, seller_basis_points) for payment in payments if payment.state in UNPAID]
            await end_payments(uow, row, payments, ended)
            await uow.audit(who.account, who.key, "trade.decide", row.id, seller_basis_points=seller_basis_points)
            return await uow.answer(once, await shown(uow, row))


def _opened(settlement: TradeSettlementRow, by: str, reason: str, decide_by: datetime) -> DisputeOpened:
    return DisputeOpened(
        agreement=settlement.agreement,
        settlement=settlement.id,
        buyer=settlement.buyer,
        seller=settlement.seller,
        disputed_by=by,
        reason=reason,
        decide_by=decide_by,
    )
