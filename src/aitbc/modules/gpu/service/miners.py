"""Miners as their owners see and steer them: read, drained, removed, and what they earned."""

from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import datetime

import msgspec
from msgspec import Struct
from sqlalchemy import cast, func, select
from sqlalchemy.dialects.postgresql import JSONB

from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.totals import total
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.identity.accounts import Identity
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Conflict
from aitbc.modules.ai.api import AiApi, LeaseLost, MinerProspects
from aitbc.modules.gpu.api import Inventory, Miner, MinerNotFound, Presence, SlotUse
from aitbc.modules.gpu.models.bookings import BookingRow
from aitbc.modules.gpu.models.life import Status, drain, remove
from aitbc.modules.gpu.models.offer import Offer
from aitbc.modules.gpu.models.tables import MinerRow, ProfileRow
from aitbc.modules.gpu.models.views import miner_view
from aitbc.modules.gpu.service.booking_states import cancel_bookings
from aitbc.modules.gpu.service.miner_rows import (
    find_owned,
    miner_of_key,
    miners_query,
    publish_change,
    renew_profile,
    view_of,
)

ONLINE_MAX = 1_000
REMOVED = "its owner removed it"
RELEASED = "miner_removed"


class MinerRemoved(Conflict):
    """This miner was removed; its machine can be enrolled again."""

    code = "miner_removed"


class MinerCounts(Struct, frozen=True):
    """How many miners there are."""

    known: int
    """That were not removed."""
    online: int


