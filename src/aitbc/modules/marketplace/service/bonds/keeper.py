"""The keeper of bonds: locks their money, takes what is due once nobody may object, and gives back what is left.

A part that is taken ends the hold of a bond; what is left is held anew by the same transaction of the ledger.
"""

import structlog
from sqlalchemy import select

from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.database.walk import keys_of
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError
from aitbc.modules.marketplace.models.bonds import HELD_FOR, BondRow, SlashRow
from aitbc.modules.marketplace.service.bonds.rows import lock_bond, pending, tell
from aitbc.modules.trading.api import (
    HoldNotFound,
    HoldNotOpen,
    InsufficientFunds,
    PayRefund,
    PlaceHold,
    TradingApi,
)

log = structlog.get_logger("aitbc.marketplace")


class BondKeeper:
    """Moves bonds on."""

    def __init__(self, database: Database, trading: TradingApi) -> None:
        self._database = database
        self._trading = trading

    async def keep(self) -> None:
        """Look at every bond that is not over once."""
        async for page in keys_of(self._database, BondRow.id, BondRow.state != "ended"):
            for bond in page:
                try:
                    await self.advance(bond)
                except AppError as error:  # the next round tries again
                    log.warning("bond_waits", bond=bond, reason=error.message)

    async def advance(self, bond: str) -> None:
        """Do the next steps of a bond."""
        if (await self.read(bond)).state == "locking":
            await self.lock(bond)
        await self._by_time(bond)
        async with self._database.reading() as session:
            wanted = select(SlashRow.id).where(SlashRow.bond == bond, SlashRow.state == "paying").order_by(SlashRow.id)
            due = (await session.scalars(wanted)).all()
        for slash in due:
            await self._pay(bond, slash)
        row = await self.read(bond)
        if row.state == "leaving" and row.leaves_at is not None and now() >= row.leaves_at:
            await self._return(bond)

    async def read(self, bond: str) -> BondRow:
        """A bond as it is now."""
        async with self._database.reading() as session:
            return await session.get_one(BondRow, bond)

    async def lock(self, bond: str) -> bool:
        """Hold a bond's money; false, and it is over, where its owner has too little."""
        row = await self.read(bond)
        try:
            await self._trading.hold(_hold_of(row, row.hold, row.amount_units))
        except InsufficientFunds:
            await self._note(row, held=False)
            return False
        await self._note(row, held=True)
        return True

    @retrying
    async def _note(self, asked: BondRow, *, held: bool) -> None:
        async with self._database.unit_of_work() as uow:
            row = await lock_bond(uow, asked.id)
            if row.state != "locking" or row.hold != asked.hold:
                return
            if held:
                row.state = "locked" if row.leaves_at is None else "leaving"
            else:
                row.state, row.ended_at = "ended", now()
            tell(uow, row, row.state)

    @retrying
    async def _by_time(self, bond: str) -> None:
        """Take what nobody appealed against in time, and drop what nobody decided in time."""
        async with self._database.unit_of_work() as uow:
            row = await lock_bond(uow, bond)
            due = select(SlashRow).where(SlashRow.bond == bond, SlashRow.due_at <= now())
            for slash in await uow.session.scalars(due.where(SlashRow.state.in_(("announced", "appealed")))):
                if slash.state == "announced":
                    slash.state = "paying"
                else:
                    slash.state, slash.ended_at = "dropped", now()
                    slash.resolution = "Nobody decided in time: nothing is taken."
                    tell(uow, row, "slash_dropped", slash)

    async def _pay(self, bond: str, slash: str) -> None:
        """Give the harmed payer what is taken; what is left stays locked, under a hold of its own."""
        row = await self.read(bond)
        if row.state not in ("locked", "leaving"):
            return  # it is being locked anew, or is over
        async with self._database.reading() as session:
            due = await session.get_one(SlashRow, slash)
        command = PayRefund(
            hold=row.hold,
            owner=row.account,
            payer=due.payer,
            reference=row.id,
            amount_units=due.amount_units,
            fee_units=due.fee_units,
            reason=f"slashed by {due.dispute}",
            rest=_hold_of(row, _rest_of(slash), left) if (left := row.amount_units - due.amount_units) else None,
        )
        transaction = None
        try:
            transaction = (await self._trading.refund(command)).transaction
        except (HoldNotOpen, HoldNotFound) as refusal:
            log.warning("slash_unpaid", bond=bond, slash=slash, reason=refusal.message)
        await self._taken(row, slash, transaction)

    @retrying
    async def _taken(self, before: BondRow, slash: str, transaction: str | None) -> None:
        async with self._database.unit_of_work() as uow:
            row = await lock_bond(uow, before.id)
            one = await uow.session.get_one(SlashRow, slash, with_for_update=True, populate_existing=True)
            if one.state != "paying" or row.hold != before.hold:
                return
            one.state, one.ended_at = "dropped" if transaction is None else "paid", now()
            one.transaction = transaction
            if transaction is not None:
                row.amount_units -= one.amount_units
                row.slashed_units += one.amount_units
                row.hold = _rest_of(slash)
                if not row.amount_units:
                    row.state, row.ended_at = "ended", now()
            tell(uow, row, f"slash_{one.state}", one)

    async def _return(self, bond: str) -> None:
        async with self._database.unit_of_work() as uow:
            if await pending(uow, bond):
                return  # it stays until that is decided
        row = await self.read(bond)
        try:
            await self._trading.void(row.hold, "bond")
        except (HoldNotOpen, HoldNotFound):
            log.info("bond_returned_before", bond=bond)
        await self._end(bond)

    @retrying
    async def _end(self, bond: str) -> None:
        async with self._database.unit_of_work() as uow:
            row = await lock_bond(uow, bond)
            if row.state == "leaving":
                row.state, row.ended_at = "ended", now()
                tell(uow, row, "ended")


def _rest_of(slash: str) -> str:
    """The hold of what a slash leaves, the same however often it is asked for."""
    return ids.encode("hold", ids.decode("slsh", slash))


def _hold_of(row: BondRow, hold: str, amount_units: int) -> PlaceHold:
    """A hold on an owner's money for a bond."""
    return PlaceHold(
        hold=hold,
        payer=row.account,
        amount_units=amount_units,
        expires_at=row.created_at + HELD_FOR,
        reference=row.id,
        fee_basis_points=0,
        is_spent=False,
    )
