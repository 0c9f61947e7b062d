"""Deposits, the faucet, corrections: each a unit of work."""

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert as upsert

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import retry
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.accounts import Identity
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.parameters import Parameters
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Conflict, Forbidden, TooMany
from aitbc.kernel.primitives.money import ASSET, checked, render
from aitbc.modules.trading.api import HolderNotFound
from aitbc.modules.trading.models.rows import FEES, SYSTEM, Account, Posting, account_id
from aitbc.modules.trading.models.tables import EntryRow, FaucetDayRow, ReceiptRow, TransactionRow
from aitbc.modules.trading.models.views import LedgerTransaction
from aitbc.modules.trading.service.assets import require_asset
from aitbc.modules.trading.service.book_rows import load_book, open_purses, save_book
from aitbc.modules.trading.service.explorer import TransactionNotFound, transaction_view
from aitbc.modules.trading.service.refunds import note_refund
from aitbc.modules.trading.service.settings import FAUCET, TradingSettings


class FaucetOff(Forbidden):
    """This platform gives no play money away; an admin can make a deposit."""

    code = "faucet_off"


class FaucetEmpty(TooMany):
    """The faucet gives this account no more today.

    Come back tomorrow (UTC), or ask the operator for a deposit.
    """

    code = "faucet_empty"


class NotCorrectable(Conflict):
    """Only deposits, faucet grants and settlements can be corrected; an open hold is voided instead."""

    code = "not_correctable"


