"""What buyers and sellers agreed on."""

from collections.abc import Sequence
from functools import partial

import msgspec
from sqlalchemy import select

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import retry, retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.modules.trading.events import AgreementSigned
from aitbc.modules.trading.models.trades.life import AGREEMENT_WAITS, BOOKING_WAITS, TradeState
from aitbc.modules.trading.models.trades.metered import wanted_seconds
from aitbc.modules.trading.models.trades.shapes import agreement_view
from aitbc.modules.trading.models.trades.tables import (
    TradeAgreementRow,
    TradeMatchRow,
    TradeOfferRow,
    TradeRequestRow,
)
from aitbc.modules.trading.models.trades.values import METERED
from aitbc.modules.trading.models.trades.views import TradeAgreement
from aitbc.modules.trading.models.trades.work import WantedWork, without_inputs, work_of
from aitbc.modules.trading.service.trades.commands import (
    PaidByBooking,
    TradeAgreementNotFound,
    TradeFilter,
    TradeIdTaken,
    TradeOfferNotOpen,
    TradeTerms,
)
from aitbc.modules.trading.service.trades.requests import close_negotiations
from aitbc.modules.trading.service.trades.rows import (
    cancel_agreement,
    change,
    close_matches,
    lock_request,
    newest,
    of_trade,
    parties,
    require_party,
    set_state,
)

PER_ROUND = 200


class TradeAgreements:
    """Shows agreements, and cancels those that nobody pays for."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @retrying
    async def cancel(self, who: Principal, agreement: str, once: IdempotencyKey) -> TradeAgreement:
        """End an agreement before it is settled; either side may.

        Raises `TradeAgreementNotFound`, `PaidByBooking`, and `TradeAgreementNotOpen` once its settlement began.
        """
        async with self._database.unit_of_work() as uow:
            if (earlier := await uow.replay(once, TradeAgreement)) is not None:
                return earlier
            _, row = await of_trade(uow, TradeAgreementRow, agreement, who, TradeAgreementNotFound)
            if row.settlement_type == METERED and row.state == TradeState.AGREED:
                raise PaidByBooking
            if row.state != TradeState.CANCELLED:
                await cancel_agreement(uow, row, now())
                await uow.audit(who.account, who.key, "trade.cancel", row.id)
            return await uow.answer(once, agreement_view(row))

    async def expire(self) -> None:
        """Cancel the agreements whose buyers did not settle them in time."""
        due = (TradeAgreementRow.state == "agreed", TradeAgreementRow.settle_by <= now())
        wanted = select(TradeAgreementRow.id).where(*due).order_by(TradeAgreementRow.settle_by).limit(PER_ROUND)
        async with self._database.reading() as session:
            found = (await session.scalars(wanted)).all()
        for agreement in found:
            await retry(partial(self._expire, agreement))

    async def _expire(self, agreement: str) -> None:
        async with self._database.unit_of_work() as uow:
            row = await uow.find(TradeAgreementRow, agreement, missing=TradeAgreementNotFound)
            await lock_request(uow, row.request)
            await uow.session.refresh(row)
            if row.state == TradeState.AGREED:
                await cancel_agreement(uow, row, now())

    async def one(self, who: Principal, agreement: str) -> TradeAgreement:
        """An agreement of the caller's. Raises `TradeAgreementNotFound`."""
        async with self._database.reading() as session:
            row = await session.get(TradeAgreementRow, agreement)
        if row is None:
            raise TradeAgreementNotFound
        require_party(who, row, TradeAgreementNotFound)
        return agreement_view(row)

    async def page(self, who: Principal, filters: TradeFilter) -> Sequence[TradeAgreement]:
        """The caller's agreements, as buyer or seller, from the newest on."""
        async with self._database.reading() as session:
            found = await newest(session, TradeAgreementRow, filters, *parties(who, TradeAgreementRow), at="signed_at")
            return [agreement_view(row) for row in found]


async def signed_before(uow: UnitOfWork, match: TradeMatchRow, terms: TradeTerms) -> TradeAgreementRow | None:
    """The agreement of an id that its sender chose, if it was made by this command. Raises `TradeIdTaken`."""
    if terms.id is None:
        return None
    known = await uow.session.get(TradeAgreementRow, terms.id)
    if known is not None and (known.match, known.settlement_type) != (
        match.id,
        terms.settlement_type or known.settlement_type,
    ):
        raise TradeIdTaken
    return known


async def sign(
    uow: UnitOfWork,
    request: TradeRequestRow,
    match: TradeMatchRow,
    price_units: int,
    terms: TradeTerms,
    negotiation: str | None = None,
) -> TradeAgreementRow:
    """Agree on a match behind the lock of its request: its offer is taken once more, all other matches close.

    Raises `TradeOfferNotOpen`, `SettlementDoesNotFit`, and `MilestonesDoNotFit` or `PeriodsDoNotFit` where one would
    be worth nothing.
    """
    at = now()
    offer = await uow.session.get_one(TradeOfferRow, match.offer)
    terms = terms.fitted(to_market=offer.market_offer is not None)
    terms.require_worth(price_units)
    takes = (
        TradeOfferRow.id == match.offer,
        TradeOfferRow.state == "open",
        TradeOfferRow.valid_until > at,
        TradeOfferRow.taken < TradeOfferRow.capacity,
    )
    if not await change(uow, TradeOfferRow, *takes, taken=TradeOfferRow.taken + 1):
        raise TradeOfferNotOpen
    await set_state(uow, TradeMatchRow, match.id, match.state, TradeState.AGREED)
    work = work_of(request.work)
    bare = without_inputs(request.work)
    await set_state(uow, TradeRequestRow, request.id, request.state, TradeState.AGREED, work=bare)
    await close_negotiations(uow, request.id)
    await close_matches(uow, request.id)
    agreement = TradeAgreementRow(
        id=terms.id or ids.new_id("tagr"),
        request=request.id,
        match=match.id,
        negotiation=negotiation,
        offer=match.offer,
        buyer=match.buyer,
        seller=match.seller,
        trade_type=request.trade_type,
        title=request.title,
        price_units=price_units,
        settlement_type=terms.settlement_type,
        milestones=msgspec.json.encode(terms.milestones).decode(),
        period_hours=terms.period_hours,
        market_offer=offer.market_offer,
        jobs=[],
        state=TradeState.AGREED,
        signed_at=at,
        settle_by=at + (AGREEMENT_WAITS if offer.market_offer is None else BOOKING_WAITS),
    )
    uow.add(agreement)
    uow.publish(_signed(agreement, request, work))
    return agreement


def _signed(agreement: TradeAgreementRow, request: TradeRequestRow, work: WantedWork | None) -> AgreementSigned:
    is_device = agreement.market_offer is not None and work is None
    return AgreementSigned(
        agreement=agreement.id,
        request=agreement.request,
        offer=agreement.offer,
        buyer=agreement.buyer,
        seller=agreement.seller,
        trade_type=agreement.trade_type,
        price_units=agreement.price_units,
        settlement_type=agreement.settlement_type,
        signed_at=agreement.signed_at,
        market_offer=agreement.market_offer,
        seconds=wanted_seconds(request) if is_device else 0,
        starts_at=request.starts_at if is_device else None,
        **({} if work is None else work.agreed(agreement.price_units)),
    )
