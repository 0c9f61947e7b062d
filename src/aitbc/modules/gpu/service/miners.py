"""The fleet: miners as their owners see and steer them."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

import msgspec
from msgspec import Struct

from aitbc.kernel.database.retry import retrying
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import money
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Conflict
from aitbc.modules.ai.api import LeaseLost
from aitbc.modules.gpu.api import Inventory, Miner, MinerNotFound
from aitbc.modules.gpu.models.bookings import BookingRow
from aitbc.modules.gpu.models.life import Status, drain, remove
from aitbc.modules.gpu.models.offer import Offer
from aitbc.modules.gpu.models.tables import MinerRow, ProfileRow
from aitbc.modules.gpu.models.views import miner_view
from aitbc.modules.gpu.service.booking_states import Booked
from aitbc.modules.gpu.service.desk import miner_of_key, whole

REMOVED = "its owner removed it"
RELEASED = "miner_removed"


class MinerRemoved(Conflict):
    """This miner was removed; its machine can be enrolled again."""

    code = "miner_removed"


class MinerEarnings(Struct, frozen=True, kw_only=True):
    """What a miner was paid, from its receipts, and what is set aside for its jobs."""

    miner: str
    since: datetime | None
    """Only receipts from this time on; none for all."""
    jobs: int
    earned: str
    """What was paid for them, after fees."""
    pending_jobs: int
    """Jobs that it works on now, or delivered and was not yet paid for."""
    pending: str
    """What requesters set aside for those: the most they can cost, before the fee. It earns what is metered of it."""


class Fleet(Booked):
    """Reading and steering miners."""

    async def miners(self, who: Principal, *, status: str | None, after: str | None, limit: int) -> Sequence[Miner]:
        """The caller's miners from the newest on, all of them for an admin."""
        wanted = whole().order_by(MinerRow.id.desc()).limit(limit)
        if not who.is_admin:
            wanted = wanted.where(MinerRow.account == who.account)
        if status is not None:
            wanted = wanted.where(MinerRow.status == status)
        if after is not None:
            wanted = wanted.where(MinerRow.id < after)
        async with self.db.reading() as session:
            return [miner_view(*row) for row in await session.execute(wanted)]

    async def miner_of(self, who: Principal, miner: str) -> Miner:
        """A miner of the caller's, any for an admin. Raises `MinerNotFound`."""
        found = await self.miner(miner)
        if not who.owns(found.account):
            raise MinerNotFound
        return found

    async def drain(self, who: Principal, miner: str, message: str | None) -> Miner:
        """Ask a miner to take no more work and say why, or with no message that it may again.

        Raises `MinerNotFound`, `MinerRemoved`.
        """
        at = now()
        async with self.db.unit_of_work() as uow:
            row = await self.own(uow, who, miner)
            if row.status == Status.REMOVED:
                raise MinerRemoved
            before = row.status
            if drain(row, message):
                action = "miner.resume" if message is None else "miner.drain"
                await uow.audit(who.account, who.key, action, row.id, message=message)
                await self.tell(uow, row, before, at)
            return await self.view(uow, row)

    async def remove(self, who: Principal, miner: str) -> Miner:
        """End a miner for good: no more work, its key ends, what it works on goes back; what was stays on record.

        Each step is harmless to repeat, so that a request which broke off can be sent again. Raises `MinerNotFound`.
        """
        at = now()
        async with self.db.unit_of_work() as uow:
            row = await self.own(uow, who, miner)
            before = row.status
            if remove(row, REMOVED):
                await uow.audit(who.account, who.key, "miner.remove", row.id)
                await self.cancel_bookings(uow, BookingRow.miner == row.id, at)
                await self.tell(uow, row, before, at)
            view = await self.view(uow, row)
        await self.identity.revoke_subject(miner, who)
        await self.release_all(miner, RELEASED)
        return view

    async def release_all(self, miner: str, reason: str) -> None:
        """Give back everything a miner works on."""
        for lease in await self.ai.leases_of(miner):
            with suppress(LeaseLost):
                await self.ai.release(miner, lease.attempt, lease.token, reason)

    @retrying
    async def offer(self, who: Principal, miner: str, offer: Offer) -> Miner:
        """Note what a miner can take from now on; only the miner itself may say so. Raises `MinerNotFound`, `MinerRemoved`."""
        if miner_of_key(who) != miner:
            raise MinerNotFound
        at = now()
        async with self.db.unit_of_work() as uow:
            row = await uow.find(MinerRow, miner, lock=True, missing=MinerNotFound)
            if row.status == Status.REMOVED:
                raise MinerRemoved
            profile = await uow.session.get_one(ProfileRow, miner)
            stored = offer.stored(msgspec.json.decode(profile.inventory, type=Inventory))
            if profile.capabilities != stored:
                profile.capabilities, profile.updated_at = stored, at
                row.capabilities_version += 1
                row.version += 1
                await uow.session.flush()
                await self.tell(uow, row, row.status, at)
            return await self.view(uow, row)

    async def earnings(self, who: Principal, miner: str, since: datetime | None) -> MinerEarnings:
        """What a miner was paid, the sum over its receipts, and what is set aside for it now. Raises `MinerNotFound`."""
        await self.miner_of(who, miner)
        pending = await self.ai.pending_of(miner)
        (paid,) = await self.trading.earnings([miner], since)
        return MinerEarnings(
            miner=miner,
            since=since,
            jobs=paid.jobs,
            earned=money.render(paid.earned_units),
            pending_jobs=pending.jobs,
            pending=money.render(pending.held_units),
        )
