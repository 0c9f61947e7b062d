"""What can be done with money: the face of trading, and what its own pages ask for."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from functools import partial

from prometheus_client import Metric
from sqlalchemy import func, select, text, tuple_

from aitbc.kernel.database.batcher import Batcher
from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import retry
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.platform import Platform
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.errors import AppError
from aitbc.kernel.primitives.money import share
from aitbc.modules.ai.events import JobClosed, JobSucceeded
from aitbc.modules.trading.api import (
    Balance,
    Earnings,
    FeeQuote,
    Hold,
    HolderNotFound,
    HoldNotFound,
    PayRent,
    PlaceHold,
    Rent,
    SettleHold,
    Settlement,
)
from aitbc.modules.trading.batched import Command, Gathered, Outcome, VoidHold
from aitbc.modules.trading.models.tables import HoldRow, ReceiptRow
from aitbc.modules.trading.models.views import LedgerReport, LedgerTransaction
from aitbc.modules.trading.service.blocks import Chain
from aitbc.modules.trading.service.deposits import Deposits
from aitbc.modules.trading.service.explorer import Explorer
from aitbc.modules.trading.service.export import export
from aitbc.modules.trading.service.fees import Fees
from aitbc.modules.trading.service.ledger import Ledger, held_money_of
from aitbc.modules.trading.service.measuring import measure
from aitbc.modules.trading.service.settings import TradingSettings
from aitbc.modules.trading.service.verification import verify

EXPIRED_PER_ROUND = 500
READ_BALANCES = "SELECT id, balance_units, held_units FROM trading.accounts WHERE id = ANY($1::uuid[])"


class TradingService:
    """Keeps the ledger and the chain."""

    def __init__(self, db: Database, platform: Platform, settings: TradingSettings | None = None) -> None:
        self.db = db
        self.settings = settings or TradingSettings()
        self.fees = Fees(db, self.settings)
        self.ledger = Ledger(db, platform.node_key, self.fees)
        self.deposits = Deposits(db, self.ledger, self.settings)
        self.chain = Chain(db, platform.node_key)
        self.explorer = Explorer(db, self.chain)
        self._identity = platform.identity
        self._gathered = Gathered(db, platform.node_key)
        self._commands: Batcher[Command, Outcome] = Batcher(self._flush)
        self._balances: Batcher[str, Balance] = Batcher(self._read_balances)

    async def start(self) -> None:
        """Make what the first start needs: the first block and the fee rate."""
        await self.chain.start()
        await self.fees.start()

    async def deposit(
        self, who: Principal, account: str, amount_units: int, reason: str | None, once: IdempotencyKey
    ) -> LedgerTransaction:
        """Give an account play money. Raises `HolderNotFound` for one that nobody has: what it holds would be lost."""
        if not await self._identity.has_account(account):
            raise HolderNotFound
        return await self.deposits.deposit(who, account, amount_units, reason, once)

    # The face: what the neighbours ask for

    async def hold(self, command: PlaceHold) -> Hold:
        """Set money aside."""
        if not self.settings.hot:
            return await self.ledger.place(command)
        outcome = await self._commands.do(command)
        assert isinstance(outcome, Hold)
        return outcome

    async def settle(self, command: SettleHold) -> Settlement:
        """Pay out of an open hold and issue the receipt."""
        if not self.settings.hot:
            return await self.ledger.settle(command)
        outcome = await self._commands.do(command)
        assert isinstance(outcome, Settlement)
        return outcome

    async def pay_rent(self, command: PayRent) -> Rent:
        """Pay a rent out of an open hold: seldom enough for a transaction of its own."""
        return await self.ledger.pay_rent(command)

    async def void(self, hold: str, reason: str) -> Hold:
        """Return all of an open hold."""
        if not ids.is_id("hold", hold):
            raise HoldNotFound
        if not self.settings.hot:
            return await self.ledger.void(hold, reason)
        outcome = await self._commands.do(VoidHold(hold, reason))
        assert isinstance(outcome, Hold)
        return outcome

    async def open_holds(
        self, before: datetime, limit: int, after: tuple[datetime, str] | None = None
    ) -> Sequence[Hold]:
        """Open holds placed before a time, oldest first, those behind the one that was placed and is called so."""
        wanted = select(HoldRow).where(HoldRow.state == text("'open'"), HoldRow.placed_at < before)
        if after is not None:
            wanted = wanted.where(tuple_(HoldRow.placed_at, HoldRow.id) > after)
        async with self.db.reading() as session:
            rows = await session.scalars(wanted.order_by(HoldRow.placed_at, HoldRow.id).limit(limit))
            return [held_money_of(row).view() for row in rows]

    async def still_held(self, holds: Sequence[str]) -> Sequence[Hold]:
        """Those of these holds that are open."""
        known = [hold for hold in holds if ids.is_id("hold", hold)]
        async with self.db.reading() as session:
            rows = await session.scalars(select(HoldRow).where(HoldRow.id.in_(known), HoldRow.state == "open"))
            return [held_money_of(row).view() for row in rows]

    async def balance(self, account: str) -> Balance:
        """What an account owns now; zero for one that the ledger has not met."""
        if not ids.is_id("acct", account):
            return Balance(account=account, available_units=0, held_units=0)
        return await self._balances.do(account)

    async def quote_fee(self, price_units: int) -> FeeQuote:
        """The fee that a settlement at this price would take now."""
        points = await self.fees.in_force()
        return FeeQuote(basis_points=points, fee_units=share(price_units, points))

    async def earnings(self, miners: Sequence[str], since: datetime | None) -> Sequence[Earnings]:
        """What each of these miners was paid, over all its receipts or those since a time; in the order asked."""
        known = [miner for miner in miners if ids.is_id("mnr", miner)]
        summed = (ReceiptRow.miner, func.count(), func.sum(ReceiptRow.earned_units))
        query = select(*summed).where(ReceiptRow.miner.in_(known)).group_by(ReceiptRow.miner)
        if since is not None:
            query = query.where(ReceiptRow.issued_at >= since)
        async with self.db.reading() as session:
            found = {miner: (jobs, int(earned)) for miner, jobs, earned in await session.execute(query)}
        zero = (0, 0)
        return [
            Earnings(miner=miner, jobs=found.get(miner, zero)[0], earned_units=found.get(miner, zero)[1])
            for miner in miners
        ]

    async def measure(self) -> Sequence[Metric]:
        """What Prometheus is told of the ledger."""
        return await measure(self.db)

    # What trading hears

    async def on_jobs_succeeded(self, uow: UnitOfWork, events: Sequence[JobSucceeded]) -> None:
        """Settle what the direct way did not; one that is refused stays with the relay, for an operator to see."""
        done = await _ended_as(uow, ("settled",), [event.hold for event in events])
        commands = [_settlement(event) for event in events if event.hold not in done]
        if commands:
            await self.ledger.settle_within(uow, commands)

    async def on_jobs_closed(self, uow: UnitOfWork, events: Sequence[JobClosed]) -> None:
        """Return what the direct way did not."""
        done = await _ended_as(uow, ("voided", "expired"), [event.hold for event in events])
        reasons = {event.hold: event.reason for event in events if event.hold not in done}
        if reasons:
            await self.ledger.void_within(uow, reasons)

    # Chores

    async def seal(self) -> None:
        """Close a block over everything that waits."""
        await self.chain.seal()

    async def expire_holds(self) -> None:
        """Return the holds whose deadline has passed."""
        while await retry(partial(self._gathered.expire, EXPIRED_PER_ROUND)) == EXPIRED_PER_ROUND:
            pass

    # The operator's

    async def verify(self) -> LedgerReport:
        """Recompute everything from the first record on."""
        return await verify(self.db)

    def export(self) -> AsyncIterator[bytes]:
        """The whole chain, for the offline verifier."""
        return export(self.db)

    async def _flush(self, commands: Sequence[Command]) -> Sequence[Outcome | AppError]:
        fee = await self.fees.in_force()
        return await retry(partial(self._gathered.flush, commands, fee))

    async def _read_balances(self, accounts: Sequence[str]) -> Sequence[Balance | AppError]:
        wanted = {account: ids.decode("acct", account) for account in accounts}
        async with self.db.raw() as connection:
            rows = await connection.fetch(READ_BALANCES, list(wanted.values()))
        found = {row["id"]: (row["balance_units"], row["held_units"]) for row in rows}
        return [
            Balance(account=account, available_units=found.get(id_, (0, 0))[0], held_units=found.get(id_, (0, 0))[1])
            for account, id_ in ((account, wanted[account]) for account in accounts)
        ]


async def _ended_as(uow: UnitOfWork, states: Sequence[str], holds: Sequence[str]) -> set[str]:
    """Of these holds, those that ended in one of these ways already: nearly always all."""
    query = select(HoldRow.id).where(HoldRow.id.in_(holds), HoldRow.state.in_(states))
    return set(await uow.session.scalars(query))


def _settlement(event: JobSucceeded) -> SettleHold:
    return SettleHold(
        hold=event.hold,
        job=event.job,
        attempt=event.attempt,
        token=event.token,
        payer=event.payer,
        miner=event.miner,
        miner_account=event.miner_account,
        kind=event.job_kind,
        input_digest=event.input_digest,
        output_digest=event.output_digest,
        unit=event.unit,
        units=event.units,
        price_units=event.price_units,
        started_at=event.started_at,
        finished_at=event.finished_at,
        miner_key=event.miner_key,
        miner_signature=event.miner_signature,
    )


__all__ = ["TradingService", "TradingSettings"]
