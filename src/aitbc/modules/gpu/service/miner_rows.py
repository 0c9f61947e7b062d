"""Miners inside a transaction: how they are read, found for their owner, and how a change of one is recorded and
published."""

from datetime import datetime

import msgspec
from sqlalchemy import Select, select

from aitbc.kernel.database.unit_of_work import UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.modules.gpu.api import Inventory, Miner, MinerNotFound
from aitbc.modules.gpu.models.bookings import BookingRow, count_time
from aitbc.modules.gpu.models.life import Status
from aitbc.modules.gpu.models.offer import Offer
from aitbc.modules.gpu.models.tables import MinerRow, ProfileRow, ReputationRow, StatusChangeRow
from aitbc.modules.gpu.models.views import miner_changed, miner_view


def miners_query() -> Select[MinerRow, ProfileRow, ReputationRow]:
    """Miners with all that is shown of them; the last is none for one without a past."""
    return (
        select(MinerRow, ProfileRow, ReputationRow)
        .join(ProfileRow, ProfileRow.miner == MinerRow.id)
        .outerjoin(ReputationRow, ReputationRow.miner == MinerRow.id)
    )


async def find_owned(uow: UnitOfWork, who: Principal, miner: str) -> MinerRow:
    """A miner of the caller's, locked; any for an admin. Raises `MinerNotFound`."""
    row = await uow.find(MinerRow, miner, lock=True, missing=MinerNotFound)
    if not who.owns(row.account):
        raise MinerNotFound
    return row


async def view_of(uow: UnitOfWork, row: MinerRow) -> Miner:
    """A miner as others see it."""
    profile = await uow.session.get_one(ProfileRow, row.id)
    return miner_view(row, profile, await uow.session.get(ReputationRow, row.id))


async def publish_change(uow: UnitOfWork, row: MinerRow, before: str, at: datetime) -> None:
    """Record the step from the status `before`, if it is one, and publish what matching must know of the miner now.

    The time of the booking that it is in is counted up to the step.
    Of a miner that has never sent a heartbeat there is nothing to publish yet.
    """
    row.changed_at = at
    if row.status != before:
        uow.add(StatusChangeRow(miner=row.id, at=at, status=row.status, reason=row.status_reason))
        if row.booking is not None:
            booking = await uow.session.get_one(BookingRow, row.booking, with_for_update=True, populate_existing=True)
            count_time(booking, working=before == Status.ONLINE, seen_at=row.seen_at, at=at)
    if row.status == Status.ENROLLED:
        return
    kept = select(ProfileRow.capabilities, ProfileRow.shown, ProfileRow.devices).where(ProfileRow.miner == row.id)
    capabilities, shown, devices = (await uow.session.execute(kept)).one()
    uow.publish(miner_changed(row, capabilities, shown, devices, at))


async def renew_profile(
    uow: UnitOfWork, row: MinerRow, *, offer: Offer, slots: int, inventory: Inventory, at: datetime
) -> None:
    """Record what a miner has and takes from now on, and publish it."""
    row.slots, row.readings, row.devices = slots, None, None
    profile = await uow.session.get_one(ProfileRow, row.id)
    stored = offer.stored(inventory)
    row.capabilities_version += profile.capabilities != stored
    profile.capabilities, profile.machine, profile.updated_at = stored, offer.stored_machine, at
    profile.inventory = msgspec.json.encode(inventory).decode()
    row.version += 1
    await uow.session.flush()
    await publish_change(uow, row, row.status, at)


def miner_of_key(who: Principal) -> str:
    """The miner that a key belongs to. Raises `MinerNotFound` for a key that belongs to none."""
    if who.subject is None or not ids.is_id("mnr", who.subject):
        raise MinerNotFound("This key does not speak for a miner: use the one that the miner got when it enrolled.")
    return who.subject
