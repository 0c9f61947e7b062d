"""Licences: bought out of a hold that stays in escrow while it can be given back, and then paid 70 to 30.

A buyer's money is set aside at once, and the licence holds from then on. For thirty days a refund voids the hold: no
publisher has to pay back what is spent already. After that the publisher is paid.
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Annotated

import structlog
from msgspec import Struct
from sqlalchemy import and_, or_, select, update

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids, money
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError, Conflict, NotFound
from aitbc.kernel.primitives.json_schema import one_of
from aitbc.modules.plugins.api import PluginNotFound
from aitbc.modules.plugins.models.life import LICENCE_MOVES, LICENCE_STATES, LIVE, PLATFORM_SHARE, REFUND_WINDOW
from aitbc.modules.plugins.models.tables import LicenceRow, PluginRow
from aitbc.modules.plugins.service.catalogue import note_user
from aitbc.modules.plugins.service.figures import count
from aitbc.modules.trading.api import (
    HoldNotFound,
    HoldNotOpen,
    InsufficientFunds,
    PayRent,
    PlaceHold,
    TradingApi,
)

HELD_FOR = REFUND_WINDOW + timedelta(days=30)
"""How long the money lies in escrow at most: a payment that was missed is made within this time."""
PLACING = timedelta(seconds=60)
"""A licence whose money is not set aside after so long lost its maker on the way."""
PAGE = 100

log = structlog.get_logger("aitbc.plugins")


class PluginLicenceNotFound(NotFound):
    """There is no such licence, or it is not yours."""

    code = "plugin_licence_not_found"


class PluginNotForSale(Conflict):
    """This plugin is free, your own or not listed, or it has no trial: there is nothing to buy."""

    code = "plugin_not_for_sale"


class PluginLicensed(Conflict):
    """Your account has a licence of this plugin already, or has had its trial."""

    code = "plugin_licensed"


class PluginPurchaseRefused(Conflict):
    """The money of this licence could not be set aside, so nothing was bought; buy it anew."""

    code = "plugin_purchase_refused"


class PluginRefundOver(Conflict):
    """A licence is refunded once, within thirty days of its purchase; a trial costs nothing."""

    code = "plugin_refund_over"


class PluginLicence(Struct, frozen=True, kw_only=True):
    """The right of an account to have a plugin."""

    id: str
    """The licence. For example `plic_01k0000000000000000000000a`."""
    plugin: str
    """The plugin. For example `acme.night-price`."""
    account: str
    """Whose right it is. For example `acct_01k0000000000000000000000b`."""
    price: str
    """What it cost, in AITBC; `0` for a trial. For example `5`."""
    publisher_share: str
    """What its publisher gets of that, in AITBC. For example `3.5`."""
    platform_share: str
    """The rest, which is the platform's. For example `1.5`."""
    state: Annotated[str, one_of(LICENCE_STATES)]
    """`trial`; `placed`, `held` while it can be refunded, `paying`, `paid`; `refunding`, `refunded`; or `refused` where
    the money was short. For example `held`."""
    until: datetime | None
    """When a trial ends; null for what was bought."""
    refundable_until: datetime | None
    """Until when it can be given back; null for a trial."""
    created_at: datetime
    """When it was bought, or the trial began."""


