"""The keeper of disputes: sets money aside, ends those whose time is over, and moves the money of what is decided.

A step that was interrupted is done again: each is a compare-and-set, and the ledger knows each hold by its id.
"""

from contextlib import suppress

import structlog

from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.database.walk import keys_of
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError
from aitbc.modules.marketplace.models.disputes import (
    HELD_AFTER,
    DisputeRow,
    DisputeState,
    default_share,
    fee_of,
    short_of,
)
from aitbc.modules.marketplace.service.bonds.rows import announce
from aitbc.modules.marketplace.service.disputes.rows import decide, lock_dispute, move, said_in
from aitbc.modules.trading.api import (
    HoldNotFound,
    HoldNotOpen,
    InsufficientFunds,
    PayRefund,
    PlaceHold,
    RaiseHold,
    TradingApi,
)

log = structlog.get_logger("aitbc.marketplace")


class DisputeKeeper:
    """Moves disputes on."""

    def __init__(self, database: Database, trading: TradingApi) -> None:
        self._database = database
        self._trading = trading

    async def keep(self) -> None:
        """Look at every dispute that is not closed once."""
        async for page in keys_of(self._database, DisputeRow.id, DisputeRow.closed_at.is_(None)):
            for dispute in page:
                try:
                    await self.advance(dispute)
                except AppError as error:  # the next round tries again
                    log.warning("dispute_waits", dispute=dispute, reason=error.message)

    async def advance(self, dispute: str) -> None:
        """Do the next step of a dispute."""
        row = await self.read(dispute)
        if row.state == DisputeState.OPEN and now() >= row.decide_by:
            await self._end_by_time(dispute)
        elif row.state in (DisputeState.OPENING, DisputeState.OPEN):
            await self.set_aside(dispute)
        if (await self.read(dispute)).state == DisputeState.DECIDING:
            await self.finish(dispute)

    async def read(self, dispute: str) -> DisputeRow:
        """A dispute as it is now."""
        async with self._database.reading() as session:
            return await session.get_one(DisputeRow, dispute)

    async def set_aside(self, dispute: str) -> None:
        """Set aside what is due, as far as the owner has it; more as the owner has more; then it is open."""
        row = await self.read(dispute)
        if row.held_units < row.due_units:
            available = (await self._trading.balance(row.owner)).available_units
            if row.held_units:
                await self._raise(row, min(row.due_units, row.held_units + available))
            elif row.asked_units or available:
                await self._place(row, min(row.due_units, available))
        if row.state == DisputeState.OPENING:
            await self._open(dispute)

    async def _place(self, row: DisputeRow, wanted: int) -> None:
        asked = await self._ask(row.id, wanted)
        if asked is None:
            return
        command = PlaceHold(
            hold=asked.hold,
            payer=asked.owner,
            amount_units=asked.asked_units or 0,
            expires_at=asked.decide_by + HELD_AFTER,
            reference=asked.id,
            fee_basis_points=0,
            is_spent=False,
        )
        try:
            await self._trading.hold(command)
        except InsufficientFunds:  # spent meanwhile: the next round asks for what there is
            await self._note(asked, held=False)
            return
        if not await self._note(asked, held=True):
            await self._return(asked.hold)

    @retrying
    async def _ask(self, dispute: str, wanted: int) -> DisputeRow | None:
        """Write down what is asked for before the ledger is: or what was, before a crash."""
        async with self._database.unit_of_work() as uow:
            row = await lock_dispute(uow, dispute)
            if row.held_units or row.state not in (DisputeState.OPENING, DisputeState.OPEN):
                return None
            row.asked_units = row.asked_units or wanted or None
            return row if row.asked_units else None

    @retrying
    async def _note(self, asked: DisputeRow, *, held: bool) -> bool:
        """Say what came of asking; whether the money belongs to the dispute."""
        async with self._database.unit_of_work() as uow:
            row = await lock_dispute(uow, asked.id)
            if row.hold != asked.hold:
                return False
            if not held:
                row.hold, row.asked_units = ids.new_id("hold"), None
                return False
            if row.state in (DisputeState.OPENING, DisputeState.OPEN):
                row.held_units, row.asked_units = row.asked_units or row.held_units, None
            return row.held_units > 0

    async def _raise(self, row: DisputeRow, units: int) -> None:
        if units <= row.held_units:
            return
        with suppress(InsufficientFunds, HoldNotOpen, HoldNotFound):
            await self._trading.raise_hold(RaiseHold(hold=row.hold, payer=row.owner, amount_units=units))
            await self._note_raised(row.id, units)

    @retrying
    async def _note_raised(self, dispute: str, units: int) -> None:
        async with self._database.unit_of_work() as uow:
            row = await lock_dispute(uow, dispute)
            if row.state in (DisputeState.OPENING, DisputeState.OPEN):
                row.held_units = max(row.held_units, units)

    @retrying
    async def _open(self, dispute: str) -> None:
        async with self._database.unit_of_work() as uow:
            row = await lock_dispute(uow, dispute)
            if row.state == DisputeState.OPENING:
                move(uow, row, DisputeState.OPEN, "opened")

    @retrying
    async def _end_by_time(self, dispute: str) -> None:
        async with self._database.unit_of_work() as uow:
            row = await lock_dispute(uow, dispute)
            if row.state == DisputeState.OPEN:
                spoke = any(one.account == row.owner for one in await said_in(uow, dispute))
                decide(uow, row, "time", default_share(owner_spoke=spoke), None)

    async def finish(self, dispute: str) -> None:
        """Give back what is owed, return the rest to the owner, and call the dispute closed."""
        row = await self.read(dispute)
        if row.state != DisputeState.DECIDING:
            return
        corrected = await self._is_corrected(row)
        owed = 0 if corrected else row.owed_units
        transaction, refunded = None, 0
        if owed:
            command = PayRefund(
                hold=row.hold,
                owner=row.owner,
                payer=row.account,
                reference=row.id,
                amount_units=owed,
                fee_units=fee_of(row, owed),
                reason=f"dispute decided by {row.decided_by}",
                receipt=row.subject if ids.is_id("rcpt", row.subject) else None,
            )
            try:
                done = await self._trading.refund(command)
                transaction, refunded = done.transaction, done.amount_units
            except (HoldNotOpen, HoldNotFound) as refusal:  # it went back at its deadline, weeks after the decision
                log.warning("dispute_unpaid", dispute=dispute, reason=refusal.message)
        elif row.held_units or row.asked_units:
            await self._return(row.hold)
        await self._close(dispute, transaction, refunded, corrected=corrected)

    async def _is_corrected(self, row: DisputeRow) -> bool:
        """Whether the operator gave all of it back by a correction of the ledger meanwhile."""
        if not ids.is_id("rcpt", row.subject):
            return False
        return any(one.is_corrected for one in await self._trading.parties([row.subject]))

    @retrying
    async def _close(self, dispute: str, transaction: str | None, refunded: int, *, corrected: bool) -> None:
        async with self._database.unit_of_work() as uow:
            row = await lock_dispute(uow, dispute)
            if row.state == DisputeState.DECIDING:
                row.refunded_units, row.transaction = refunded, transaction
                move(uow, row, DisputeState.CLOSED, "closed", closed_at=now(), asked_units=None)
                if (short := short_of(row)) and not corrected:
                    await announce(uow, row, short)

    async def _return(self, hold: str) -> None:
        with suppress(HoldNotFound, HoldNotOpen):
            await self._trading.void(hold, "dispute")
