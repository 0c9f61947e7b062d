"""Offers that fit a request: found, scored, and accepted."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial

import msgspec
from sqlalchemy import ColumnElement, Select, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import retry, retrying
from aitbc.kernel.database.totals import total
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.money import LARGEST
from aitbc.modules.trading.models.trades.life import MATCH_LASTS, UNDECIDED, TradeState
from aitbc.modules.trading.models.trades.metered import price_of, wanted_seconds
from aitbc.modules.trading.models.trades.scoring import (
    MATCHES_MAX,
    SCORE_MIN,
    Offered,
    Score,
    Wanted,
    in_budget,
    reputation,
    score,
)
from aitbc.modules.trading.models.trades.shapes import agreement_view, match_view, preview_view
from aitbc.modules.trading.models.trades.tables import (
    TradeFeedbackRow,
    TradeMatchRow,
    TradeOfferRow,
    TradeRequestRow,
)
from aitbc.modules.trading.models.trades.views import TradeAgreement, TradeMatch, TradeMatches, TradeMatchPreviews
from aitbc.modules.trading.models.trades.work import work_of
from aitbc.modules.trading.service.trades.agreements import sign, signed_before
from aitbc.modules.trading.service.trades.commands import (
    OutsideBudget,
    PlaceTradeRequest,
    TradeFilter,
    TradeIdTaken,
    TradeMatchNotFound,
    TradeMatchNotOpen,
    TradeRequestNotFound,
    TradeRequestNotOpen,
    TradeTerms,
)
from aitbc.modules.trading.service.trades.requests import drafted, mine
from aitbc.modules.trading.service.trades.rows import (
    close_matches,
    lock_request,
    newest,
    of_trade,
    parties,
    require_party,
    set_state,
)

OFFERS_MAX = 1_000
"""How many offers are looked at for one request: the cheapest."""
PER_ROUND = 200


class TradeMatcher:
    """Finds the offers that fit a request, and takes one."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @retrying
    async def find(
        self,
        who: Principal,
        request: str,
        once: IdempotencyKey,
        *,
        seller: str | None = None,
        name: str | None = None,
    ) -> TradeMatches:
        """Match a request of the caller's with all offers, or those of a seller; returns all that can be accepted.

        What was matched before and is still valid keeps its price. `name` becomes the id of the best of the new ones.
        Raises `TradeRequestNotFound`, `TradeRequestNotOpen`, `TradeIdTaken`.
        """
        async with self._database.unit_of_work() as uow:
            if (earlier := await uow.replay(once, TradeMatches)) is not None:
                return earlier
            row, at = await mine(uow, who, request), now()
            require_undecided(row, at)
            await close_matches(uow, row.id, TradeMatchRow.expires_at <= at)
            kept = list(await uow.session.scalars(_undecided(row.id)))
            known = {match.offer for match in kept}
            offers = [offer for offer in await _offers(uow.session, row, at, seller) if offer.id not in known]
            best = _best(row, offers, await _reputations(uow.session, {row.buyer, *(offer.seller for offer in offers)}))
            names = [] if name is None or await _named(uow, name, row.id) else [name]
            for offer, found in best[: MATCHES_MAX - len(kept)]:
                kept.append(_match(uow, row, offer, found, at))
                kept[-1].id = names.pop() if names else kept[-1].id
            if kept and row.state == TradeState.OPEN:
                await set_state(uow, TradeRequestRow, row.id, row.state, TradeState.MATCHING)
            views = tuple(match_view(match) for match in sorted(kept, key=lambda one: (-one.score, one.id)))
            return await uow.answer(once, TradeMatches(data=views))

    async def preview(self, who: Principal, command: PlaceTradeRequest) -> TradeMatchPreviews:
        """What a request would be matched with now, the best first; nothing is kept. Raises `Invalid`."""
        row = TradeRequestRow(**drafted(who, command))
        async with self._database.reading() as session:
            offers = await _offers(session, row, row.created_at)
            reputations = await _reputations(session, {row.buyer, *(offer.seller for offer in offers)})
        best = _best(row, offers, reputations)
        return TradeMatchPreviews(
            offers=len(offers),
            fitting=len(best),
            data=tuple(
                preview_view(offer, price_of(offer, row), found.total, found.parts)
                for offer, found in best[:MATCHES_MAX]
            ),
        )

    @retrying
    async def accept(self, who: Principal, match: str, terms: TradeTerms, once: IdempotencyKey) -> TradeAgreement:
        """Take the offer of a match of the caller's request as it is.

        Raises `TradeMatchNotFound`, `TradeMatchNotOpen`, `OutsideBudget`, `TradeOfferNotOpen`, `MilestonesDoNotFit`,
        `SettlementDoesNotFit`.
        """
        terms.check()
        async with self._database.unit_of_work() as uow:
            if (earlier := await uow.replay(once, TradeAgreement)) is not None:
                return earlier
            request, row = await of_trade(uow, TradeMatchRow, match, who, TradeMatchNotFound)
            if row.buyer != who.account:
                raise TradeMatchNotFound
            if (known := await signed_before(uow, row, terms)) is not None:
                return await uow.answer(once, agreement_view(known))
            require_match_open(request, row)
            if not in_budget(wanted_of(request), row.price_units):
                raise OutsideBudget
            agreement = await sign(uow, request, row, row.price_units, terms)
            return await uow.answer(once, agreement_view(agreement))

    async def expire(self) -> None:
        """Close the matches that nobody accepted in time."""
        due = (TradeMatchRow.state.in_(UNDECIDED), TradeMatchRow.expires_at <= now())
        wanted = select(TradeMatchRow.request).where(*due).order_by(TradeMatchRow.expires_at).limit(PER_ROUND)
        async with self._database.reading() as session:
            found = set(await session.scalars(wanted))
        for request in sorted(found):
            await retry(partial(self._expire, request))

    async def _expire(self, request: str) -> None:
        async with self._database.unit_of_work() as uow:
            await lock_request(uow, request)
            await close_matches(uow, request, TradeMatchRow.expires_at <= now())

    async def valid(self, who: Principal, request: str) -> TradeMatches:
        """The matches of a request that can be accepted now. Raises `TradeRequestNotFound`."""
        async with self._database.reading() as session:
            row = await session.get(TradeRequestRow, request)
            if row is None or not who.owns(row.buyer):
                raise TradeRequestNotFound
            found = await session.scalars(_undecided(request).where(TradeMatchRow.expires_at > now()))
            return TradeMatches(data=tuple(match_view(match) for match in found))

    async def one(self, who: Principal, match: str) -> TradeMatch:
        """A match of the caller's. Raises `TradeMatchNotFound`."""
        async with self._database.reading() as session:
            row = await session.get(TradeMatchRow, match)
        if row is None:
            raise TradeMatchNotFound
        require_party(who, row, TradeMatchNotFound)
        return match_view(row)

    async def page(self, who: Principal, filters: TradeFilter) -> Sequence[TradeMatch]:
        """The caller's matches, as buyer or seller, from the newest on."""
        async with self._database.reading() as session:
            found = await newest(session, TradeMatchRow, filters, *parties(who, TradeMatchRow))
            return [match_view(row) for row in found]


