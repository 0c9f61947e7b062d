"""Money that moves because governance decided so: written with the decision, moved once, and noted as moved.

A crash between the three leaves a row that is due; the periodic task moves it under the same id, which the ledger
knows.
"""

from datetime import datetime, timedelta

import structlog
from sqlalchemy import delete, select, update

from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError
from aitbc.modules.governance.models.life import ProposalState
from aitbc.modules.governance.models.tables import BudgetLineRow, MoveRow, ProposalRow, SponsorRow, TreasuryRow
from aitbc.modules.governance.service.power import add_stake
from aitbc.modules.governance.service.steps import step
from aitbc.modules.trading.api import InsufficientFunds, TradingApi, TransferMoney

TREASURY = "system/treasury"
FEES = "system/fees"
AGAIN = timedelta(seconds=60)
"""How long after a refusal money that will come later is tried again."""
AT_ONCE = 200
OF_ACCOUNTS = ("stake", "deposit", "gift")
"""What an account has to have: where it has not, nothing comes of it."""

log = structlog.get_logger("aitbc.governance")


def new_move(
    purpose: str,
    source: str,
    target: str,
    amount_units: int,
    *,
    at: datetime,
    due_at: datetime | None = None,
    account: str | None = None,
    proposal: str | None = None,
    line: str | None = None,
    part: int = 0,
    title: str = "",
    reason: str = "",
) -> MoveRow:
    """A move that is due now, or at a time; one with a title waits for approval."""
    return MoveRow(
        id=ids.new_id("txn"),
        purpose=purpose,
        source=source,
        target=target,
        amount_units=amount_units,
        account=account,
        proposal=proposal,
        line=line,
        part=part,
        title=title,
        reason=reason,
        of_treasury=TREASURY in (source, target),
        state="waiting" if title else "due",
        due_at=due_at or at,
        created_at=at,
        done_at=None,
    )


class Moves:
    """Moves money of governance."""

    def __init__(self, db: Database, trading: TradingApi) -> None:
        self._db = db
        self._trading = trading

    async def run(self, move: str) -> str:
        """Move what is due, unless that was done before; returns the state that it came to."""
        async with self._db.reading() as session:
            row = await session.get_one(MoveRow, move)
        if row.state != "due" or row.due_at > now():
            return row.state
        command = TransferMoney(
            transfer=row.id,
            source=row.source,
            target=row.target,
            amount_units=row.amount_units,
            reference=row.proposal or row.purpose,
            reason=row.reason or row.purpose,
        )
        try:
            await self._trading.transfer(command)
        except InsufficientFunds:
            return await self._refuse(row)
        return await self._finish(row.id)

    async def run_due(self) -> int:
        """Move all that is due; returns how much did."""
        if not await self._db.is_any("governance.moves WHERE state = 'due' AND due_at <= $1", now()):
            return 0
        due = select(MoveRow.id).where(MoveRow.state == "due", MoveRow.due_at <= now())
        async with self._db.reading() as session:
            found = (await session.scalars(due.order_by(MoveRow.due_at, MoveRow.id).limit(AT_ONCE))).all()
        moved = 0
        for move in found:
            try:
                moved += await self.run(move) == "done"
            except AppError as error:  # the next round tries again
                log.warning("move_postponed", move=move, reason=error.message)
        return moved

    @retrying
    async def _refuse(self, row: MoveRow) -> str:
        async with self._db.unit_of_work() as uow:
            moving = update(MoveRow).where(MoveRow.id == row.id, MoveRow.state == "due")
            if row.purpose not in OF_ACCOUNTS:
                await uow.session.execute(moving.values(due_at=now() + AGAIN))
                return "due"
            done = (await uow.session.execute(moving.values(state="refused").returning(MoveRow.id))).first()
            if done is not None and row.purpose == "deposit":
                draft = await uow.session.get(ProposalRow, row.proposal)
                if draft is not None and draft.state == ProposalState.DRAFT:
                    await uow.session.execute(delete(SponsorRow).where(SponsorRow.proposal == draft.id))
                    await uow.session.delete(draft)
            return "refused"

    @retrying
    async def _finish(self, move: str) -> str:
        async with self._db.unit_of_work() as uow:
            row = await uow.find(MoveRow, move, lock=True)
            if row.state != "due":
                return row.state
            row.state, row.done_at = "done", now()
            await uow.audit("governance", "system", f"money.{row.purpose}", row.proposal or row.id, transaction=row.id)
            if row.purpose == "stake":
                assert row.account is not None, "stake is somebody's"
                await add_stake(uow, row.account, row.amount_units)
            elif row.purpose == "deposit":
                proposal = await uow.find(ProposalRow, row.proposal or "", lock=True)
                step(uow, proposal, ProposalState.PENDING)
            elif row.purpose == "payment":
                await _count_payment(uow, row)
            return "done"


async def _count_payment(uow: UnitOfWork, row: MoveRow) -> None:
    treasury = await uow.session.get_one(TreasuryRow, 1, with_for_update={"key_share": True})
    treasury.promised_units -= row.amount_units
    treasury.version += 1
    line = await uow.session.get_one(BudgetLineRow, row.line, with_for_update={"key_share": True})
    line.promised_units -= row.amount_units
    line.paid_units += row.amount_units
    line.changed_at = now()
