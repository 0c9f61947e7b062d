"""Prices that the two sides of a match name in turn, until they agree, give up or run out of time."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial

import msgspec
from sqlalchemy import func, select

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import retry, retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.modules.trading.models.trades.life import (
    ANSWER_LASTS,
    AUTO_ACCEPT,
    NEGOTIATION_LASTS,
    SPECIFICATIONS_MIN,
    STRATEGIES,
    TradeState,
    agreement_score,
    concedes,
    opening_price,
)
from aitbc.modules.trading.models.trades.shapes import agreement_view, negotiation_view
from aitbc.modules.trading.models.trades.tables import (
    TradeMatchRow,
    TradeNegotiationRow,
    TradeOfferRow,
    TradeRequestRow,
)
from aitbc.modules.trading.models.trades.views import Milestone, TradeAgreement, TradeNegotiation
from aitbc.modules.trading.service.trades.agreements import sign, signed_before
from aitbc.modules.trading.service.trades.commands import (
    NotYourTurn,
    TradeConcessionTooSmall,
    TradeFilter,
    TradeIdTaken,
    TradeMatchNotFound,
    TradeNegotiationNotFound,
    TradeNegotiationNotOpen,
    TradeTerms,
)
from aitbc.modules.trading.service.trades.matches import require_match_open
from aitbc.modules.trading.service.trades.rows import (
    change,
    lock_request,
    newest,
    of_trade,
    parties,
    require_party,
    set_state,
)

PER_ROUND = 200


class TradeNegotiations:
    """Begins negotiations, takes prices, and ends them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @retrying
    async def start(
        self,
        who: Principal,
        match: str,
        strategy: str,
        terms: TradeTerms,
        price_units: int | None,
        once: IdempotencyKey,
    ) -> TradeNegotiation:
        """Name the first price of a match: the mean of budget and offer where none is named.

        Raises `TradeMatchNotFound`, `TradeMatchNotOpen`, `TradeNegotiationNotOpen`, `MilestonesDoNotFit`,
        `SettlementDoesNotFit`.
        """
        terms.check()
        async with self._database.unit_of_work() as uow:
            if (earlier := await uow.replay(once, TradeNegotiation)) is not None:
                return earlier
            request, row = await of_trade(uow, TradeMatchRow, match, who, TradeMatchNotFound)
            offer = await uow.session.get_one(TradeOfferRow, row.offer)
            terms = terms.fitted(to_market=offer.market_offer is not None)
            require_match_open(request, row)
            _require_negotiable(request, row)
            opening = opening_price(request.budget_min_units, request.budget_max_units, row.price_units)
            negotiation = _begun(who, row, strategy, terms, price_units or max(1, opening))
            await set_state(uow, TradeMatchRow, row.id, row.state, TradeState.NEGOTIATING)
            if request.state != TradeState.NEGOTIATING:
                await set_state(uow, TradeRequestRow, request.id, request.state, TradeState.NEGOTIATING)
            uow.add(negotiation)
            return await uow.answer(once, _view(negotiation))

    @retrying
    async def counter(
        self, who: Principal, negotiation: str, price_units: int, once: IdempotencyKey, *, auto_accept: bool = False
    ) -> TradeNegotiation:
        """Name another price. With `auto_accept` the price that stands is accepted where the two are near enough.

        Raises `TradeNegotiationNotFound`, `TradeNegotiationNotOpen`, `NotYourTurn`, `TradeConcessionTooSmall`, and what
        signing an agreement raises.
        """
        async with self._database.unit_of_work() as uow:
            if (earlier := await uow.replay(once, TradeNegotiation)) is not None:
                return earlier
            request, row = await _to_answer(uow, who, negotiation)
            strategy, buys = STRATEGIES[row.strategy], who.account == row.buyer
            before = row.buyer_units if buys else row.seller_units
            if before is not None and not concedes(before, price_units, strategy.concession, buyer=buys):
                raise TradeConcessionTooSmall
            row.score = agreement_score(row.price_units, price_units, strategy.tolerance)
            if auto_accept and row.score >= AUTO_ACCEPT:
                await _accept(uow, request, row)
                return await uow.answer(once, _view(row))
            if row.round >= strategy.rounds:
                raise TradeNegotiationNotOpen("No more prices may be named: accept the one that stands, or reject it.")
            row.round, row.price_units, row.proposed_by = row.round + 1, price_units, who.account
            row.answer_by = min(now() + ANSWER_LASTS, row.expires_at)
            if buys:
                row.buyer_units = price_units
            else:
                row.seller_units = price_units
            return await uow.answer(once, _view(row))

    @retrying
    async def accept(
        self, who: Principal, negotiation: str, once: IdempotencyKey, *, name: str | None = None
    ) -> TradeAgreement:
        """Agree on the price that the other side named; `name` becomes the agreement's id.

        Raises `TradeNegotiationNotFound`, `TradeNegotiationNotOpen`, `NotYourTurn`, `TradeOfferNotOpen`.
        """
        async with self._database.unit_of_work() as uow:
            if (earlier := await uow.replay(once, TradeAgreement)) is not None:
                return earlier
            request, row = await _to_answer(uow, who, negotiation)
            return await uow.answer(once, await _accept(uow, request, row, name))

    @retrying
    async def reject(self, who: Principal, negotiation: str, once: IdempotencyKey) -> TradeNegotiation:
        """End a negotiation without an agreement; either side may. Its match stays.

        Raises `TradeNegotiationNotFound`, `TradeNegotiationNotOpen`.
        """
        async with self._database.unit_of_work() as uow:
            if (earlier := await uow.replay(once, TradeNegotiation)) is not None:
                return earlier
            _, row = await of_trade(uow, TradeNegotiationRow, negotiation, who, TradeNegotiationNotFound)
            if row.state == "active":
                await _end(uow, row, "rejected", now())
            elif row.state != "rejected":
                raise TradeNegotiationNotOpen
            return await uow.answer(once, _view(row))

    async def expire(self) -> None:
        """End the negotiations in which nobody answered in time."""
        due = (TradeNegotiationRow.state == "active", TradeNegotiationRow.answer_by <= now())
        wanted = select(TradeNegotiationRow.id).where(*due).order_by(TradeNegotiationRow.answer_by).limit(PER_ROUND)
        async with self._database.reading() as session:
            found = (await session.scalars(wanted)).all()
        for negotiation in found:
            await retry(partial(self._expire, negotiation))

    async def _expire(self, negotiation: str) -> None:
        async with self._database.unit_of_work() as uow:
            row = await uow.find(TradeNegotiationRow, negotiation, missing=TradeNegotiationNotFound)
            await lock_request(uow, row.request)
            await uow.session.refresh(row)
            if row.state == "active" and row.answer_by <= now():
                await _end(uow, row, "expired", now())

    async def one(self, who: Principal, negotiation: str) -> TradeNegotiation:
        """A negotiation of the caller's. Raises `TradeNegotiationNotFound`."""
        async with self._database.reading() as session:
            row = await session.get(TradeNegotiationRow, negotiation)
        if row is None:
            raise TradeNegotiationNotFound
        require_party(who, row, TradeNegotiationNotFound)
        return _view(row)

    async def page(self, who: Principal, filters: TradeFilter) -> Sequence[TradeNegotiation]:
        """The caller's negotiations, as buyer or seller, from the newest on."""
        async with self._database.reading() as session:
            found = await newest(session, TradeNegotiationRow, filters, *parties(who, TradeNegotiationRow))
            return [_view(row) for row in found]


