"""Rows of offers and of their miners: found, made and ended.

Whoever makes an offer or hears of a miner locks the miner's row first; then come its offers, in the order of ids.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from aitbc.kernel.database.unit_of_work import UnitOfWork
from aitbc.kernel.primitives import ids
from aitbc.modules.gpu.api import MinerNotFound
from aitbc.modules.marketplace.models.facts import carried, models_of
from aitbc.modules.marketplace.models.pricing import price_in_use
from aitbc.modules.marketplace.models.tables import MinerRow, OfferRow
from aitbc.modules.marketplace.models.views import offer_changed
from aitbc.modules.marketplace.service.commands import MakeOffer


async def remember(uow: UnitOfWork, miner: str, facts: dict[str, Any]) -> None:
    """Keep what gpu said of a miner when it was asked, unless something newer is known.

    Its version, and how its hardware is known, are for events to say.
    """
    writing = insert(MinerRow).values(id=miner, **facts)
    newer = {name: writing.excluded[name] for name in facts if name not in ("version", "source")}
    await uow.session.execute(
        writing.on_conflict_do_update(
            index_elements=[MinerRow.id], set_=newer, where=MinerRow.as_of < writing.excluded.as_of
        )
    )


async def lock_miner(uow: UnitOfWork, miner: str) -> MinerRow:
    """A miner, locked: its offers are made one after the other. Raises `MinerNotFound`."""
    return await uow.find(MinerRow, miner, lock=True, missing=MinerNotFound)


def serves(miner: MinerRow, command: MakeOffer) -> bool:
    """Whether a miner has what is to be offered of it."""
    if miner.status == "removed":
        return False
    if command.sells == "device":
        return miner.device == "gpu"
    models = models_of(miner).get(command.kind or "", ())
    return command.kind in miner.kinds and (command.model is None or command.model in models)


async def open_offer_for(uow: UnitOfWork, command: MakeOffer) -> OfferRow | None:
    """The open offer of the same thing; none where it can be offered."""
    same = [OfferRow.miner == command.miner, OfferRow.sells == command.sells, OfferRow.state == "open"]
    if command.sells == "work":
        same += [OfferRow.kind == command.kind, func.coalesce(OfferRow.model, "") == (command.model or "")]
    else:
        same += [func.coalesce(OfferRow.device, -1) == (-1 if command.device is None else command.device)]
    return (await uow.session.scalars(select(OfferRow).where(*same))).one_or_none()


async def expire_of(uow: UnitOfWork, miner: str, at: datetime) -> None:
    """End the offers of a locked miner whose time is up, so that none is in the way of a new one."""
    due = (
        select(OfferRow)
        .where(OfferRow.miner == miner, OfferRow.state == "open", OfferRow.valid_until <= at, OfferRow.taken == 0)
        .order_by(OfferRow.id)
        .with_for_update(key_share=True)
    )
    for row in (await uow.session.scalars(due)).all():
        close_offer(row, "expired", at)
        uow.publish(offer_changed(row))
    await uow.session.flush()


def new_offer(miner: MinerRow, command: MakeOffer, *, at: datetime, until: datetime, origin: str) -> OfferRow:
    """An offer, as it is written; one whose price follows use begins at its floor."""
    band = command.pricing
    price = command.price_units if band is None else price_in_use(band.floor_units, band.ceiling_units, 0, 1)
    assert price is not None
    return OfferRow(
        id=ids.new_id("offer"),
        version=1,
        account=miner.account,
        miner=miner.id,
        sells=command.sells,
        kind=command.kind,
        model=command.model,
        device=command.device,
        price_units=price,
        floor_units=None if band is None else band.floor_units,
        ceiling_units=None if band is None else band.ceiling_units,
        capacity=miner.slots if command.sells == "work" else command.capacity,
        taken=0,
        min_seconds=command.min_seconds,
        max_seconds=command.max_seconds,
        interruptible=command.interruptible,
        note=command.note,
        state="open",
        origin=origin,
        created_at=at,
        changed_at=at,
        valid_until=until,
        ended_at=None,
        units_hour=1 if command.sells == "device" else None,
        **carried(miner),
    )


def close_offer(row: OfferRow, state: str, at: datetime) -> None:
    """End an open offer."""
    assert row.state == "open"
    row.state, row.ended_at = state, at
    row.version += 1
    row.changed_at = max(at, row.changed_at)
