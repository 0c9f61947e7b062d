"""Refunds: what was paid goes back out of holds, seldom enough for a unit of work each."""

import msgspec

from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.money import render
from aitbc.modules.trading.api import HoldNotOpen, PayRefund, Refunded
from aitbc.modules.trading.models.records import TransactionRecord
from aitbc.modules.trading.models.rows import ESCROW, FEES, HeldMoney
from aitbc.modules.trading.models.tables import RefundRow, TransactionRow
from aitbc.modules.trading.service.book_rows import load_book, open_accounts, save_book


class Refunds:
    """Gives payers back what they paid."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @retrying
    async def pay(self, command: PayRefund) -> Refunded:
        """Give back out of a hold. Raises what `TradingApi.refund` says."""
        payers = {ids.decode("acct", command.payer): command.payer}
        accounts = {ESCROW, FEES, *payers, ids.decode("acct", command.owner)}
        async with self._database.unit_of_work() as uow:
            await open_accounts(uow, payers)
            book = await load_book(uow, accounts, holds=[command.hold])
            hold = book.holds.get(command.hold)
            if hold is not None and hold.state == "settled":
                return await _refunded_before(uow, hold, command)
            refunded = book.refund(command)
            if command.rest is not None:
                book.place(command.rest)
            await save_book(uow, book)
            if command.receipt is not None:
                note_refund(uow, refunded.transaction, command.receipt, refunded.amount_units, command.fee_units)
            return refunded


def note_refund(uow: UnitOfWork, transaction: str, receipt: str, price_units: int, fee_units: int) -> None:
    """Note what of a receipt's price went back by a transaction, and what of that came out of the fees."""
    uow.add(RefundRow(transaction_id=transaction, receipt=receipt, price_units=price_units, fee_units=fee_units))


async def _refunded_before(uow: UnitOfWork, hold: HeldMoney, command: PayRefund) -> Refunded:
    """The refund that ended this hold, if it is the one that is asked for. Raises `HoldNotOpen`."""
    assert hold.ended_by is not None, "a settled hold names what ended it"
    row = await uow.session.get_one(TransactionRow, hold.ended_by)
    entries = msgspec.json.decode(row.body, type=TransactionRecord).entries
    returned = command.amount_units + command.fee_units
    paid = any((entry.account, entry.amount) == (f"{command.payer}/main", render(returned)) for entry in entries)
    found = (row.kind, hold.payer, hold.reference, hold.price_units)
    if found != ("refund", command.owner, command.reference, command.amount_units) or not paid:
        raise HoldNotOpen
    return Refunded(transaction=row.id, amount_units=returned)
