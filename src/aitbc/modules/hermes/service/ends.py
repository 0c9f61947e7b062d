"""The money of a run, and its end: its price is set aside, paid to the agent's owner, or given back."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

from sqlalchemy import update

from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError, Unavailable
from aitbc.modules.hermes.models.life import OVER, Move, RunState, answer_of, move_run, next_move
from aitbc.modules.hermes.models.tables import AgentRow, RunRow
from aitbc.modules.hermes.service.pushes import tell_of
from aitbc.modules.hermes.service.rows import steps_of
from aitbc.modules.trading.api import HoldNotFound, HoldNotOpen, PayRent, PlaceHold, TradingApi

HELD_BEYOND = timedelta(days=2)
"""How long past its deadline the price of a run is held: a payment that was missed is made within this time."""
NOT_THE_AGENT = frozenset({"budget_exhausted", "not_approved", "insufficient_funds", "hold_expired"})
"""Why runs fail without the agent's doing."""


def hold_of(run: str) -> str:
    """The hold of a run's price: it has the run's own UUID."""
    return ids.encode("hold", ids.decode("run", run))


class Ends:
    """Holds, pays and returns the price of runs, and ends them."""

    def __init__(self, db: Database, trading: TradingApi) -> None:
        self._db = db
        self._trading = trading

    async def hold(self, run: RunRow) -> None:
        """Set the price aside; where that is refused, the run is rejected."""
        command = PlaceHold(
            hold=hold_of(run.id),
            payer=run.account,
            amount_units=run.price_units,
            expires_at=run.deadline_at + HELD_BEYOND,
            reference=run.id,
        )
        try:
            await self._trading.hold(command)
        except Unavailable:
            raise
        except AppError as refusal:
            await self.condemn(run.id, RunState.REJECTED, refusal.code)
            return
        if not await self._note_held(run.id):
            with suppress(HoldNotFound, HoldNotOpen):  # it was ended meanwhile
                await self._trading.void(hold_of(run.id), "ended")

    @retrying
    async def _note_held(self, run: str) -> bool:
        """Whether the hold is the run's now."""
        async with self._db.unit_of_work() as uow:
            row = await uow.session.get_one(RunRow, run, with_for_update={"key_share": True})
            if row.state in OVER:
                return row.payment == "paid"
            if row.payment == "due":
                row.payment = "held"
            return True

    @retrying
    async def condemn(self, run: str, verdict: RunState, reason: str) -> bool:
        """Decide how a run is to end, once; it is wound down when it is driven on. Whether this decided it."""
        undecided = update(RunRow).where(RunRow.id == run, RunRow.ended_at.is_(None), RunRow.verdict.is_(None))
        async with self._db.unit_of_work() as uow:
            decided = undecided.values(verdict=verdict, reason=reason, due_at=now()).returning(RunRow.id)
            return (await uow.session.execute(decided)).first() is not None

    async def complete(self, run: RunRow) -> Sequence[str]:
        """Pay the agent's owner, and end the run; answers what is to be driven on."""
        transaction = None
        if run.payment == "held":
            command = PayRent(
                hold=hold_of(run.id),
                payer=run.account,
                owner=run.owner,
                reference=run.id,
                price_units=run.price_units,
                reason="agent_run",
            )
            try:
                transaction = (await self._trading.pay_rent(command)).transaction
            except (HoldNotOpen, HoldNotFound):  # it went back at its deadline
                await self.condemn(run.id, RunState.FAILED, "hold_expired")
                return (run.id,)
        return await self._note_complete(run.id, transaction)

    @retrying
    async def _note_complete(self, run: str, transaction: str | None) -> Sequence[str]:
        async with self._db.unit_of_work() as uow:
            row = await uow.session.get_one(RunRow, run, with_for_update={"key_share": True})
            if row.state in OVER:
                return ()
            steps = await steps_of(uow.session, run)
            if transaction is None and next_move(row, steps, now()) is not Move.PAY:
                return (run,)
            if transaction is not None:
                row.payment, row.transaction = "paid", transaction
                row.reserved_units -= row.price_units
                row.spent_units += row.price_units
            row.verdict, row.reason, row.output = None, "completed", answer_of(steps)
            if row.state != RunState.WORKING:
                move_run(row, RunState.WORKING, now())
            return await self._end(uow, row, RunState.COMPLETED)

    async def end(self, run: RunRow) -> Sequence[str]:
        """Give the price back, and end the run as was decided; answers what is to be driven on."""
        if run.payment in ("due", "held"):
            try:
                await self._trading.void(hold_of(run.id), run.reason)
            except HoldNotFound:
                pass
            except HoldNotOpen:  # it expired; or the payment went out before the verdict was known
                if run.payment == "held" and await self._was_paid(run):
                    return (run.id,)
        return await self._note_end(run.id)

    async def _was_paid(self, run: RunRow) -> bool:
        """Whether the agent's owner was paid after all, by somebody who died before writing it down."""
        command = PayRent(
            hold=hold_of(run.id),
            payer=run.account,
            owner=run.owner,
            reference=run.id,
            price_units=run.price_units,
            reason="agent_run",
        )
        try:
            paid = await self._trading.pay_rent(command)
        except (HoldNotOpen, HoldNotFound):
            return False
        await self._note_complete(run.id, paid.transaction)
        return True

    @retrying
    async def _note_end(self, run: str) -> Sequence[str]:
        async with self._db.unit_of_work() as uow:
            row = await uow.session.get_one(RunRow, run, with_for_update={"key_share": True})
            if row.state in OVER or row.verdict is None:
                return ()
            if row.payment in ("due", "held"):
                row.payment = "returned"
                row.reserved_units -= row.price_units
            return await self._end(uow, row, RunState(row.verdict))

    async def _end(self, uow: UnitOfWork, row: RunRow, state: RunState) -> Sequence[str]:
        at = now()
        if state is RunState.REJECTED and row.state == RunState.INPUT_REQUIRED:
            state = RunState.FAILED
        move_run(row, state, at)
        await uow.session.flush()
        if row.parent is not None:
            above = update(RunRow).where(RunRow.id == row.parent, RunRow.ended_at.is_(None))
            await uow.session.execute(above.values(due_at=at))
        await _count(uow, row)
        await tell_of(uow, row, await steps_of(uow.session, row.id))
        return () if row.parent is None else (row.parent,)


async def _count(uow: UnitOfWork, run: RunRow) -> None:
    """Count a priced run of another account in the reputation of its agent."""
    if run.price_units == 0 or run.account == run.owner or run.ended_at is None:
        return
    if run.state == RunState.COMPLETED:
        took = int((run.ended_at - run.created_at).total_seconds() * 1000)
        counted = {"completed": AgentRow.completed + 1, "milliseconds": AgentRow.milliseconds + took}
    elif run.state == RunState.FAILED and run.reason not in NOT_THE_AGENT:
        counted = {"failed": AgentRow.failed + 1}
    else:
        return
    await uow.session.execute(update(AgentRow).where(AgentRow.id == run.agent).values(**counted))
