"""Disputes as their sides and the operator see them: begun, read, argued, conceded, withdrawn and decided."""

from collections.abc import Sequence
from contextlib import suppress

from msgspec import Struct
from sqlalchemy import func, or_, select
from sqlalchemy.dialects.postgresql import insert

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids, money
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError, Conflict, NotFound, TooMany
from aitbc.modules.marketplace.models.dispute_views import MarketDispute, dispute_view
from aitbc.modules.marketplace.models.disputes import (
    ALL,
    LASTS,
    NOTHING,
    WITHIN,
    DisputeEvidenceRow,
    DisputeRow,
    DisputeState,
    parts_of,
)
from aitbc.modules.marketplace.service.disputes.keeper import DisputeKeeper
from aitbc.modules.marketplace.service.disputes.rows import (
    MarketDisputeNotFound,
    MarketDisputeNotOpen,
    decide,
    lock_dispute,
    seen_by,
    shown,
    tell,
)
from aitbc.modules.marketplace.service.payments import PaidBookings, Payment
from aitbc.modules.trading.api import TradingApi

OPEN_MAX = 100
"""How many disputes of an account may be open."""
EVIDENCE_MAX = 20


class DisputedPaymentNotFound(NotFound):
    """There is no such receipt or booking, or you did not pay it."""

    code = "disputed_payment_not_found"


class NotDisputable(Conflict):
    """This cannot be disputed: it is not over, nothing was paid, its 72 hours are past, or it is your own miner's."""

    code = "not_disputable"


class MarketDisputed(Conflict):
    """This is disputed, or was before."""

    code = "market_disputed"


class TooManyDisputes(TooMany):
    """This account has as many open disputes as it may have."""

    code = "too_many_market_disputes"


class TooMuchMarketEvidence(TooMany):
    """A dispute takes 20 statements of each side."""

    code = "market_too_much_evidence"


class BeginDispute(Struct, frozen=True, kw_only=True):
    """Somebody who paid wants money back."""

    subject: str
    reason: str
    claim_units: int | None = None
    """None for all that was paid."""


class DisputesFilter(Struct, frozen=True, kw_only=True):
    """Which disputes are wanted, from the newest on."""

    state: str | None = None
    after: str | None = None
    limit: int = 50


class Begun(Struct, frozen=True):
    """The id of a dispute that a request has begun."""

    id: str


