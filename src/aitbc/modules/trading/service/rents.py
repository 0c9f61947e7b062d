"""Rents: paid out of holds, seldom enough for a unit of work each."""

import msgspec

from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.primitives import ids
from aitbc.modules.trading.api import HoldNotOpen, PayRent, Rent
from aitbc.modules.trading.models.book import rent_of
from aitbc.modules.trading.models.records import TransactionRecord
from aitbc.modules.trading.models.rows import ESCROW, FEES, HeldMoney
from aitbc.modules.trading.models.tables import TransactionRow
from aitbc.modules.trading.service.book_rows import load_book, open_accounts, save_book


class Rents:
    """Pays the owners of what was rented."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @retrying
    async def pay(self, command: PayRent) -> Rent:
        """Pay a rent out of a hold. Raises what `TradingApi.pay_rent` says."""
        owners = {ids.decode("acct", command.owner): command.owner}
        accounts = {ESCROW, FEES, *owners, ids.decode("acct", command.payer)}
        async with self._database.unit_of_work() as uow:
            await open_accounts(uow, owners)
            book = await load_book(uow, accounts, holds=[command.hold])
            hold = book.holds.get(command.hold)
            if hold is not None and hold.state == "settled":
                return await _paid_before(uow, hold, command)
            rent = book.pay_rent(command)
            await save_book(uow, book)
            return rent


async def _paid_before(uow: UnitOfWork, hold: HeldMoney, command: PayRent) -> Rent:
    """The payment that ended this hold, if it is the one that is asked for. Raises `HoldNotOpen`."""
    assert hold.ended_by is not None, "a settled hold names what ended it"
    row = await uow.session.get_one(TransactionRow, hold.ended_by)
    named = {entry.account for entry in msgspec.json.decode(row.body, type=TransactionRecord).entries}
    rent = rent_of(hold, row.id)
    found = (row.kind, hold.payer, hold.reference, hold.price_units)
    paid = rent.earned_units == 0 or f"{command.owner}/main" in named
    if found != ("rent", command.payer, command.reference, command.price_units) or not paid:
        raise HoldNotOpen
    return rent
