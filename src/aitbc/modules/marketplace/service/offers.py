"""Offers: made, changed, withdrawn and shown. One public method is one unit of work."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from msgspec import UNSET
from sqlalchemy import false, func, select

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.parameters import Parameters
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import FieldError, Invalid
from aitbc.modules.gpu.api import GpuApi, MinerNotFound
from aitbc.modules.marketplace.api import MarketOffer, MarketOfferNotFound
from aitbc.modules.marketplace.models.facts import asked
from aitbc.modules.marketplace.models.pricing import price_in_use
from aitbc.modules.marketplace.models.tables import OfferRow
from aitbc.modules.marketplace.models.views import offer_changed, offer_view
from aitbc.modules.marketplace.service.commands import (
    ChangeOffer,
    MakeOffer,
    MarketOfferBooked,
    MarketOfferChanged,
    MarketOfferExists,
    MarketOfferNotOpen,
    NotServed,
    OfferFilter,
    TooManyMarketOffers,
)
from aitbc.modules.marketplace.service.offer_rows import (
    close_offer,
    expire_of,
    lock_miner,
    new_offer,
    open_offer_for,
    remember,
    serves,
)

OPEN_MAX = 1_000
LASTS = timedelta(days=30)
LASTS_MAX = timedelta(days=365)


class Offers:
    """Makes, changes, withdraws and shows offers."""

    def __init__(self, database: Database, gpu: GpuApi, parameters: Parameters) -> None:
        self._database = database
        self._gpu = gpu
        self._parameters = parameters

    async def make(self, who: Principal, command: MakeOffer, once: IdempotencyKey) -> MarketOffer:
        """Offer something of a miner of the caller's.

        Raises `MinerNotFound`, `NotServed`, `MarketOfferExists`, `TooManyMarketOffers`, and `Invalid` for what does not
        go together.
        """
        command.check()
        until = check_validity(command.valid_until or now() + LASTS)
        facts = await self._facts(who, command.miner)
        return await self._make(who, command, until, facts, once)

    async def _facts(self, who: Principal, miner: str) -> dict[str, Any]:
        found = await self._gpu.miner(miner)
        if found.account != who.account or found.status == "removed":
            raise MinerNotFound
        return asked(found)

    @retrying
    async def _make(
        self, who: Principal, command: MakeOffer, until: datetime, facts: dict[str, Any], once: IdempotencyKey
    ) -> MarketOffer:
        async with self._database.unit_of_work() as uow:
            if (earlier := await uow.replay(once, MarketOffer)) is not None:
                return earlier
            self._parameters.require_open("marketplace")
            await remember(uow, command.miner, facts)
            miner = await lock_miner(uow, command.miner)
            at = now()
            await expire_of(uow, miner.id, at)
            if not serves(miner, command):
                raise NotServed
            if await open_offer_for(uow, command) is not None:
                raise MarketOfferExists
            await _require_room(uow, who.account)
            row = new_offer(miner, command, at=at, until=until, origin="owner")
            uow.add(row)
            uow.publish(offer_changed(row))
            await uow.audit(who.account, who.key, "market_offer.make", row.id, price_units=row.price_units)
            return await uow.answer(once, offer_view(row, at))

    @retrying
    async def change(self, who: Principal, offer: str, command: ChangeOffer, once: IdempotencyKey) -> MarketOffer:
        """Change the price or the conditions of an offer of the caller's, by compare-and-set of its version.

        Raises `MarketOfferNotFound`, `MarketOfferNotOpen`, `MarketOfferChanged`, `Invalid`.
        """
        if command.valid_until is not None:
            check_validity(command.valid_until)
        async with self._database.unit_of_work() as uow:
            if (earlier := await uow.replay(once, MarketOffer)) is not None:
                return earlier
            row = await _owned(uow, who, offer)
            at = now()
            if row.state != "open" or row.valid_until <= at:
                raise MarketOfferNotOpen
            if row.version != command.version:
                raise MarketOfferChanged
            if not command.changes:
                raise Invalid(fields=(FieldError("", "Expected something to change"),))
            _apply(row, command)
            row.version += 1
            row.changed_at = max(at, row.changed_at)
            uow.publish(offer_changed(row))
            await uow.audit(who.account, who.key, "market_offer.change", row.id, price_units=row.price_units)
            return await uow.answer(once, offer_view(row, at))

    @retrying
    async def withdraw(self, who: Principal, offer: str, once: IdempotencyKey) -> MarketOffer:
        """Take an offer of the caller's off the market; withdrawing it again changes nothing.

        Raises `MarketOfferNotFound`, `MarketOfferBooked`, and `MarketOfferNotOpen` for one that has expired.
        """
        async with self._database.unit_of_work() as uow:
            if (earlier := await uow.replay(once, MarketOffer)) is not None:
                return earlier
            row = await _owned(uow, who, offer)
            at = now()
            if row.state == "expired":
                raise MarketOfferNotOpen
            if row.state == "open":
                if row.taken:
                    raise MarketOfferBooked
                close_offer(row, "withdrawn", at)
                uow.publish(offer_changed(row))
                await uow.audit(who.account, who.key, "market_offer.withdraw", row.id)
            return await uow.answer(once, offer_view(row, at))

    async def one(self, offer: str) -> MarketOffer:
        """An offer, whoever made it. Raises `MarketOfferNotFound`."""
        if not ids.is_id("offer", offer):
            raise MarketOfferNotFound
        async with self._database.reading() as session:
            row = await session.get(OfferRow, offer)
        if row is None:
            raise MarketOfferNotFound
        return offer_view(row, now())

    async def page(self, filters: OfferFilter) -> Sequence[MarketOffer]:
        """Offers from the newest on: all of an account's, or of everybody those that are in a state."""
        wanted = select(OfferRow)
        if filters.account is not None:
            wanted = wanted.where(OfferRow.account == filters.account)
        if filters.miner is not None:
            wanted = wanted.where(OfferRow.miner == filters.miner if ids.is_id("mnr", filters.miner) else false())
        at = now()
        if filters.state is not None:
            wanted = wanted.where(*_in_state(filters.state, at))
        if filters.after is not None:
            wanted = wanted.where(OfferRow.id < filters.after)
        async with self._database.reading() as session:
            found = await session.scalars(wanted.order_by(OfferRow.id.desc()).limit(filters.limit))
            return [offer_view(row, at) for row in found]

    @retrying
    async def expire(self) -> int:
        """End the offers whose time is up; returns how many."""
        async with self._database.unit_of_work() as uow:
            at = now()
            due = (
                select(OfferRow)
                .where(OfferRow.state == "open", OfferRow.valid_until <= at, OfferRow.taken == 0)
                .order_by(OfferRow.valid_until, OfferRow.id)
                .limit(200)
                .with_for_update(key_share=True, skip_locked=True)
            )
            rows = (await uow.session.scalars(due)).all()
            for row in rows:
                close_offer(row, "expired", at)
                uow.publish(offer_changed(row))
            return len(rows)