class MarketDisputes:
    """Begins, shows and ends disputes."""

    def __init__(self, database: Database, trading: TradingApi, bookings: PaidBookings, keeper: DisputeKeeper) -> None:
        self._database = database
        self._trading = trading
        self._bookings = bookings
        self._keeper = keeper

    async def begin(self, who: Principal, command: BeginDispute, once: IdempotencyKey) -> MarketDispute:
        """Dispute what the caller paid: what was earned of it is set aside of the owner's money until it is decided.

        Raises `DisputedPaymentNotFound`, `NotDisputable`, `MarketDisputed`, `TooManyDisputes`.
        """
        payment = await self._payment(command.subject)
        if payment is None or payment.payer != who.account:
            raise DisputedPaymentNotFound
        dispute = await self._begin(who, command, payment, once)
        with suppress(AppError):  # the next round tries again
            await self._keeper.set_aside(dispute)
        return await self.get(who, dispute)

    async def _payment(self, subject: str) -> Payment | None:
        if ids.is_id("book", subject):
            return await self._bookings.payment(subject)
        for one in await self._trading.parties([subject]):
            price = 0 if one.is_corrected else one.price_units
            return Payment(
                payer=one.payer,
                owner=one.miner_account,
                miner=one.miner,
                price_units=price,
                fee_units=one.fee_units,
                over_at=one.issued_at,
            )
        return None

    @retrying
    async def _begin(self, who: Principal, command: BeginDispute, payment: Payment, once: IdempotencyKey) -> str:
        async with self._database.unit_of_work() as uow:
            if (earlier := await uow.replay(once, Begun)) is not None:
                return earlier.id
            row = _new(command, payment)
            open_ = (DisputeRow.account == who.account, DisputeRow.closed_at.is_(None))
            if (await uow.session.scalar(select(func.count()).select_from(DisputeRow).where(*open_)) or 0) >= OPEN_MAX:
                raise TooManyDisputes
            values = {column.key: getattr(row, column.key) for column in DisputeRow.__table__.columns}
            placing = insert(DisputeRow).values(**values).on_conflict_do_nothing().returning(DisputeRow.id)
            if await uow.session.scalar(placing) is None:
                raise MarketDisputed
            await uow.audit(who.account, who.key, "market.dispute", row.id, subject=row.subject)
            await uow.answer(once, Begun(id=row.id))
            return row.id

    async def get(self, who: Principal, dispute: str) -> MarketDispute:
        """A dispute of which the caller is a side. Raises `MarketDisputeNotFound`."""
        async with self._database.unit_of_work() as uow:
            return await shown(uow, await seen_by(uow, who, dispute))

    async def page(self, who: Principal, wanted: DisputesFilter) -> Sequence[MarketDispute]:
        """The disputes of which the caller is a side, all for the operator, from the newest on."""
        query = select(DisputeRow)
        if not who.is_admin:
            query = query.where(or_(DisputeRow.account == who.account, DisputeRow.owner == who.account))
        if wanted.state is not None:
            query = query.where(DisputeRow.state == wanted.state)
        if wanted.after is not None:
            query = query.where(DisputeRow.id < wanted.after)
        async with self._database.reading() as session:
            rows = await session.scalars(query.order_by(DisputeRow.id.desc()).limit(wanted.limit))
            return [dispute_view(row) for row in rows]

    @retrying
    async def say(self, who: Principal, dispute: str, text: str, once: IdempotencyKey) -> MarketDispute:
        """Add evidence to an open dispute, as one of its sides.

        Raises `MarketDisputeNotFound`, `MarketDisputeNotOpen`, `TooMuchMarketEvidence`.
        """
        async with self._database.unit_of_work() as uow:
            if (earlier := await uow.replay(once, MarketDispute)) is not None:
                return earlier
            row = await lock_dispute(uow, dispute)
            if who.account not in (row.account, row.owner):
                raise MarketDisputeNotFound
            if row.state not in (DisputeState.OPENING, DisputeState.OPEN):
                raise MarketDisputeNotOpen
            mine = (DisputeEvidenceRow.dispute == dispute, DisputeEvidenceRow.account == who.account)
            said = select(func.count()).select_from(DisputeEvidenceRow).where(*mine)
            if (await uow.session.scalar(said) or 0) >= EVIDENCE_MAX:
                raise TooMuchMarketEvidence
            values = {"dispute": dispute, "account": who.account, "text": text, "created_at": now()}
            uow.add(DisputeEvidenceRow(id=ids.new_id("devi"), **values))
            tell(uow, row, "evidence")
            return await uow.answer(once, await shown(uow, row))

    async def concede(self, who: Principal, dispute: str) -> MarketDispute:
        """Give all of the claim back, as the owner; again, it changes nothing.

        Raises `MarketDisputeNotFound`, `MarketDisputeNotOpen`.
        """
        return await self._end(who, dispute, "owner", ALL)

    async def withdraw(self, who: Principal, dispute: str) -> MarketDispute:
        """Want nothing back any more, as the payer; again, it changes nothing.

        Raises `MarketDisputeNotFound`, `MarketDisputeNotOpen`.
        """
        return await self._end(who, dispute, "payer", NOTHING)

    async def _end(self, who: Principal, dispute: str, side: str, share: int) -> MarketDispute:
        await self._end_by_side(who, dispute, side, share)
        return await self._finished(who, dispute)

    @retrying
    async def _end_by_side(self, who: Principal, dispute: str, side: str, share: int) -> None:
        async with self._database.unit_of_work() as uow:
            row = await lock_dispute(uow, dispute)
            if who.account != (row.owner if side == "owner" else row.account):
                raise MarketDisputeNotFound
            if row.decided_by == side:
                return  # done before
            _require_open(row)
            decide(uow, row, side, share, None)
            await uow.audit(who.account, who.key, "market.end_dispute", dispute, by=side)

    async def decide(
        self, who: Principal, dispute: str, share_basis_points: int, reason: str, once: IdempotencyKey
    ) -> MarketDispute:
        """Divide what is disputed, the operator's part.

        Raises `MarketDisputeNotFound`, `MarketDisputeNotOpen`.
        """
        await self._decide(who, dispute, share_basis_points, reason, once)
        return await self._finished(who, dispute)

    @retrying
    async def _decide(self, who: Principal, dispute: str, share: int, reason: str, once: IdempotencyKey) -> None:
        async with self._database.unit_of_work() as uow:
            if await uow.replay(once, Begun) is not None:
                return
            row = await lock_dispute(uow, dispute)
            _require_open(row)
            decide(uow, row, "operator", share, reason)
            await uow.audit(who.account, who.key, "market.decide_dispute", dispute, share_basis_points=share)
            await uow.answer(once, Begun(id=dispute))

    async def _finished(self, who: Principal, dispute: str) -> MarketDispute:
        with suppress(AppError):  # the next round tries again
            await self._keeper.finish(dispute)
        return await self.get(who, dispute)


def _require_open(row: DisputeRow) -> None:
    if row.state != DisputeState.OPEN:
        raise MarketDisputeNotOpen


def _new(command: BeginDispute, payment: Payment) -> DisputeRow:
    """A dispute about a payment, before its money is set aside. Raises `NotDisputable`."""
    at = now()
    if payment.over_at is None or at > payment.over_at + WITHIN or payment.payer == payment.owner:
        raise NotDisputable
    claim = payment.price_units if command.claim_units is None else command.claim_units
    if not 0 < claim <= payment.price_units:
        raise NotDisputable(f"{money.render(payment.price_units)} was paid for it, and no more can be disputed.")
    if payment.fee_units is None:
        raise NotDisputable("It was paid before there were disputes.")
    if payment.miner is None:
        raise NotDisputable("It is not known which miner it was of.")
    due, fee = parts_of(claim, payment.price_units, payment.fee_units)
    if not due:
        raise NotDisputable("All of its price was the platform's fee.")
    return DisputeRow(
        id=ids.new_id("dspt"),
        subject=command.subject,
        account=payment.payer,
        owner=payment.owner,
        miner=payment.miner,
        reason=command.reason,
        claim_units=claim,
        due_units=due,
        fee_units=fee,
        state=DisputeState.OPENING,
        hold=ids.new_id("hold"),
        asked_units=None,
        held_units=0,
        decide_by=at + LASTS,
        decided_by=None,
        share_basis_points=None,
        resolution=None,
        owed_units=0,
        refunded_units=0,
        transaction=None,
        created_at=at,
        closed_at=None,
    )