def require_undecided(request: TradeRequestRow, at: datetime) -> None:
    """Raise `TradeRequestNotOpen` for a request that has ended, has run out, or about which something is agreed."""
    if request.state not in UNDECIDED or request.expires_at <= at:
        raise TradeRequestNotOpen


def require_match_open(request: TradeRequestRow, match: TradeMatchRow) -> None:
    """Raise `TradeMatchNotOpen` unless a match can still lead to an agreement."""
    at = now()
    if match.state not in UNDECIDED or match.expires_at <= at or request.expires_at <= at:
        raise TradeMatchNotOpen


def wanted_of(row: TradeRequestRow) -> Wanted:
    """What a request asks for, as it is scored."""
    columns = {name: getattr(row, name) for name in Wanted.__struct_fields__ if name != "specifications"}
    return Wanted(specifications=msgspec.json.decode(row.specifications), **columns)


def _offered(row: TradeOfferRow, request: TradeRequestRow) -> Offered:
    columns = {name: getattr(row, name) for name in Offered.__struct_fields__ if name != "specifications"}
    columns["price_units"] = price_of(row, request)
    return Offered(specifications=msgspec.json.decode(row.specifications), **columns)


def _undecided(request: str) -> Select[TradeMatchRow]:
    wanted = select(TradeMatchRow).where(TradeMatchRow.request == request, TradeMatchRow.state.in_(UNDECIDED))
    return wanted.order_by(TradeMatchRow.score.desc(), TradeMatchRow.id)