async def _owned(uow: UnitOfWork, who: Principal, offer: str) -> OfferRow:
    """An offer of the caller's, locked. Raises `MarketOfferNotFound`."""
    row = await uow.find(OfferRow, offer, lock=True, missing=MarketOfferNotFound)
    if row.account != who.account:
        raise MarketOfferNotFound
    return row


async def _require_room(uow: UnitOfWork, account: str) -> None:
    mine = select(func.count()).select_from(OfferRow).where(OfferRow.account == account, OfferRow.state == "open")
    if (await uow.session.scalar(mine) or 0) >= OPEN_MAX:
        raise TooManyMarketOffers


def check_validity(until: datetime) -> datetime:
    """The same time. Raises `Invalid` for one that is past, or farther ahead than offers may last."""
    if not now() < until <= now() + LASTS_MAX:
        raise Invalid(fields=(FieldError("/valid_until", "Expected a time from now to a year from now"),))
    return until


def _apply(row: OfferRow, command: ChangeOffer) -> None:
    """Change what is set. Raises `Invalid` for a price beside a price that follows use."""
    if command.pricing is not UNSET:
        band = command.pricing
        if band is not None:
            band.check()
        row.floor_units = None if band is None else band.floor_units
        row.ceiling_units = None if band is None else band.ceiling_units
        if band is not None:
            row.price_units = price_in_use(band.floor_units, band.ceiling_units, 0, 1)
    if command.price_units is not None:
        if row.floor_units is not None:
            raise Invalid(fields=(FieldError("/price", "Expected `pricing` to be null for a price of your own"),))
        row.price_units = command.price_units
    if command.note is not None:
        row.note = command.note
    if command.valid_until is not None:
        row.valid_until = command.valid_until


def _in_state(state: str, at: datetime) -> list[Any]:
    """The conditions of a state as views show it."""
    lasting = (OfferRow.state == "open", OfferRow.valid_until > at)
    conditions: dict[str, list[Any]] = {
        "open": [*lasting, OfferRow.taken < OfferRow.capacity],
        "booked": [*lasting, OfferRow.taken >= OfferRow.capacity],
        "expired": [(OfferRow.state == "expired") | (OfferRow.state == "open") & (OfferRow.valid_until <= at)],
        "withdrawn": [OfferRow.state == "withdrawn"],
    }
    return conditions[state]
