"""What the sides of completed trades say of each other."""

from collections.abc import Sequence

from sqlalchemy import select

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.clock import now
from aitbc.modules.trading.models.trades.life import TradeState
from aitbc.modules.trading.models.trades.shapes import feedback_view
from aitbc.modules.trading.models.trades.tables import TradeAgreementRow, TradeFeedbackRow
from aitbc.modules.trading.models.trades.views import TradeFeedback
from aitbc.modules.trading.service.trades.commands import (
    FeedbackGiven,
    TradeAgreementNotFound,
    TradeAgreementNotOpen,
)
from aitbc.modules.trading.service.trades.rows import of_trade, require_party


class TradeFeedbacks:
    """Takes and shows feedback."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @retrying
    async def give(self, who: Principal, agreement: str, rating: int, text: str, once: IdempotencyKey) -> TradeFeedback:
        """Rate the other side of a completed trade, once; the same again is harmless.

        Raises `TradeAgreementNotFound`, `TradeAgreementNotOpen`, `FeedbackGiven`.
        """
        async with self._database.unit_of_work() as uow:
            if (earlier := await uow.replay(once, TradeFeedback)) is not None:
                return earlier
            _, row = await of_trade(uow, TradeAgreementRow, agreement, who, TradeAgreementNotFound)
            if row.state != TradeState.COMPLETED:
                raise TradeAgreementNotOpen
            known = await uow.session.get(TradeFeedbackRow, (row.id, who.account))
            if known is not None and (known.rating, known.text) != (rating, text):
                raise FeedbackGiven
            if known is None:
                buys = who.account == row.buyer
                known = TradeFeedbackRow(
                    agreement=row.id,
                    reviewer=who.account,
                    reviewed=row.seller if buys else row.buyer,
                    role="buyer" if buys else "seller",
                    rating=rating,
                    text=text,
                    created_at=now(),
                )
                uow.add(known)
            return await uow.answer(once, feedback_view(known))

    async def of(self, who: Principal, agreement: str) -> Sequence[TradeFeedback]:
        """What both sides of a trade of the caller's said. Raises `TradeAgreementNotFound`."""
        async with self._database.reading() as session:
            row = await session.get(TradeAgreementRow, agreement)
            if row is None:
                raise TradeAgreementNotFound
            require_party(who, row, TradeAgreementNotFound)
            wanted = select(TradeFeedbackRow).where(TradeFeedbackRow.agreement == agreement)
            return [feedback_view(one) for one in await session.scalars(wanted.order_by(TradeFeedbackRow.role))]