async def _offers(
    session: AsyncSession, request: TradeRequestRow, at: datetime, seller: str | None = None
) -> Sequence[TradeOfferRow]:
    wanted = select(TradeOfferRow).where(
        *_sold_as(request),
        TradeOfferRow.trade_type == request.trade_type,
        TradeOfferRow.state == "open",
        TradeOfferRow.valid_until > at,
        TradeOfferRow.taken < TradeOfferRow.capacity,
        TradeOfferRow.seller != request.buyer,
    )
    if seller is not None:
        wanted = wanted.where(TradeOfferRow.seller == seller)
    cheapest = wanted.order_by(TradeOfferRow.price_units, TradeOfferRow.id).limit(OFFERS_MAX)
    return (await session.scalars(cheapest)).all()


def _sold_as(request: TradeRequestRow) -> tuple[ColumnElement[bool], ...]:
    """The offers of what a request is for: of work of its kind and model at a price that can be paid; or what is sold
    whole, and devices for as long as it wants one.
    """
    if (work := work_of(request.work)) is not None:
        return (
            TradeOfferRow.work_kind == work.kind,
            TradeOfferRow.work_model.is_not_distinct_from(work.model),
            TradeOfferRow.price_units <= LARGEST // work.units_in_all,
        )
    seconds = wanted_seconds(request)
    fits = and_(TradeOfferRow.min_seconds <= seconds, TradeOfferRow.max_seconds >= seconds)
    return TradeOfferRow.work_kind.is_(None), or_(TradeOfferRow.market_offer.is_(None), fits)


async def _named(uow: UnitOfWork, name: str, request: str) -> bool:
    """Whether a match of this request has this id. Raises `TradeIdTaken` for another's."""
    known = await uow.session.get(TradeMatchRow, name)
    if known is not None and known.request != request:
        raise TradeIdTaken
    return known is not None


async def _reputations(session: AsyncSession, accounts: set[str]) -> dict[str, int]:
    counted = select(TradeFeedbackRow.reviewed, func.count(), total(TradeFeedbackRow.rating))
    grouped = counted.where(TradeFeedbackRow.reviewed.in_(accounts)).group_by(TradeFeedbackRow.reviewed)
    found = {account: reputation(ratings, stars) for account, ratings, stars in await session.execute(grouped)}
    return {account: found.get(account, reputation(0, 0)) for account in accounts}


def _best(
    request: TradeRequestRow, offers: Sequence[TradeOfferRow], reputations: dict[str, int]
) -> list[tuple[TradeOfferRow, Score]]:
    """The offers that fit well enough, the best first."""
    wanted = wanted_of(request)
    scored = [
        (offer, score(wanted, _offered(offer, request), reputations[request.buyer], reputations[offer.seller]))
        for offer in offers
    ]
    fitting = [pair for pair in scored if pair[1].total >= SCORE_MIN]
    return sorted(fitting, key=lambda pair: (-pair[1].total, pair[0].id))


def _match(
    uow: UnitOfWork, request: TradeRequestRow, offer: TradeOfferRow, found: Score, at: datetime
) -> TradeMatchRow:
    row = TradeMatchRow(
        id=ids.new_id("tmat"),
        request=request.id,
        offer=offer.id,
        buyer=request.buyer,
        seller=offer.seller,
        price_units=price_of(offer, request),
        score=found.total,
        parts=msgspec.json.encode(found.parts).decode(),
        state=TradeState.MATCHING,
        created_at=at,
        expires_at=min(at + MATCH_LASTS, request.expires_at),
    )
    uow.add(row)
    return row
