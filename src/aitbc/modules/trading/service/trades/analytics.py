"""Figures of a period, recomputed from the rows of trades each time."""

from datetime import datetime, timedelta
from typing import Annotated, Any

from msgspec import Struct
from sqlalchemy import case, distinct, func, select

from aitbc.kernel.database.totals import total
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.json_schema import one_of
from aitbc.kernel.primitives.money import render
from aitbc.modules.trading.models.trades.tables import TradeAgreementRow, TradeFeedbackRow, TradeSettlementRow

PERIODS = ("daily", "weekly", "monthly")


class TradeAnalytics(Struct, frozen=True, kw_only=True):
    """What was agreed on, paid and said since a period began."""

    period: Annotated[str, one_of(PERIODS)]
    """Which one. For example `daily`."""
    since: datetime
    """When the period began: the last midnight, Monday or first of a month (UTC)."""
    until: datetime
    """When this was computed."""
    total_trades: int
    """How many agreements were signed. For example `12`."""
    completed_trades: int
    """How many agreements were completed. For example `9`."""
    failed_trades: int
    """How many ended with everything refunded. For example `1`."""
    cancelled_trades: int
    """How many were cancelled before they were settled. For example `1`."""
    volume: str
    """The prices of those that were completed, added up, in AITBC. For example `112.5`."""
    average_value: str | None
    """The mean of those prices, rounded down to a minor unit; null without any. For example `12.5`."""
    fees: str
    """The platform's share of what was paid, in AITBC. For example `2.25`."""
    active_buyers: int
    """How many accounts agreed to buy. For example `4`."""
    active_sellers: int
    """How many accounts agreed to sell. For example `3`."""
    disputed_trades: int
    """How many of those that ended were disputed. For example `1`."""
    average_rating: float | None
    """The mean of the ratings given; null without any. For example `4.5`."""
    by_type: dict[str, int]
    """How many agreements were signed, by type of trade. For example `{"compute_resources": 12}`."""


class TradeFigures:
    """Computes figures."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, period: str) -> TradeAnalytics:
        """The figures of the period that goes on."""
        at = now()
        since = began(period, at)
        async with self._database.reading() as session:
            signed = (await session.execute(_signed(since))).one()
            ended = (await session.execute(_ended(since))).one()
            fees, disputed = (await session.execute(_settled(since))).one()
            rated = select(func.avg(TradeFeedbackRow.rating)).where(TradeFeedbackRow.created_at >= since)
            rating = await session.scalar(rated)
            typed = select(TradeAgreementRow.trade_type, func.count()).where(TradeAgreementRow.signed_at >= since)
            grouped = await session.execute(typed.group_by(TradeAgreementRow.trade_type))
            types = {row[0]: row[1] for row in grouped}
        completed, failed, cancelled, volume = ended
        return TradeAnalytics(
            period=period,
            since=since,
            until=at,
            total_trades=signed[0],
            completed_trades=completed,
            failed_trades=failed,
            cancelled_trades=cancelled,
            volume=render(volume),
            average_value=render(volume // completed) if completed else None,
            fees=render(fees),
            active_buyers=signed[1],
            active_sellers=signed[2],
            disputed_trades=disputed,
            average_rating=None if rating is None else round(float(rating), 2),
            by_type=types,
        )


def began(period: str, at: datetime) -> datetime:
    """When the day, week or month of a time began, in UTC."""
    day = at.replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "weekly":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if period == "monthly" else day


def _signed(since: datetime) -> Any:
    buyers, sellers = distinct(TradeAgreementRow.buyer), distinct(TradeAgreementRow.seller)
    return select(func.count(), func.count(buyers), func.count(sellers)).where(TradeAgreementRow.signed_at >= since)


def _ended(since: datetime) -> Any:
    states = [func.count().filter(TradeAgreementRow.state == state) for state in ("completed", "failed", "cancelled")]
    completed = case((TradeAgreementRow.state == "completed", TradeAgreementRow.price_units), else_=0)
    volume = total(completed)
    return select(*states, volume).where(TradeAgreementRow.ended_at >= since)


def _settled(since: datetime) -> Any:
    fees = total(TradeSettlementRow.fee_units)
    disputed = func.count().filter(TradeSettlementRow.disputed_by.is_not(None))
    return select(fees, disputed).where(TradeSettlementRow.ended_at >= since)
