"""What an agent has traded, recomputed from the rows each time: an account, or a name that buyers give in requests."""

from datetime import timedelta
from typing import Any

from msgspec import Struct
from sqlalchemy import ColumnElement, and_, case, func, or_, select

from aitbc.kernel.database.totals import total
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.modules.trading.models.trades.tables import (
    TradeAgreementRow,
    TradeMatchRow,
    TradeNegotiationRow,
    TradeRequestRow,
)

RECENT = timedelta(days=30)
ENDED = ("completed", "failed", "cancelled")


class AgentTrades(Struct, frozen=True, kw_only=True):
    """What an agent has traded, as far as whoever asks is a side of it."""

    requests: int
    matches: int
    negotiations: int
    agreements: int
    completed: int
    """Agreements that were completed, …"""
    ended: int
    """… of those that ended."""
    average_score: float | None
    """Of its matches, 0 to 100; none without any."""
    volume_units: int
    """The prices of what was completed, added up."""
    recent_requests: int
    """Of the last 30 days."""
    recent_matches: int
    recent_agreements: int


class TradeAgents:
    """Sums agents up."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, who: Principal, agent: str) -> AgentTrades:
        """What an agent has traded; an agent that the caller has nothing to do with has traded nothing."""
        since = now() - RECENT
        request, match, agreement = TradeRequestRow, TradeMatchRow, TradeAgreementRow
        of_request = _of(who, agent, request.buyer, None)
        completed = case((agreement.state == "completed", agreement.price_units), else_=0)
        async with self._database.reading() as session:
            asked = await session.execute(
                select(func.count(), _count(request.created_at >= since)).select_from(request).where(of_request)
            )
            matched = await session.execute(
                _joined(match, func.count(), _count(match.created_at >= since), func.avg(match.score)).where(
                    _of(who, agent, match.buyer, match.seller)
                )
            )
            negotiated = await session.execute(
                _joined(TradeNegotiationRow, func.count()).where(
                    _of(who, agent, TradeNegotiationRow.buyer, TradeNegotiationRow.seller)
                )
            )
            agreed = await session.execute(
                _joined(
                    agreement,
                    func.count(),
                    _count(agreement.signed_at >= since),
                    _count(agreement.state == "completed"),
                    _count(agreement.state.in_(ENDED)),
                    total(completed),
                ).where(_of(who, agent, agreement.buyer, agreement.seller))
            )
            requests, recent_requests = asked.one()
            matches, recent_matches, score = matched.one()
            (negotiations,) = negotiated.one()
            agreements, recent_agreements, done, ended, volume = agreed.one()
        return AgentTrades(
            requests=requests,
            matches=matches,
            negotiations=negotiations,
            agreements=agreements,
            completed=done,
            ended=ended,
            average_score=None if score is None else round(float(score), 2),
            volume_units=volume,
            recent_requests=recent_requests,
            recent_matches=recent_matches,
            recent_agreements=recent_agreements,
        )


def _count(condition: ColumnElement[bool]) -> Any:
    return func.count().filter(condition)


def _joined(row: Any, *columns: Any) -> Any:
    return select(*columns).select_from(row).join(TradeRequestRow, TradeRequestRow.id == row.request)


def _of(who: Principal, agent: str, buyer: Any, seller: Any) -> ColumnElement[bool]:
    """Rows of the agent of which the caller is a side; the operator sees all."""
    sides = [buyer] if seller is None else [buyer, seller]
    named = (
        or_(*(side == agent for side in sides)) if ids.is_id("acct", agent) else and_(TradeRequestRow.agent == agent)
    )
    return named if who.is_admin else and_(named, or_(*(side == who.account for side in sides)))