class Miners:
    """Reading and steering miners."""

    def __init__(self, db: Database, ai: AiApi, identity: Identity) -> None:
        self._db = db
        self._ai = ai
        self._identity = identity

    async def get(self, miner: str) -> Miner:
        """One miner, whoever asks. Raises `MinerNotFound`."""
        if not ids.is_id("mnr", miner):
            raise MinerNotFound
        async with self._db.reading() as session:
            row = (await session.execute(miners_query().where(MinerRow.id == miner))).one_or_none()
        if row is None:
            raise MinerNotFound
        return miner_view(*row)

    async def owned(self, who: Principal, miner: str) -> Miner:
        """A miner of the caller's, any for an admin. Raises `MinerNotFound`."""
        found = await self.get(miner)
        if not who.owns(found.account):
            raise MinerNotFound
        return found

    async def page(self, who: Principal, *, status: str | None, after: str | None, limit: int) -> Sequence[Miner]:
        """The caller's miners from the newest on, all of them for an admin."""
        query = miners_query().order_by(MinerRow.id.desc()).limit(limit)
        if not who.is_admin:
            query = query.where(MinerRow.account == who.account)
        if status is not None:
            query = query.where(MinerRow.status == status)
        if after is not None:
            query = query.where(MinerRow.id < after)
        async with self._db.reading() as session:
            return [miner_view(*row) for row in await session.execute(query)]

    async def slice(self, who: Principal, *, statuses: Collection[str], offset: int, limit: int) -> Sequence[Miner]:
        """The caller's miners that are in one of these statuses, from the newest on, all of them for an admin."""
        query = miners_query().where(MinerRow.status.in_(sorted(statuses)))
        if not who.is_admin:
            query = query.where(MinerRow.account == who.account)
        async with self._db.reading() as session:
            rows = await session.execute(query.order_by(MinerRow.id.desc()).offset(offset).limit(limit))
            return [miner_view(*row) for row in rows]

    async def online_of(self, account: str) -> Sequence[Miner]:
        """An account's miners that are online, the oldest first."""
        mine = (MinerRow.account == account, MinerRow.status == Status.ONLINE.value)
        query = miners_query().where(*mine).order_by(MinerRow.id).limit(ONLINE_MAX)
        async with self._db.reading() as session:
            return [miner_view(*row) for row in await session.execute(query)]

    async def use_of(self, accounts: Sequence[str]) -> dict[str, SlotUse]:
        """The slots of these accounts' miners that are online, and how many are busy."""
        busy = total(func.least(MinerRow.slots_busy, MinerRow.slots))
        theirs = (MinerRow.account.in_(accounts), MinerRow.status == Status.ONLINE.value)
        counting = select(MinerRow.account, total(MinerRow.slots), busy).where(*theirs).group_by(MinerRow.account)
        async with self._db.reading() as session:
            found = (await session.execute(counting)).all()
        return {account: SlotUse(slots=slots, busy=taken) for account, slots, taken in found}

    async def counts(self) -> MinerCounts:
        """The miners of everybody, counted."""
        known = func.count().filter(MinerRow.status != Status.REMOVED.value)
        online = func.count().filter(MinerRow.status == Status.ONLINE.value)
        async with self._db.reading() as session:
            return MinerCounts(*(await session.execute(select(known, online))).one())

    async def presence(self, kind: str | None, region: str | None) -> Presence:
        """The miners that take a kind of work, or are in a region, counted."""
        known = func.count().filter(MinerRow.status.not_in((Status.REMOVED.value, Status.ENROLLED.value)))
        online = func.count().filter(MinerRow.status == Status.ONLINE.value)
        query = select(known, online)
        if kind is not None or region is not None:
            query = query.join(ProfileRow, ProfileRow.miner == MinerRow.id)
        said = cast(ProfileRow.capabilities, JSONB)
        if kind is not None:
            query = query.where(said["kinds"].contains([kind]))
        if region is not None:
            query = query.where(said["region"].astext == region)
        async with self._db.reading() as session:
            counted = (await session.execute(query)).one()
        return Presence(known=counted[0], online=counted[1])

    async def drain(self, who: Principal, miner: str, message: str | None) -> Miner:
        """Ask a miner to take no more work and say why, or with no message that it may again.

        Raises `MinerNotFound`, `MinerRemoved`.
        """
        at = now()
        async with self._db.unit_of_work() as uow:
            row = await find_owned(uow, who, miner)
            if row.status == Status.REMOVED:
                raise MinerRemoved
            before = row.status
            if drain(row, message):
                action = "miner.resume" if message is None else "miner.drain"
                await uow.audit(who.account, who.key, action, row.id, message=message)
                await publish_change(uow, row, before, at)
            return await view_of(uow, row)

    async def remove(self, who: Principal, miner: str) -> Miner:
        """End a miner for good: no more work, its key and its bookings end, its leases are released; its history stays.

        Each step is harmless to repeat, so that a request which broke off can be sent again. Raises `MinerNotFound`.
        """
        at = now()
        async with self._db.unit_of_work() as uow:
            row = await find_owned(uow, who, miner)
            before = row.status
            if remove(row, REMOVED):
                await uow.audit(who.account, who.key, "miner.remove", row.id)
                await cancel_bookings(uow, BookingRow.miner == row.id, at)
                await publish_change(uow, row, before, at)
            view = await view_of(uow, row)
        await self._identity.revoke_subject(miner, who)
        await self.release_leases(miner, RELEASED)
        return view

    async def release_leases(self, miner: str, reason: str) -> None:
        """Release everything that a miner works on."""
        for lease in await self._ai.leases_of(miner):
            with suppress(LeaseLost):
                await self._ai.release(miner, lease.attempt, lease.token, reason)

    @retrying
    async def set_offer(self, who: Principal, miner: str, offer: Offer) -> Miner:
        """Record what a miner can take from now on; only the miner itself may say so.

        Raises `MinerNotFound`, `MinerRemoved`.
        """
        if miner_of_key(who) != miner:
            raise MinerNotFound
        at = now()
        async with self._db.unit_of_work() as uow:
            row = await uow.find(MinerRow, miner, lock=True, missing=MinerNotFound)
            if row.status == Status.REMOVED:
                raise MinerRemoved
            profile = await uow.session.get_one(ProfileRow, miner)
            stored = offer.stored(msgspec.json.decode(profile.inventory, type=Inventory))
            profile.machine = offer.stored_machine
            if profile.capabilities != stored:
                profile.capabilities, profile.updated_at = stored, at
                row.capabilities_version += 1
                row.version += 1
                await uow.session.flush()
                await publish_change(uow, row, row.status, at)
            return await view_of(uow, row)

    @retrying
    async def set_profile(self, who: Principal, miner: str, *, offer: Offer, slots: int, inventory: Inventory) -> Miner:
        """Record what a miner has and what it takes from now on; only the miner itself may say so.

        Raises `MinerNotFound`, `MinerRemoved`.
        """
        if miner_of_key(who) != miner:
            raise MinerNotFound
        async with self._db.unit_of_work() as uow:
            row = await uow.find(MinerRow, miner, lock=True, missing=MinerNotFound)
            if row.status == Status.REMOVED:
                raise MinerRemoved
            await renew_profile(uow, row, offer=offer, slots=slots, inventory=inventory, at=now())
            return await view_of(uow, row)

    async def why(self, who: Principal, miner: str, since: datetime) -> MinerProspects:
        """What became of the jobs since then, as seen by a miner. Raises `MinerNotFound`."""
        await self.owned(who, miner)
        return await self._ai.prospects_of(miner, since)
