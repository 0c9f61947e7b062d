"""Rows of disputes: found, locked, moved by compare-and-set, and told of."""

from typing import Any

from sqlalchemy import select

from aitbc.kernel.database.unit_of_work import UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives.errors import Conflict, NotFound
from aitbc.modules.marketplace.events import MarketDisputeChanged
from aitbc.modules.marketplace.models.dispute_views import MarketDispute, dispute_view
from aitbc.modules.marketplace.models.disputes import MOVES, DisputeEvidenceRow, DisputeRow, DisputeState, owed


class MarketDisputeNotFound(NotFound):
    """There is no such dispute, or you are no side of it."""

    code = "market_dispute_not_found"


class MarketDisputeNotOpen(Conflict):
    """This dispute is decided, or its money is not set aside yet."""

    code = "market_dispute_not_open"


async def lock_dispute(uow: UnitOfWork, dispute: str) -> DisputeRow:
    """A dispute, locked. Raises `MarketDisputeNotFound`."""
    row = await uow.find(DisputeRow, dispute, lock=True, missing=MarketDisputeNotFound)
    await uow.session.refresh(row)
    return row


async def seen_by(uow: UnitOfWork, who: Principal, dispute: str, *, lock: bool = False) -> DisputeRow:
    """A dispute of which the caller is a side; the operator sees all. Raises `MarketDisputeNotFound`."""
    row = await (lock_dispute(uow, dispute) if lock else uow.find(DisputeRow, dispute, missing=MarketDisputeNotFound))
    if not (who.owns(row.account) or who.owns(row.owner)):
        raise MarketDisputeNotFound
    return row


async def said_in(uow: UnitOfWork, dispute: str) -> list[DisputeEvidenceRow]:
    """What was said in a dispute, from the first on."""
    wanted = select(DisputeEvidenceRow).where(DisputeEvidenceRow.dispute == dispute).order_by(DisputeEvidenceRow.id)
    return list((await uow.session.scalars(wanted)).all())


async def shown(uow: UnitOfWork, row: DisputeRow) -> MarketDispute:
    """A dispute with what was said in it."""
    await uow.session.flush()
    return dispute_view(row, await said_in(uow, row.id))


def move(uow: UnitOfWork, row: DisputeRow, after: DisputeState, news: str, **values: Any) -> None:
    """Move a locked dispute on, and tell both its sides."""
    assert after in MOVES[DisputeState(row.state)], f"{row.state} is never followed by {after}"
    row.state = after
    for name, value in values.items():
        setattr(row, name, value)
    tell(uow, row, news)


def decide(uow: UnitOfWork, row: DisputeRow, by: str, share_basis_points: int, resolution: str | None) -> None:
    """Decide a locked dispute that is open."""
    values = {"share_basis_points": share_basis_points, "owed_units": owed(row, share_basis_points)}
    move(uow, row, DisputeState.DECIDING, "decided", decided_by=by, resolution=resolution, **values)


def tell(uow: UnitOfWork, row: DisputeRow, news: str) -> None:
    """Publish what happened to a dispute, for both its sides."""
    uow.publish(
        MarketDisputeChanged(
            dispute=row.id,
            subject=row.subject,
            payer=row.account,
            owner=row.owner,
            news=news,
            state=row.state,
            decide_by=row.decide_by,
            decided_by=row.decided_by,
            refunded_units=row.refunded_units,
        )
    )
