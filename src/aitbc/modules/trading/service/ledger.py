"""The ledger: holds and what ends them, in batches; balances and earnings."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial

from sqlalchemy import func, select, text, tuple_

from aitbc.kernel.crypto.signing import Key
from aitbc.kernel.database.batcher import Batcher
from aitbc.kernel.database.retry import retry
from aitbc.kernel.database.totals import total
from aitbc.kernel.database.unit_of_work import Connection, Database
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.errors import AppError
from aitbc.kernel.primitives.grace import Grace
from aitbc.modules.ai.events import AnswerSucceeded, HoldsFreed, JobClosed, JobSucceeded
from aitbc.modules.trading.api import (
    Balance,
    Earnings,
    Hold,
    HoldNotFound,
    PlaceHold,
    RaiseHold,
    ReceiptParties,
    SettleHold,
    Settlement,
)
from aitbc.modules.trading.batched import (
    Command,
    LedgerBatches,
    Outcome,
    VoidHold,
    find_ended,
    find_receipted,
    read_balances,
)
from aitbc.modules.trading.models.tables import HoldRow, ReceiptRow, TransactionRow
from aitbc.modules.trading.models.views import LedgerReport
from aitbc.modules.trading.service.book_rows import held_money_of
from aitbc.modules.trading.service.fees import Fees
from aitbc.modules.trading.service.verification import verify

EXPIRED_PER_ROUND = 500
GAP_SECONDS = 15.0
"""A round of expiry that comes so much later than the one before means that this process was frozen."""


class Ledger:
    """Places, settles and voids holds for many callers in one transaction."""

    def __init__(self, database: Database, key: Key, fees: Fees, grace_seconds: float) -> None:
        self._database = database
        self._fees = fees
        self._grace = Grace(grace_seconds, gap_seconds=GAP_SECONDS)
        self._batches = LedgerBatches(database, key)
        self._commands: Batcher[Command, Outcome] = Batcher(self._flush)
        self._balances: Batcher[str, Balance] = Batcher(partial(read_balances, database))

    async def hold(self, command: PlaceHold) -> Hold:
        """Set money aside."""
        outcome = await self._commands.do(command)
        assert isinstance(outcome, Hold)
        return outcome

    async def raise_hold(self, command: RaiseHold) -> Hold:
        """Set more money aside in an open hold."""
        if not ids.is_id("hold", command.hold):
            raise HoldNotFound
        outcome = await self._commands.do(command)
        assert isinstance(outcome, Hold)
        return outcome

    async def settle(self, command: SettleHold) -> Settlement:
        """Pay out of an open hold and issue the receipt."""
        outcome = await self._commands.do(command)
        assert isinstance(outcome, Settlement)
        return outcome

    async def void(self, hold: str, reason: str) -> Hold:
        """Return all of an open hold."""
        if not ids.is_id("hold", hold):
            raise HoldNotFound
        outcome = await self._commands.do(VoidHold(hold, reason))
        assert isinstance(outcome, Hold)
        return outcome

    async def settle_rest(self, connection: Connection, events: Sequence[JobSucceeded | AnswerSucceeded]) -> None:
        """Settle those of these jobs that are not settled yet: nearly always none. One refusal refuses all."""
        done = await find_ended(connection, [event.hold for event in events], ("settled",))
        commands = [_settlement(event) for event in events if event.hold not in done]
        if commands:
            await self._batches.apply_all(connection, commands)

    async def void_rest(self, connection: Connection, events: Sequence[JobClosed]) -> None:
        """Return the holds of those of these jobs whose money is not back yet: nearly always none."""
        done = await find_ended(connection, [event.hold for event in events], ("voided", "expired"))
        commands = [VoidHold(event.hold, event.reason) for event in events if event.hold not in done]
        if commands:
            await self._batches.apply_all(connection, commands)

    async def free_rest(self, connection: Connection, events: Sequence[HoldsFreed]) -> None:
        """Return the holds that the verification of jobs did not use, where that is not done yet."""
        reasons = {hold: event.reason for event in events for hold in event.holds}
        done = await find_ended(connection, list(reasons), ("voided", "expired"))
        commands = [VoidHold(hold, reason) for hold, reason in reasons.items() if hold not in done]
        if commands:
            await self._batches.apply_all(connection, commands)

    async def expire_holds(self) -> None:
        """Return the holds whose deadline has passed, unless those who need them may have had no time to say so."""
        if self._grace.holds():
            return
        while await retry(partial(self._batches.expire, EXPIRED_PER_ROUND)) == EXPIRED_PER_ROUND:
            pass

    async def open_holds(
        self, before: datetime, limit: int, after: tuple[datetime, str] | None = None
    ) -> Sequence[Hold]:
        """Open holds placed before a time, oldest first, from behind the one placed at a time with an id."""
        wanted = select(HoldRow).where(HoldRow.state == text("'open'"), HoldRow.placed_at < before)
        if after is not None:
            wanted = wanted.where(tuple_(HoldRow.placed_at, HoldRow.id) > after)
        async with self._database.reading() as session:
            rows = await session.scalars(wanted.order_by(HoldRow.placed_at, HoldRow.id).limit(limit))
            return [held_money_of(row).view() for row in rows]

    async def still_held(self, holds: Sequence[str]) -> Sequence[Hold]:
        """Those of these holds that are open."""
        known = [hold for hold in holds if ids.is_id("hold", hold)]
        async with self._database.reading() as session:
            rows = await session.scalars(select(HoldRow).where(HoldRow.id.in_(known), HoldRow.state == "open"))
            return [held_money_of(row).view() for row in rows]

    async def prolong(self, holds: Sequence[str], until: datetime) -> Sequence[str]:
        """Hold this money at least until then; returns those of the holds that are open."""
        known = [hold for hold in holds if ids.is_id("hold", hold)]
        return await retry(partial(self._batches.prolong, known, until)) if known else ()

    async def receipted(self, jobs: Sequence[str]) -> Sequence[str]:
        """Those of these jobs that were settled with a receipt."""
        return await find_receipted(self._database, [job for job in jobs if ids.is_id("job", job)])

    async def parties(self, receipts: Sequence[str]) -> Sequence[ReceiptParties]:
        """Who paid whom by those of these receipts that exist."""
        known = [receipt for receipt in receipts if ids.is_id("rcpt", receipt)]
        async with self._database.reading() as session:
            rows = (await session.scalars(select(ReceiptRow).where(ReceiptRow.id.in_(known)))).all()
            undone = select(TransactionRow.reference).where(
                TransactionRow.kind == text("'correction'"),
                TransactionRow.reference.in_([row.transaction_id for row in rows]),
            )
            corrected = set((await session.scalars(undone)).all()) if rows else set()
        names = ("payer", "miner", "miner_account", "price_units", "fee_units", "earned_units", "issued_at")
        return [
            ReceiptParties(
                receipt=row.id,
                is_corrected=row.transaction_id in corrected,
                **{name: getattr(row, name) for name in names},
            )
            for row in rows
        ]

    async def balance(self, account: str) -> Balance:
        """What an account owns now; zero for one that the ledger has not met."""
        if not ids.is_id("acct", account):
            return Balance(account=account, available_units=0, held_units=0)
        return await self._balances.do(account)

    async def earnings(self, miners: Sequence[str], since: datetime | None) -> Sequence[Earnings]:
        """What each of these miners was paid, over all its receipts or those since a time; in the order asked."""
        known = [miner for miner in miners if ids.is_id("mnr", miner)]
        summed = (ReceiptRow.miner, func.count(), total(ReceiptRow.earned_units))
        query = select(*summed).where(ReceiptRow.miner.in_(known)).group_by(ReceiptRow.miner)
        if since is not None:
            query = query.where(ReceiptRow.issued_at >= since)
        async with self._database.reading() as session:
            found = {miner: (jobs, earned) for miner, jobs, earned in await session.execute(query)}
        zero = (0, 0)
        return [
            Earnings(miner=miner, jobs=found.get(miner, zero)[0], earned_units=found.get(miner, zero)[1])
            for miner in miners
        ]

    async def verify(self) -> LedgerReport:
        """Recompute everything from the first record on."""
        return await verify(self._database)

    async def _flush(self, commands: Sequence[Command]) -> Sequence[Outcome | AppError]:
        fee = await self._fees.in_force()
        return await retry(partial(self._batches.flush, commands, fee))


def _settlement(event: JobSucceeded | AnswerSucceeded) -> SettleHold:
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
        offer=event.offer,
        ask_units=event.ask_units,
        devices=event.devices,
        verification=event.verification,
    )
