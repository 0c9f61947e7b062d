"""Bounties for models that nobody serves: made while jobs wait, paid once to whoever does the first, or withdrawn.

What a bounty can become is held before it is open, so that whoever loads a model for it is paid. Serving means that one
of the jobs that wait for it was done and paid by another account than the miner's.
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

import structlog
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.totals import total
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.database.walk import keys_of
from aitbc.kernel.parameters import Parameters
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError
from aitbc.modules.ai.api import AiApi, UnservedModel
from aitbc.modules.marketplace.models.bounties import (
    HELD_FOR,
    JOBS_MAX,
    SHARES_FIRST,
    SHARES_MOST,
    BountyRow,
    MarketBounty,
    bounty_view,
    worth,
)
from aitbc.modules.marketplace.service.settings import BOUNTIES_PER_DAY, BOUNTY_SHARE, MarketplaceSettings
from aitbc.modules.trading.api import (
    HoldNotFound,
    HoldNotOpen,
    InsufficientFunds,
    PayRent,
    PlaceHold,
    ReceiptParties,
    TradingApi,
)

DAY = timedelta(days=1)

log = structlog.get_logger("aitbc.marketplace")


class Purse:
    """Which account pays bounties, how much one is worth, and how much of a day's most is left."""

    def __init__(self, settings: MarketplaceSettings, parameters: Parameters) -> None:
        self.account = settings.bounty_account
        self._settings = settings
        self._parameters = parameters

    @property
    def share_units(self) -> int:
        """What one share of a new bounty is worth."""
        return self._parameters.value(BOUNTY_SHARE, self._settings.bounty_share_units)

    async def left(self, uow: UnitOfWork) -> int:
        """What may still be promised today."""
        paid = select(total(BountyRow.amount_units)).where(BountyRow.state == "paid", BountyRow.ended_at > now() - DAY)
        held = select(total(BountyRow.held_units)).where(BountyRow.ended_at.is_(None))
        spent = (await uow.session.scalar(paid) or 0) + (await uow.session.scalar(held) or 0)
        most = self._parameters.value(BOUNTIES_PER_DAY, self._settings.bounties_per_day_units)
        return max(0, most - spent)


