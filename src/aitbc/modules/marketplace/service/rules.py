"""Rules by which an owner's online miners are put on sale."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import money
from aitbc.kernel.primitives.clock import now
from aitbc.modules.gpu.api import GpuApi
from aitbc.modules.marketplace.api import MarketOffer
from aitbc.modules.marketplace.models.facts import asked
from aitbc.modules.marketplace.models.tables import MinerRow, OfferRow, RuleRow
from aitbc.modules.marketplace.models.views import offer_changed, offer_view
from aitbc.modules.marketplace.service.commands import MakeOffer, MarketRuleNotFound, SetRule
from aitbc.modules.marketplace.service.offer_rows import (
    expire_of,
    lock_miner,
    new_offer,
    open_offer_for,
    remember,
    serves,
)


class MarketRule(Struct, frozen=True, kw_only=True):
    """How an owner's online miners are put on sale."""

    kinds: dict[str, str]
    """AITBC for one metered unit, by kind of work. For example `{"chat": "0.00002"}`."""
    price_hour: str | None
    """AITBC for the time of a miner's GPUs, for one hour; null for none. For example `0.8`."""
    valid_seconds: int
    """How long each offer is valid. For example `2592000`."""
    automatic: bool
    """Whether miners that come online later are put on sale too."""
    set_at: datetime
    """When it was set."""


class MarketSync(Struct, frozen=True, kw_only=True):
    """What a rule has put on sale."""

    miners: int
    """How many miners of the account are online. For example `3`."""
    made: tuple[MarketOffer, ...]
    """The offers that were lacking, and are there now."""


class RuleRemoved(Struct, frozen=True, kw_only=True):
    """Whether there was a rule to forget; the offers that it made stay."""

    removed: bool
    """Whether there was one."""


class Rules:
    """Sets rules, and applies them."""

    def __init__(self, database: Database, gpu: GpuApi) -> None:
        self._database = database
        self._gpu = gpu

    @retrying
    async def set(self, who: Principal, command: SetRule) -> MarketRule:
        """Set the rule of the caller's account, in place of the one before."""
        async with self._database.unit_of_work() as uow:
            values = {
                "kinds": msgspec.json.encode(command.kinds, order="sorted").decode(),
                "price_hour_units": command.price_hour_units,
                "valid_seconds": command.valid_seconds,
                "automatic": command.automatic,
                "set_at": now(),
            }
            writing = insert(RuleRow).values(account=who.account, **values)
            await uow.session.execute(writing.on_conflict_do_update(index_elements=[RuleRow.account], set_=values))
            return _view(RuleRow(account=who.account, **values))

    async def get(self, who: Principal) -> MarketRule:
        """The rule of the caller's account. Raises `MarketRuleNotFound`."""
        async with self._database.reading() as session:
            row = await session.get(RuleRow, who.account)
        if row is None:
            raise MarketRuleNotFound
        return _view(row)

    @retrying
    async def remove(self, who: Principal) -> RuleRemoved:
        """Forget the rule of the caller's account; what it has made stays."""
        async with self._database.unit_of_work() as uow:
            forgetting = delete(RuleRow).where(RuleRow.account == who.account).returning(RuleRow.account)
            return RuleRemoved(removed=(await uow.session.execute(forgetting)).first() is not None)

    async def sync(self, who: Principal, once: IdempotencyKey) -> MarketSync:
        """Put on sale what the rule says and is lacking, of each miner of the caller's that is online.

        Raises `MarketRuleNotFound`.
        """
        online = {miner.id: asked(miner) for miner in await self._gpu.miners_of(who.account)}
        return await self._sync(who, online, once)

    @retrying
    async def _sync(self, who: Principal, online: dict[str, dict[str, Any]], once: IdempotencyKey) -> MarketSync:
        async with self._database.unit_of_work() as uow:
            if (earlier := await uow.replay(once, MarketSync)) is not None:
                return earlier
            rule = await uow.session.get(RuleRow, who.account)
            if rule is None:
                raise MarketRuleNotFound
            made: list[OfferRow] = []
            for miner in sorted(online):
                await remember(uow, miner, online[miner])
                made += await _offer_lacking(uow, rule, await lock_miner(uow, miner), again=True)
            views = tuple(offer_view(row, now()) for row in made)
            return await uow.answer(once, MarketSync(miners=len(online), made=views))

    async def apply_to(self, uow: UnitOfWork, miner: MinerRow) -> None:
        """Put a locked miner that is online on sale where its owner's rule is automatic.

        What was on sale before and was withdrawn stays withdrawn.
        """
        rule = await uow.session.get(RuleRow, miner.account)
        if rule is not None and rule.automatic:
            await _offer_lacking(uow, rule, miner, again=False)


async def _offer_lacking(uow: UnitOfWork, rule: RuleRow, miner: MinerRow, *, again: bool) -> list[OfferRow]:
    """Make what a rule says of a locked miner and is not offered; with `again` also what was withdrawn before."""
    at = now()
    await expire_of(uow, miner.id, at)
    made = []
    for command in _commands(rule, miner):
        if not serves(miner, command) or await open_offer_for(uow, command) is not None:
            continue
        if not again and await _was_withdrawn(uow, command):
            continue
        until = at + timedelta(seconds=rule.valid_seconds)
        row = new_offer(miner, command, at=at, until=until, origin="rule")
        uow.add(row)
        uow.publish(offer_changed(row))
        made.append(row)
    await uow.session.flush()
    return made


def _commands(rule: RuleRow, miner: MinerRow) -> Sequence[MakeOffer]:
    prices = msgspec.json.decode(rule.kinds, type=dict[str, int])
    wanted = [
        MakeOffer(miner=miner.id, sells="work", kind=kind, price_units=prices[kind])
        for kind in sorted(miner.kinds)
        if kind in prices
    ]
    if rule.price_hour_units is not None:
        wanted.append(MakeOffer(miner=miner.id, sells="device", price_units=rule.price_hour_units))
    return wanted


async def _was_withdrawn(uow: UnitOfWork, command: MakeOffer) -> bool:
    """Whether the newest offer of this thing was withdrawn."""
    same = (OfferRow.miner == command.miner, OfferRow.sells == command.sells, OfferRow.kind == command.kind)
    if command.kind is None:
        same = (OfferRow.miner == command.miner, OfferRow.sells == command.sells, OfferRow.device.is_(None))
    newest = select(OfferRow.state).where(*same, OfferRow.model.is_(None)).order_by(OfferRow.id.desc()).limit(1)
    return await uow.session.scalar(newest) == "withdrawn"


def _view(row: RuleRow) -> MarketRule:
    prices = msgspec.json.decode(row.kinds, type=dict[str, int])
    return MarketRule(
        kinds={kind: money.render(units) for kind, units in prices.items()},
        price_hour=None if row.price_hour_units is None else money.render(row.price_hour_units),
        valid_seconds=row.valid_seconds,
        automatic=row.automatic,
        set_at=row.set_at,
    )
