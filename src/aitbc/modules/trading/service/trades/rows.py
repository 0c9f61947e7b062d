"""Rows of trades: found, locked, listed, and moved from state to state by compare-and-set.

Whoever changes anything of a trade locks its request first; then come offers, and the accounts of the ledger last.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, false, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase

from aitbc.kernel.database.unit_of_work import UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.errors import NotFound
from aitbc.modules.trading.models.trades.life import MOVES, UNDECIDED, TradeState
from aitbc.modules.trading.models.trades.tables import (
    TradeAgreementRow,
    TradeMatchRow,
    TradeOfferRow,
    TradeRequestRow,
)
from aitbc.modules.trading.service.trades.commands import TradeAgreementNotOpen, TradeFilter

Row = TypeVar("Row", bound=DeclarativeBase)
FRESH = {"populate_existing": True}


def require_party(who: Principal, row: Any, missing: type[NotFound]) -> None:
    """Raise `missing` for somebody who is neither buyer nor seller of a row; an admin may look."""
    if not (who.owns(row.buyer) or who.owns(row.seller)):
        raise missing


async def of_trade(
    uow: UnitOfWork, row: type[Row], identity: str, who: Principal, missing: type[NotFound]
) -> tuple[TradeRequestRow, Row]:
    """A row of a trade that the caller is a party to, as it is behind the lock of its request."""
    found: Any = await uow.find(row, identity, missing=missing)
    if who.account not in (found.buyer, found.seller):
        raise missing
    request = await lock_request(uow, found.request)
    await uow.session.refresh(found)
    return request, found


async def lock_request(uow: UnitOfWork, identity: str) -> TradeRequestRow:
    """The request of a trade, locked: all that happens to one trade happens one after the other."""
    locking = select(TradeRequestRow).where(TradeRequestRow.id == identity).with_for_update(key_share=True)
    return (await uow.session.scalars(locking, execution_options=FRESH)).one()


async def change(uow: UnitOfWork, row: type[DeclarativeBase], *where: ColumnElement[bool], **values: Any) -> bool:
    """Update by compare-and-set: whether there was a row to change."""
    key = next(iter(row.__table__.primary_key))
    changing = update(row).where(*where).values(**values).returning(key)
    return (await uow.session.execute(changing, execution_options={"synchronize_session": False})).first() is not None


async def set_state(
    uow: UnitOfWork, row: type[Any], identity: str, before: str, after: TradeState, **values: Any
) -> None:
    """Move a row from a state to another, which must be allowed; a row that has moved on is a fault of ours."""
    assert after in MOVES[TradeState(before)], f"{before} is never followed by {after}"
    moved = await change(uow, row, row.id == identity, row.state == before, state=after, **values)
    assert moved, f"{identity} moved on although its trade was locked"


async def advance(uow: UnitOfWork, agreement: TradeAgreementRow, after: TradeState, at: datetime | None = None) -> None:
    """Move an agreement, its match and its request together; `at` is when they ended."""
    before = agreement.state
    ended: dict[str, Any] = {} if at is None else {"ended_at": at}
    await set_state(uow, TradeRequestRow, agreement.request, before, after, **ended)
    await set_state(uow, TradeMatchRow, agreement.match, before, after)
    await set_state(uow, TradeAgreementRow, agreement.id, before, after, **ended)
    await uow.session.refresh(agreement)


async def cancel_agreement(uow: UnitOfWork, agreement: TradeAgreementRow, at: datetime) -> None:
    """End an agreement that nothing was paid for: what was taken of the offer is free again."""
    if agreement.state != TradeState.AGREED:
        raise TradeAgreementNotOpen
    await advance(uow, agreement, TradeState.CANCELLED, at)
    where = (TradeOfferRow.id == agreement.offer, TradeOfferRow.taken > 0)
    await change(uow, TradeOfferRow, *where, taken=TradeOfferRow.taken - 1)


async def close_matches(uow: UnitOfWork, request: str, *where: ColumnElement[bool]) -> None:
    """Close the matches of a request about which nothing is agreed: all, or those of a condition."""
    undecided = (TradeMatchRow.request == request, TradeMatchRow.state.in_(UNDECIDED), *where)
    closing = update(TradeMatchRow).where(*undecided).values(state=TradeState.CANCELLED)
    await uow.session.execute(closing, execution_options={"synchronize_session": False})


async def newest(
    session: AsyncSession, row: type[Any], filters: TradeFilter, *where: ColumnElement[bool], at: str = "created_at"
) -> Sequence[Any]:
    """A page of rows from the newest on."""
    moment = getattr(row, at)
    wanted = select(row).where(*where)
    for name in ("state", "trade_type", "agent", "request"):
        if (value := getattr(filters, name)) is not None:
            wanted = wanted.where(getattr(row, name) == value)
    for name in ("buyer", "seller"):
        if (account := getattr(filters, name)) is not None:
            known = ids.is_id("acct", account)
            wanted = wanted.where(getattr(row, name) == account if known else false())
    if filters.after is not None:
        wanted = wanted.where(tuple_(moment, row.id) < filters.after)
    found = await session.scalars(wanted.order_by(moment.desc(), row.id.desc()).limit(filters.limit))
    return found.all()


def parties(who: Principal, row: type[Any]) -> list[ColumnElement[bool]]:
    """The condition by which a caller sees rows with two sides: its own, all for an admin."""
    if who.is_admin:
        return []
    return [or_(row.buyer == who.account, row.seller == who.account)]