class Bounties:
    """Makes, pays, withdraws and shows bounties."""

    def __init__(self, database: Database, ai: AiApi, trading: TradingApi, purse: Purse) -> None:
        self._database = database
        self._ai = ai
        self._trading = trading
        self.purse = purse

    async def page(self, state: str | None, after: str | None, limit: int) -> Sequence[MarketBounty]:
        """Bounties from the newest on."""
        wanted = select(BountyRow)
        if state is not None:
            wanted = wanted.where(BountyRow.state == state)
        if after is not None:
            wanted = wanted.where(BountyRow.id < after)
        async with self._database.reading() as session:
            rows = (await session.scalars(wanted.order_by(BountyRow.id.desc()).limit(limit))).all()
            return [bounty_view(row, now()) for row in rows]

    async def keep(self) -> None:
        """Bring bounties up to what waits: first those that are there, then new ones."""
        async for page in keys_of(self._database, BountyRow.id, BountyRow.ended_at.is_(None)):
            for bounty in page:
                try:
                    await self.advance(bounty)
                except AppError as error:  # the next round tries again
                    log.warning("bounty_waits", bounty=bounty, reason=error.message)
        if self.purse.account is not None:
            for wanted in await self._ai.unserved():
                available = (await self._trading.balance(self.purse.account)).available_units
                await self._want(wanted, available)

    async def advance(self, bounty: str) -> None:
        """Do the next step of a bounty."""
        row = await self._read(bounty)
        if row.state == "asked":
            await self._hold(row)
        elif row.state == "open":
            done = await self._trading.parties([_receipt(job) for job in row.jobs])
            if (first := _first(done)) is not None:
                await self._claim(bounty, first)
            elif not {*map(_receipt, await self._ai.not_failed(row.jobs))} - {one.receipt for one in done}:
                await self._withdraw(row)
        if (row := await self._read(bounty)).state == "paying":
            await self._pay(row)

    async def _read(self, bounty: str) -> BountyRow:
        async with self._database.reading() as session:
            return await session.get_one(BountyRow, bounty)

    @retrying
    async def _want(self, wanted: UnservedModel, available: int) -> None:
        """Write a bounty down for a model, as far as there is money for it, or note further jobs that wait for one."""
        payer = self.purse.account
        assert payer is not None
        async with self._database.unit_of_work() as uow:
            same = (BountyRow.kind == wanted.kind, BountyRow.model == wanted.model, BountyRow.ended_at.is_(None))
            known = (await uow.session.scalars(select(BountyRow).where(*same).with_for_update())).one_or_none()
            if known is not None:
                if known.state in ("asked", "open"):
                    known.jobs = [*dict.fromkeys((*known.jobs, *wanted.jobs))][:JOBS_MAX]
                return
            share = self.purse.share_units
            most = min(SHARES_MOST * share, available, await self.purse.left(uow))
            if most < SHARES_FIRST * share:
                return  # the day's most is promised or paid, or the account is empty
            # Whoever serves one job and leaves again earns nothing for the time that was paid for before.
            same_model = (BountyRow.kind == wanted.kind, BountyRow.model == wanted.model, BountyRow.state == "paid")
            paid_at = await uow.session.scalar(select(func.max(BountyRow.ended_at)).where(*same_model))
            since = wanted.since if paid_at is None else max(wanted.since, paid_at)
            values = _new(wanted, payer, most, share) | {"since": since}
            await uow.session.execute(insert(BountyRow).values(**values).on_conflict_do_nothing())

    async def _hold(self, row: BountyRow) -> None:
        """Hold what it can become; where the account has too little, there is no bounty."""
        try:
            await self._trading.hold(self._promise(row, row.hold, row.held_units))
        except InsufficientFunds:
            log.warning("bounty_without_money", kind=row.kind, model=row.model)
            await self._move(row, "withdrawn", ended_at=now())
        else:
            await self._move(row, "open")

    @staticmethod
    def _promise(row: BountyRow, hold: str, amount: int) -> PlaceHold:
        until = (now() if row.state == "paying" else row.created_at) + HELD_FOR
        return PlaceHold(
            hold=hold, payer=row.payer, amount_units=amount, expires_at=until, reference=row.id, fee_basis_points=0
        )

    @retrying
    async def _claim(self, bounty: str, first: ReceiptParties) -> None:
        async with self._database.unit_of_work() as uow:
            row = await uow.session.get_one(BountyRow, bounty, with_for_update=True, populate_existing=True)
            if row.state != "open":
                return
            row.state, row.amount_units = "paying", worth(row, first.issued_at)
            row.job = ids.encode("job", ids.decode("rcpt", first.receipt))
            row.miner, row.owner = first.miner, first.miner_account

    async def _pay(self, row: BountyRow) -> None:
        assert row.owner is not None
        command = PayRent(
            hold=row.hold,
            payer=row.payer,
            owner=row.owner,
            reference=row.id,
            price_units=row.amount_units,
            reason="served a model that jobs waited for",
        )
        try:
            paid = await self._trading.pay_rent(command)
        except (HoldNotFound, HoldNotOpen):  # it expired before it was paid: what was promised is held once more
            await self._hold_again(row)
        else:
            await self._move(row, "paid", transaction=paid.transaction, ended_at=now())

    async def _hold_again(self, row: BountyRow) -> None:
        """Hold what was earned, for the next round to pay; one that this process does not get to name expires."""
        hold = ids.new_id("hold")
        await self._trading.hold(self._promise(row, hold, row.amount_units))
        await self._move(row, "paying", hold=hold)

    async def _withdraw(self, row: BountyRow) -> None:
        """End a bounty whose jobs are over, and none of them was done by anybody."""
        with suppress(HoldNotFound, HoldNotOpen):  # it was returned before
            await self._trading.void(row.hold, "bounty withdrawn")
        await self._move(row, "withdrawn", ended_at=now())

    @retrying
    async def _move(self, before: BountyRow, after: str, **values: object) -> bool:
        """Move a bounty on by compare-and-set."""
        async with self._database.unit_of_work() as uow:
            row = await uow.session.get_one(BountyRow, before.id, with_for_update=True, populate_existing=True)
            if row.state != before.state:
                return False
            row.state = after
            for name, value in values.items():
                setattr(row, name, value)
            return True


def _receipt(job: str) -> str:
    """The receipt that a job has once it is paid."""
    return ids.encode("rcpt", ids.decode("job", job))


def _first(done: Sequence[ReceiptParties]) -> ReceiptParties | None:
    """The receipt of the job that was done first, by somebody else than who pays for it."""
    others = [one for one in done if one.payer != one.miner_account and not one.is_corrected]
    return min(others, key=lambda one: (one.issued_at, one.receipt), default=None)


def _new(wanted: UnservedModel, payer: str, most: int, share: int) -> dict[str, object]:
    return {
        "id": ids.new_id("bnty"),
        "kind": wanted.kind,
        "model": wanted.model,
        "jobs": list(wanted.jobs),
        "payer": payer,
        "hold": ids.new_id("hold"),
        "held_units": most,
        "share_units": share,
        "state": "asked",
        "amount_units": 0,
        "created_at": now(),
    }
