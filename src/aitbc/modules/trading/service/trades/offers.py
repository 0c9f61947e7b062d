"""What sellers have for sale."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
from sqlalchemy import func, select

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.parameters import Parameters
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import FieldError, Invalid
from aitbc.modules.trading.models.trades.shapes import offer_view
from aitbc.modules.trading.models.trades.tables import TradeOfferRow
from aitbc.modules.trading.models.trades.views import TradeOffer
from aitbc.modules.trading.service.trades.commands import (
    PlaceTradeOffer,
    TooManyTrades,
    TradeFilter,
    TradeOfferNotFound,
    TradeOfferOfMarket,
)
from aitbc.modules.trading.service.trades.rows import change, newest

OPEN_MAX = 1_000
LASTS = timedelta(days=30)
LASTS_MAX = timedelta(days=365)


class TradeOffers:
    """Makes, closes and shows offers."""

    def __init__(self, database: Database, parameters: Parameters) -> None:
        self._database = database
        self._parameters = parameters

    @retrying
    async def place(self, who: Principal, command: PlaceTradeOffer, once: IdempotencyKey) -> TradeOffer:
        """Offer something. Raises `TooManyTrades`, and `Invalid` for times that do not fit."""
        at = now()
        until = command.valid_until or at + LASTS
        check_window(command.starts_at, command.ends_at)
        if not at < until <= at + LASTS_MAX:
            raise Invalid(fields=(FieldError("/valid_until", "Expected a time from now to a year from now"),))
        async with self._database.unit_of_work() as uow:
            if (earlier := await uow.replay(once, TradeOffer)) is not None:
                return earlier
            self._parameters.require_open("trading")
            mine = (
                TradeOfferRow.seller == who.account,
                TradeOfferRow.state == "open",
                TradeOfferRow.market_offer.is_(None),
            )
            if (
                await uow.session.scalar(select(func.count()).select_from(TradeOfferRow).where(*mine)) or 0
            ) >= OPEN_MAX:
                raise TooManyTrades
            row = TradeOfferRow(
                id=ids.new_id("toff"),
                seller=who.account,
                trade_type=command.trade_type,
                title=command.title,
                description=command.description,
                price_units=command.price_units,
                specifications=msgspec.json.encode(command.specifications).decode(),
                regions=command.regions,
                service_level=command.service_level,
                capacity=command.capacity,
                taken=0,
                starts_at=command.starts_at,
                ends_at=command.ends_at,
                state="open",
                created_at=at,
                valid_until=until,
            )
            uow.add(row)
            return await uow.answer(once, offer_view(row))

    @retrying
    async def close(self, who: Principal, offer: str, once: IdempotencyKey) -> TradeOffer:
        """Sell no more of an offer of the caller's; what is agreed on stays.

        Raises `TradeOfferNotFound`, `TradeOfferOfMarket`.
        """
        async with self._database.unit_of_work() as uow:
            if (earlier := await uow.replay(once, TradeOffer)) is not None:
                return earlier
            row = await uow.find(TradeOfferRow, offer, missing=TradeOfferNotFound)
            if row.seller != who.account:
                raise TradeOfferNotFound
            if row.market_offer is not None:
                raise TradeOfferOfMarket
            await change(uow, TradeOfferRow, TradeOfferRow.id == offer, TradeOfferRow.state == "open", state="closed")
            await uow.session.refresh(row)
            return await uow.answer(once, offer_view(row))

    async def one(self, offer: str) -> TradeOffer:
        """An offer. Raises `TradeOfferNotFound`."""
        async with self._database.reading() as session:
            row = await session.get(TradeOfferRow, offer)
        if row is None:
            raise TradeOfferNotFound
        return offer_view(row)

    async def page(self, filters: TradeFilter) -> Sequence[TradeOffer]:
        """Everybody's offers that can still be taken, from the newest on."""
        valid = (TradeOfferRow.valid_until > now(), TradeOfferRow.taken < TradeOfferRow.capacity)
        async with self._database.reading() as session:
            return [offer_view(row) for row in await newest(session, TradeOfferRow, filters, *valid)]


def check_window(starts_at: datetime | None, ends_at: datetime | None) -> None:
    """Raise `Invalid` for an end without a start, or before it."""
    if ends_at is not None and (starts_at is None or ends_at <= starts_at):
        raise Invalid(fields=(FieldError("/ends_at", "Expected a time after `starts_at`"),))