class Deposits:
    """Grants play money out of the issuance account, and corrects transactions."""

    def __init__(
        self, database: Database, identity: Identity, settings: TradingSettings, parameters: Parameters
    ) -> None:
        self._database = database
        self._identity = identity
        self._settings = settings
        self._parameters = parameters

    async def deposit(
        self,
        who: Principal,
        account: str,
        amount_units: int,
        reason: str | None,
        once: IdempotencyKey,
        asset: str = ASSET,
    ) -> LedgerTransaction:
        """Give an account play money of an asset. Raises `AssetNotFound`.

        Raises `HolderNotFound` for an account that nobody has: what it holds would be lost.
        """
        if not await self._identity.has_account(account):
            raise HolderNotFound

        async def work() -> LedgerTransaction:
            async with self._database.unit_of_work() as uow:
                stored = await uow.replay(once, LedgerTransaction)
                if stored is not None:
                    return stored
                await require_asset(uow, asset)
                posting = await self._grant(uow, "deposit", account, amount_units, reason, asset)
                noted = {"amount": render(amount_units), "transaction": posting.id}
                noted |= {} if asset == ASSET else {"asset": asset}
                await uow.audit(who.account, who.key, "deposit", account, **noted)
                return await uow.answer(once, await _view(uow, posting.id))

        return await retry(work)

    async def faucet(self, who: Principal, amount_units: int, once: IdempotencyKey) -> LedgerTransaction:
        """Take play money for oneself. Raises `FaucetOff`, and `FaucetEmpty` past the day's share."""
        if not self._settings.faucet:
            raise FaucetOff

        async def work() -> LedgerTransaction:
            async with self._database.unit_of_work() as uow:
                stored = await uow.replay(once, LedgerTransaction)
                if stored is not None:
                    return stored
                await self._take_share(uow, who.account, amount_units)
                posting = await self._grant(uow, "faucet", who.account, amount_units, None)
                return await uow.answer(once, await _view(uow, posting.id))

        return await retry(work)

    async def _take_share(self, uow: UnitOfWork, account: str, amount_units: int) -> None:
        share = self._parameters.value(FAUCET, self._settings.faucet_units_per_day)
        if amount_units > share:
            raise FaucetEmpty(f"The faucet gives an account at most {render(share)} a day.")
        adding = upsert(FaucetDayRow).values(account=account, day=now().date(), taken_units=amount_units)
        taken = FaucetDayRow.taken_units + amount_units
        counted = adding.on_conflict_do_update(
            index_elements=["account", "day"], set_={"taken_units": taken}, where=taken <= share
        ).returning(FaucetDayRow.taken_units)
        if (await uow.session.execute(counted)).scalar_one_or_none() is None:
            raise FaucetEmpty(f"The faucet gives an account at most {render(share)} a day.")

    async def _grant(
        self, uow: UnitOfWork, kind: str, account: str, amount_units: int, reason: str | None, asset: str = ASSET
    ) -> Posting:
        if not ids.is_id("acct", account):
            raise HolderNotFound
        checked(amount_units)
        issuance = Account(account_id(SYSTEM, "issuance", asset), SYSTEM, "issuance", asset=asset)
        given = Account(account_id(account, asset=asset), account, asset=asset)
        await open_purses(uow, (issuance, given))
        book = await load_book(uow, {issuance.id, given.id})
        posting = book.grant(kind, book.accounts[given.id], amount_units, reason)
        await save_book(uow, book)
        return posting

    async def correct(self, who: Principal, transaction: str, reason: str, once: IdempotencyKey) -> LedgerTransaction:
        """Undo a deposit, a faucet grant or a settlement by a transaction of its own; a second run changes nothing.

        Raises `TransactionNotFound`, `NotCorrectable`, and `InsufficientFunds` when the money has been spent.
        """

        async def work() -> LedgerTransaction:
            async with self._database.unit_of_work() as uow:
                stored = await uow.replay(once, LedgerTransaction)
                if stored is not None:
                    return stored
                original = await uow.find(TransactionRow, transaction, missing=TransactionNotFound)
                correction, fresh = await self._correct(uow, original, reason)
                if fresh:
                    noted = {"reason": reason, "correction": correction}
                    await uow.audit(who.account, who.key, "correct", transaction, **noted)
                return await uow.answer(once, await _view(uow, correction))

        return await retry(work)

    async def _correct(self, uow: UnitOfWork, original: TransactionRow, reason: str) -> tuple[str, bool]:
        """The id of the correction, and whether it was made just now."""
        if original.kind not in ("deposit", "faucet", "settle"):
            raise NotCorrectable
        touching = select(EntryRow).where(EntryRow.transaction_id == original.id).order_by(EntryRow.position)
        entries = list(await uow.session.scalars(touching))
        accounts = {entry.account_id for entry in entries}
        receipt = None
        if original.kind == "settle":
            found = await uow.session.scalars(select(ReceiptRow).where(ReceiptRow.transaction_id == original.id))
            receipt = found.one()
            accounts = {FEES, ids.decode("acct", receipt.payer), ids.decode("acct", receipt.miner_account)}
        book = await load_book(uow, accounts)
        earlier = select(TransactionRow.id).where(
            TransactionRow.kind == "correction", TransactionRow.reference == original.id
        )
        known = (await uow.session.execute(earlier)).scalar_one_or_none()
        if known is not None:
            return known, False
        if receipt is None:
            given = next(entry for entry in entries if entry.amount_units > 0)
            account = book.accounts[given.account_id]
            posting = book.correct_grant(account, given.amount_units, original.id, reason)
        elif receipt.price_units == 0:
            raise NotCorrectable("This settlement cost nothing: there is nothing to give back.")
        else:
            posting = book.correct_settlement(
                book.accounts[ids.decode("acct", receipt.payer)],
                book.accounts[ids.decode("acct", receipt.miner_account)],
                earned=receipt.earned_units,
                fee=receipt.fee_units,
                original=original.id,
                reason=reason,
            )
        await save_book(uow, book)
        if receipt is not None:
            note_refund(uow, posting.id, receipt.id, receipt.price_units, receipt.fee_units)
        return posting.id, True


async def _view(uow: UnitOfWork, transaction: str) -> LedgerTransaction:
    row = await uow.find(TransactionRow, transaction, missing=TransactionNotFound)
    return transaction_view(row.body, None, None)