class Licences:
    """Sells licences, pays publishers, and gives money back."""

    def __init__(self, db: Database, trading: TradingApi) -> None:
        self._db = db
        self._trading = trading

    async def buy(self, who: Principal, plugin: str, once: IdempotencyKey) -> PluginLicence:
        """Buy a licence at the present price: write it, and set the money aside.

        A repetition goes on where the first was interrupted. Raises `PluginNotFound`, `PluginNotForSale`,
        `PluginLicensed`, `InsufficientFunds`, and `PluginPurchaseRefused` for one that was refused before.
        """
        row = await self._place(who, plugin, once)
        if row.state == "placed":
            await self._hold(row)
            row = await self._read(row.id)
        if row.state == "refused":
            raise PluginPurchaseRefused
        return _view(row)

    @retrying
    async def _place(self, who: Principal, plugin: str, once: IdempotencyKey) -> LicenceRow:
        async with self._db.unit_of_work() as uow:
            if (earlier := await uow.replay(once, PluginLicence)) is not None:
                return await uow.session.get_one(LicenceRow, earlier.id)
            found = await uow.find(PluginRow, plugin, lock=True, missing=PluginNotFound)
            if (
                found.price_units == 0
                or found.account == who.account
                or found.state != "listed"
                or found.latest is None
            ):
                raise PluginNotForSale
            theirs = select(LicenceRow.id).where(LicenceRow.plugin == plugin, LicenceRow.account == who.account)
            if await uow.session.scalar(theirs.where(LicenceRow.state.in_(LIVE))) is not None:
                raise PluginLicensed
            row = _row(found, who.account, "placed", found.price_units)
            uow.add(row)
            await uow.answer(once, _view(row))
            return row

    @retrying
    async def try_out(self, who: Principal, plugin: str, once: IdempotencyKey) -> PluginLicence:
        """Begin the one trial that an account has of a plugin."""
        async with self._db.unit_of_work() as uow:
            if (earlier := await uow.replay(once, PluginLicence)) is not None:
                return earlier
            found = await uow.find(PluginRow, plugin, lock=True, missing=PluginNotFound)
            if not found.price_units or not found.trial_days or found.account == who.account:
                raise PluginNotForSale
            if found.state != "listed" or found.latest is None:
                raise PluginNotForSale
            theirs = select(LicenceRow.id).where(LicenceRow.plugin == plugin, LicenceRow.account == who.account)
            if await uow.session.scalar(theirs.where(LicenceRow.state.in_((*LIVE, "trial")))) is not None:
                raise PluginLicensed
            row = _row(found, who.account, "trial", 0)
            row.until = row.created_at + timedelta(days=found.trial_days)
            uow.add(row)
            await note_user(uow, plugin, who.account)
            return await uow.answer(once, _view(row))

    async def refund(self, who: Principal, licence: str) -> PluginLicence:
        """Give a licence back: the whole price returns, once, within the window. Repeating it answers the same.

        Raises `PluginLicenceNotFound`, `PluginRefundOver`.
        """
        row = await self._read(licence) if ids.is_id("plic", licence) else None
        if row is None or row.account != who.account:
            raise PluginLicenceNotFound
        if row.state == "held" and now() < row.created_at + REFUND_WINDOW:
            await self._move(row, "held", "refunding")
            row = await self._read(licence)
        if row.state == "refunding":
            await self._give_back(row)
            row = await self._read(licence)
        if row.state != "refunded":
            raise PluginRefundOver
        return _view(row)

    async def one(self, who: Principal, licence: str) -> PluginLicence:
        """A licence of the caller's own. Raises `PluginLicenceNotFound`."""
        async with self._db.unit_of_work() as uow:
            row = await uow.find(LicenceRow, licence, missing=PluginLicenceNotFound)
            if not who.owns(row.account):
                raise PluginLicenceNotFound
            return _view(row)

    async def page(self, who: Principal, after: str | None, limit: int) -> Sequence[PluginLicence]:
        """The licences of the caller's account, from the newest on."""
        wanted = select(LicenceRow).where(LicenceRow.account == who.account).order_by(LicenceRow.id.desc())
        if after is not None:
            wanted = wanted.where(LicenceRow.id < after)
        async with self._db.reading() as session:
            return [_view(row) for row in await session.scalars(wanted.limit(limit))]

    async def reconcile(self) -> None:
        """Refuse what never had its money set aside, bring refunds to their end, and pay what cannot be refunded."""
        at, row = now(), LicenceRow
        due = or_(
            and_(row.state == "placed", row.created_at < at - PLACING),
            and_(row.state == "held", row.created_at <= at - REFUND_WINDOW),
            row.state.in_(("refunding", "paying")),
        )
        async with self._db.reading() as session:
            found = (await session.scalars(select(row).where(due).order_by(row.created_at, row.id).limit(PAGE))).all()
        for one in found:
            with suppress(AppError):  # the next round tries again
                await self._bring_to_its_end(one)

    async def _bring_to_its_end(self, row: LicenceRow) -> None:
        if row.state == "placed":
            if await self._move(row, "placed", "refused"):
                await self._void(row)
        elif row.state == "refunding":
            await self._give_back(row)
        elif row.state == "paying" or await self._move(row, "held", "paying"):
            await self._pay(row)

    async def _hold(self, row: LicenceRow) -> None:
        command = PlaceHold(
            hold=_hold_of(row.id),
            payer=row.account,
            amount_units=row.price_units,
            expires_at=row.created_at + HELD_FOR,
            reference=row.id,
            fee_basis_points=PLATFORM_SHARE,
        )
        try:
            await self._trading.hold(command)
        except InsufficientFunds:
            await self._move(row, "placed", "refused")
            raise
        if not await self._move(row, "placed", "held") and (await self._read(row.id)).state == "refused":
            await self._void(row)  # the reconciler was quicker

    async def _give_back(self, row: LicenceRow) -> None:
        await self._void(row)
        await self._move(row, "refunding", "refunded")

    async def _void(self, row: LicenceRow) -> None:
        with suppress(HoldNotFound, HoldNotOpen):
            await self._trading.void(_hold_of(row.id), "refunded")

    async def _pay(self, row: LicenceRow) -> None:
        command = PayRent(
            hold=_hold_of(row.id),
            payer=row.account,
            owner=row.publisher,
            reference=row.id,
            price_units=row.price_units,
            reason="licensed",
        )
        try:
            paid = await self._trading.pay_rent(command)
        except (HoldNotOpen, HoldNotFound) as refusal:  # it went back at its deadline
            log.warning("licence_unpaid", licence=row.id, reason=refusal.message)
            await self._move(row, "paying", "refunded")
        else:
            await self._move(row, "paying", "paid", transaction=paid.transaction, earned_units=paid.earned_units)

    async def _read(self, licence: str) -> LicenceRow:
        async with self._db.reading() as session:
            row = await session.get(LicenceRow, licence)
            if row is None:
                raise PluginLicenceNotFound
            return row

    @retrying
    async def _move(
        self, row: LicenceRow, before: str, after: str, *, transaction: str | None = None, earned_units: int = 0
    ) -> bool:
        """Move a licence by compare-and-set, and count what that means."""
        assert after in LICENCE_MOVES[before]
        moving = update(LicenceRow).where(LicenceRow.id == row.id, LicenceRow.state == before)
        async with self._db.unit_of_work() as uow:
            moved = await uow.session.execute(
                moving.values(state=after, transaction=transaction).returning(LicenceRow.id)
            )
            if moved.first() is None:
                return False
            plugin = await uow.session.get_one(PluginRow, row.plugin)
            version = plugin.latest or ""
            if after == "held":
                await count(uow, row.plugin, version, "purchases")
                await note_user(uow, row.plugin, row.account)
            elif after == "refunded":
                await count(uow, row.plugin, version, "refunds")
            elif after == "paid":
                await count(uow, row.plugin, version, "revenue_units", earned_units)
            return True


def _row(plugin: PluginRow, account: str, state: str, price_units: int) -> LicenceRow:
    return LicenceRow(
        id=ids.new_id("plic"),
        plugin=plugin.id,
        account=account,
        publisher=plugin.account,
        price_units=price_units,
        state=state,
        until=None,
        transaction=None,
        created_at=now(),
    )


def _hold_of(licence: str) -> str:
    """The hold of a licence's money: it has the licence's own UUID."""
    return ids.encode("hold", ids.decode("plic", licence))


def _view(row: LicenceRow) -> PluginLicence:
    platform = money.share(row.price_units, PLATFORM_SHARE)
    return PluginLicence(
        id=row.id,
        plugin=row.plugin,
        account=row.account,
        price=money.render(row.price_units),
        publisher_share=money.render(row.price_units - platform),
        platform_share=money.render(platform),
        state=row.state,
        until=row.until,
        refundable_until=None if row.state == "trial" else row.created_at + REFUND_WINDOW,
        created_at=row.created_at,
    )