def _require_negotiable(request: TradeRequestRow, match: TradeMatchRow) -> None:
    if match.state == TradeState.NEGOTIATING:
        raise TradeNegotiationNotOpen("This match is negotiated about already.")
    if not request.negotiable:
        raise TradeNegotiationNotOpen("The price of this request is not to be negotiated.")
    fits = msgspec.json.decode(match.parts)["specifications"]
    if request.specifications != "{}" and fits < SPECIFICATIONS_MIN:
        raise TradeNegotiationNotOpen("The offer has too little of what is wanted to negotiate its price.")


def _begun(
    who: Principal, match: TradeMatchRow, strategy: str, terms: TradeTerms, price_units: int
) -> TradeNegotiationRow:
    at, buys = now(), who.account == match.buyer
    expires = min(at + NEGOTIATION_LASTS, match.expires_at)
    return TradeNegotiationRow(
        id=ids.new_id("tneg"),
        request=match.request,
        match=match.id,
        buyer=match.buyer,
        seller=match.seller,
        strategy=strategy,
        settlement_type=terms.settlement_type,
        milestones=msgspec.json.encode(terms.milestones).decode(),
        period_hours=terms.period_hours,
        state="active",
        round=1,
        price_units=price_units,
        proposed_by=who.account,
        buyer_units=price_units if buys else None,
        seller_units=None if buys else price_units,
        score=0.0,
        created_at=at,
        answer_by=min(at + ANSWER_LASTS, expires),
        expires_at=expires,
    )


async def _to_answer(uow: UnitOfWork, who: Principal, negotiation: str) -> tuple[TradeRequestRow, TradeNegotiationRow]:
    """A negotiation in which it is the caller's turn, locked with its request."""
    request, row = await of_trade(uow, TradeNegotiationRow, negotiation, who, TradeNegotiationNotFound)
    if row.state != "active" or row.answer_by <= now():
        raise TradeNegotiationNotOpen
    if row.proposed_by == who.account:
        raise NotYourTurn
    return request, row


async def _accept(
    uow: UnitOfWork, request: TradeRequestRow, row: TradeNegotiationRow, name: str | None = None
) -> TradeAgreement:
    match = await uow.session.get_one(TradeMatchRow, row.match, populate_existing=True)
    require_match_open(request, match)
    row.state, row.ended_at = "accepted", now()
    await uow.session.flush()
    milestones = msgspec.json.decode(row.milestones, type=tuple[Milestone, ...])
    terms = TradeTerms(
        id=name, settlement_type=row.settlement_type, milestones=milestones, period_hours=row.period_hours
    )
    if await signed_before(uow, match, terms) is not None:
        raise TradeIdTaken
    return agreement_view(await sign(uow, request, match, row.price_units, terms, row.id))


async def _end(uow: UnitOfWork, row: TradeNegotiationRow, state: str, at: datetime) -> None:
    """End an active negotiation: its match can be accepted again, and its request matched."""
    row.state, row.ended_at = state, at
    await uow.session.flush()
    negotiating = (TradeMatchRow.id == row.match, TradeMatchRow.state == TradeState.NEGOTIATING)
    await change(uow, TradeMatchRow, *negotiating, state=TradeState.MATCHING)
    others = (TradeNegotiationRow.request == row.request, TradeNegotiationRow.state == "active")
    counting = select(func.count()).select_from(TradeNegotiationRow).where(*others)
    if not await uow.session.scalar(counting):
        where = (TradeRequestRow.id == row.request, TradeRequestRow.state == TradeState.NEGOTIATING)
        await change(uow, TradeRequestRow, *where, state=TradeState.MATCHING)


def _view(row: TradeNegotiationRow) -> TradeNegotiation:
    return negotiation_view(row, STRATEGIES[row.strategy].rounds)
