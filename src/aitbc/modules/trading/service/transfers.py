"""Transfers: money that moves between two accounts for a purpose, without a hold; each a unit of work."""

from uuid import UUID

import msgspec
from msgspec import Struct
from sqlalchemy import select

from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.money import InvalidAmount, checked, render
from aitbc.modules.trading.api import LedgerAccount, TransferDiffers, TransferMoney, TransferNotAllowed
from aitbc.modules.trading.models.records import TransactionRecord
from aitbc.modules.trading.models.rows import SYSTEM, SYSTEM_IDS, account_id
from aitbc.modules.trading.models.tables import AccountRow, TransactionRow
from aitbc.modules.trading.service.book_rows import load_book, open_accounts, save_book

OWN = frozenset({("main", "stake"), ("stake", "main"), ("main", "deposit"), ("deposit", "main")})
"""What an owner's own money moves between."""
TREASURY = "system/treasury"
INTO_TREASURY = frozenset({"main", "deposit"})


class Purse(Struct, frozen=True):
    """An account, by owner and purpose."""

    id: UUID
    owner: str
    purpose: str

    @property
    def name(self) -> str:
        """Its name in records."""
        return f"{self.owner}/{self.purpose}"


SYSTEM_PURSES = {f"{SYSTEM}/{purpose}": Purse(id_, SYSTEM, purpose) for purpose, id_ in SYSTEM_IDS.items()}


def purse_of(name: str) -> Purse:
    """The account of a name in records. Raises `TransferNotAllowed` for a name that nothing can have."""
    owner, _, purpose = name.partition("/")
    if owner == SYSTEM and name in SYSTEM_PURSES:
        return SYSTEM_PURSES[name]
    if not ids.is_id("acct", owner) or purpose not in ("main", "stake", "deposit"):
        raise TransferNotAllowed
    return Purse(account_id(owner, purpose), owner, purpose)


def require_allowed(source: Purse, target: Purse) -> None:
    """Raises `TransferNotAllowed` unless money may go from the one to the other."""
    own = source.owner == target.owner and (source.purpose, target.purpose) in OWN
    spent = source.name == TREASURY and target.purpose == "main"
    given = target.name == TREASURY and source.owner != SYSTEM and source.purpose in INTO_TREASURY
    share = target.name == TREASURY and source.name == "system/fees"
    if not (own or spent or given or share):
        raise TransferNotAllowed


class Transfers:
    """Moves money between accounts of the ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @retrying
    async def move(self, command: TransferMoney) -> None:
        """Move it, once. Raises what `TradingApi.transfer` says."""
        source, target = purse_of(command.source), purse_of(command.target)
        require_allowed(source, target)
        if checked(command.amount_units) <= 0:
            raise InvalidAmount
        both = {purse.id: purse for purse in (source, target)}
        async with self._database.unit_of_work() as uow:
            owners = {id_: purse.owner for id_, purse in both.items()}
            await open_accounts(uow, owners, {id_: purse.purpose for id_, purse in both.items()})
            book = await load_book(uow, set(both))
            if await _moved_before(uow, command):
                return
            book.transfer(book.accounts[source.id], book.accounts[target.id], command.amount_units, command)
            await save_book(uow, book)

    async def account(self, name: str) -> LedgerAccount:
        """An account by its name in records; zeros for one that is not there."""
        wanted = select(AccountRow.balance_units, AccountRow.earned_units).where(AccountRow.id == purse_of(name).id)
        async with self._database.reading() as session:
            found = (await session.execute(wanted)).one_or_none()
        balance, earned = (0, 0) if found is None else found
        return LedgerAccount(name=name, balance_units=balance, earned_units=earned)


async def _moved_before(uow: UnitOfWork, command: TransferMoney) -> bool:
    """Whether this very transfer is there. Raises `TransferDiffers` for another one of that id."""
    row = await uow.session.get(TransactionRow, command.transfer)
    if row is None:
        return False
    record = msgspec.json.decode(row.body, type=TransactionRecord)
    amount = render(command.amount_units)
    entries = [(entry.account, entry.amount) for entry in record.entries]
    if (record.kind, record.reference, entries) != (
        "transfer",
        command.reference,
        [(command.source, f"-{amount}"), (command.target, amount)],
    ):
        raise TransferDiffers
    return True
