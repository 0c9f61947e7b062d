"""Miners of the older dialect: they bring a name instead of a key, and the server keeps a key for each (decision 0020)."""

import os
from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert as upsert

from aitbc.kernel.crypto.sealing import Unsealable
from aitbc.kernel.crypto.signing import Key, canonical, enrolment_statement
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids, money
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Conflict, Malformed
from aitbc.kernel.primitives.request_id import current_request_id
from aitbc.modules.gpu.api import Inventory, Miner, MinerNotFound
from aitbc.modules.gpu.models.life import Status
from aitbc.modules.gpu.models.offer import Offer
from aitbc.modules.gpu.models.older import OlderLeaseRow, OlderMinerRow
from aitbc.modules.gpu.models.tables import MinerRow
from aitbc.modules.gpu.models.values import Beat
from aitbc.modules.gpu.service.enrolment import Enrol, Enrolled, Enrolment, TooManyMiners
from aitbc.modules.gpu.service.fleet import MinerEarnings
from aitbc.modules.gpu.service.scoring import Scoring
from aitbc.modules.gpu.service.worked import worked_attempts
from aitbc.modules.trading.api import Earnings

RESTARTED = "miner_restarted"
UNKNOWN = "There is no such miner of yours; register it first."
PAGE = 200
SEED_BYTES = 32
TOKEN_SECONDS = 60


class OlderKeyLost(Conflict):
    """The key that this server keeps for the miner cannot be opened any more; register the miner again."""

    code = "older_key_lost"


class RegisterOlder(Struct, frozen=True, kw_only=True):
    """A miner says, in the older dialect, that it is there and what it has."""

    older_id: str
    offer: Offer
    slots: int
    inventory: Inventory
    price_units: int | None
    """What it says that an hour of it costs; none where it says nothing."""


class OlderMiner(Struct, frozen=True, kw_only=True):
    """A miner as the older dialect sees it."""

    older_id: str
    """The name it gave itself; for a miner with a key of its own its id."""
    price_units: int | None
    miner: Miner


class Record(Struct, frozen=True, kw_only=True):
    """What a miner did so far, from its attempts that ended, and what it does now."""

    completed: int = 0
    failed: int = 0
    seconds: float = 0.0
    """The mean time that a completed one took."""
    inflight: int = 0
    receipt: str | None = None
    """Of the last job that was paid for; none for miners with a key of their own, which keep their receipts themselves."""


class FleetCounts(Struct, frozen=True):
    """How many miners there are."""

    known: int
    """That were not removed."""
    online: int


class Paid(Struct, frozen=True, kw_only=True):
    """A job that was paid for."""

    job: str
    receipt: str
    earned_units: int | None
    """None where the ledger was told later."""
    ended_at: datetime


class OlderMiners(Enrolment, Scoring):
    """How they join, and what is told of them."""

    async def register_older(self, who: Principal, command: RegisterOlder, *, restarted: bool = True) -> Enrolled:
        """Enrol a miner under a key that the server keeps for it; the same name is the same miner until it is removed.

        One that was `restarted` has forgotten what it worked on: that goes back. Raises `TooManyMiners`, `TooManyTokens`.
        """
        key = await self._kept_key(who, command.older_id)
        token = (await self.create_token(who, TOKEN_SECONDS)).token
        proof = key.sign(canonical(enrolment_statement(token=token, public_key=key.public)))
        enrolled = await self.enrol(
            Enrol(
                token=token,
                public_key=key.public,
                name=command.older_id,
                proof=proof,
                capabilities=command.offer,
                slots=command.slots,
                inventory=command.inventory,
            )
        )
        before = await self._note_miner(who, command, enrolled.miner)
        if before not in (None, enrolled.miner):
            await self.remove(who, before)
        if restarted:
            await self.release_all(enrolled.miner, RESTARTED)
        await self.beat(Beat(miner=enrolled.miner, request_id=current_request_id()))
        return enrolled

    async def older_miner(self, who: Principal, name: str) -> OlderMiner:
        """A miner of the caller's by the name it gave itself or by its id; any for an admin. Raises `MinerNotFound`."""
        row = await self._row_of(who, name)
        if row is not None and row.miner is not None:
            return OlderMiner(
                older_id=row.older_id, price_units=row.price_units, miner=await self.miner_of(who, row.miner)
            )
        if not ids.is_id("mnr", name):
            raise MinerNotFound(UNKNOWN)
        return OlderMiner(older_id=name, price_units=None, miner=await self.miner_of(who, name))

    async def older_miners(self, who: Principal, limit: int) -> Sequence[OlderMiner]:
        """The caller's miners that were not removed, from the newest on, all of them for an admin."""
        found: list[Miner] = []
        after: str | None = None
        while len(found) < limit:
            page = await self.miners(who, status=None, after=after, limit=PAGE)
            found += [miner for miner in page if miner.status != Status.REMOVED]
            if len(page) < PAGE:
                break
            after = page[-1].id
        found = found[:limit]
        wanted = select(OlderMinerRow).where(OlderMinerRow.miner.in_([miner.id for miner in found]))
        async with self.db.reading() as session:
            known = {row.miner: row for row in await session.scalars(wanted)}
        return [
            OlderMiner(
                older_id=known[miner.id].older_id if miner.id in known else miner.id,
                price_units=known[miner.id].price_units if miner.id in known else None,
                miner=miner,
            )
            for miner in found
        ]

    async def records(self, miners: Sequence[Miner]) -> dict[str, Record]:
        """What each of these miners did so far."""
        wanted = [miner.id for miner in miners]
        worked, lease = worked_attempts().c, OlderLeaseRow
        good, bad = worked.outcome == "succeeded", worked.outcome.in_(("failed", "lost"))
        took = func.avg(func.extract("epoch", worked.ended_at - worked.started_at)).filter(good)
        done = select(worked.miner, func.count().filter(good), func.count().filter(bad), took)
        done = done.where(worked.miner.in_(wanted)).group_by(worked.miner)
        held = select(lease.miner, func.count()).where(lease.miner.in_(wanted), lease.ended_at.is_(None))
        paid = select(lease.miner, lease.receipt).where(lease.miner.in_(wanted), lease.receipt.is_not(None))
        paid = paid.distinct(lease.miner).order_by(lease.miner, lease.ended_at.desc())
        older = select(OlderMinerRow.miner).where(OlderMinerRow.miner.in_(wanted))
        async with self.db.reading() as session:
            ended = {row[0]: row for row in await session.execute(done)}
            open_now = {row[0]: int(row[1]) for row in await session.execute(held.group_by(lease.miner))}
            receipts = {row[0]: row[1] for row in await session.execute(paid)}
            keyless = set(await session.scalars(older))
        return {
            miner.id: Record(
                completed=ended[miner.id][1] if miner.id in ended else 0,
                failed=ended[miner.id][2] if miner.id in ended else 0,
                seconds=float(ended[miner.id][3] or 0) if miner.id in ended else 0.0,
                inflight=open_now.get(miner.id, 0) if miner.id in keyless else miner.slots_busy,
                receipt=receipts.get(miner.id),
            )
            for miner in miners
        }

    async def fleet_counts(self) -> FleetCounts:
        """The miners of everybody, counted."""
        known = func.count().filter(MinerRow.status != Status.REMOVED.value)
        online = func.count().filter(MinerRow.status == Status.ONLINE.value)
        async with self.db.reading() as session:
            return FleetCounts(*(await session.execute(select(known, online))).one())

    async def earnings_between(
        self, who: Principal, miner: str, since: datetime | None, until: datetime | None
    ) -> MinerEarnings:
        """What a miner was paid from one time until before another, and what is set aside now. Raises `MinerNotFound`."""
        await self.miner_of(who, miner)
        paid, later = (await self.trading.earnings([miner], since))[0], Earnings(miner=miner, jobs=0, earned_units=0)
        if until is not None:
            later = (await self.trading.earnings([miner], max(until, since or until)))[0]
        pending = await self.ai.pending_of(miner)
        return MinerEarnings(
            miner=miner,
            since=since,
            jobs=paid.jobs - later.jobs,
            earned=money.render(paid.earned_units - later.earned_units),
            pending_jobs=pending.jobs,
            pending=money.render(pending.held_units),
        )

    async def paid_jobs(self, miner: str, since: datetime | None, until: datetime | None, limit: int) -> Sequence[Paid]:
        """The jobs that an older miner was paid for, from the newest on."""
        lease = OlderLeaseRow
        wanted = select(lease).where(lease.miner == miner, lease.receipt.is_not(None))
        if since is not None:
            wanted = wanted.where(lease.ended_at >= since)
        if until is not None:
            wanted = wanted.where(lease.ended_at < until)
        async with self.db.reading() as session:
            rows = await session.scalars(wanted.order_by(lease.taken_at.desc()).limit(limit))
            return [
                Paid(job=row.job, receipt=row.receipt, earned_units=row.earned_units, ended_at=row.ended_at)
                for row in rows
                if row.receipt is not None and row.ended_at is not None
            ]

    async def speaker(self, who: Principal, name: str | None) -> tuple[OlderMinerRow, Principal]:
        """A live older miner of the caller's, and in whose name it acts. Without a name: the only one there is.

        Raises `MinerNotFound`, and `Malformed` where a name is needed to tell.
        """
        alive = MinerRow.status != Status.REMOVED.value
        wanted = select(OlderMinerRow).join(MinerRow, MinerRow.id == OlderMinerRow.miner)
        wanted = wanted.where(OlderMinerRow.account == who.account, alive)
        if name is not None:
            same = OlderMinerRow.miner == name if ids.is_id("mnr", name) else OlderMinerRow.older_id == name
            wanted = wanted.where(same)
        async with self.db.reading() as session:
            rows = list(await session.scalars(wanted.limit(2)))
        if not rows or rows[0].miner is None:
            raise MinerNotFound(UNKNOWN)
        if len(rows) > 1:
            raise Malformed("Which miner? Send X-Miner-ID, or miner_id in the query or in the body.")
        return rows[0], speaking(who, rows[0].miner)

    def opened(self, row: OlderMinerRow) -> Key:
        """The key that the server keeps for a miner. Raises `OlderKeyLost`."""
        try:
            return Key(self.seal.unseal(row.sealed_key))
        except Unsealable:
            raise OlderKeyLost from None

    @retrying
    async def _kept_key(self, who: Principal, older_id: str) -> Key:
        """The key for a name, made at its first use: before the miner is, so that a request which broke off finds it again."""
        fresh = self.seal.seal(os.urandom(SEED_BYTES))
        named = (OlderMinerRow.account == who.account, OlderMinerRow.older_id == older_id)
        half_made = select(func.count()).where(
            OlderMinerRow.account == who.account, OlderMinerRow.older_id != older_id, OlderMinerRow.miner.is_(None)
        )
        known = select(OlderMinerRow.miner).where(*named)
        values = {"account": who.account, "older_id": older_id, "sealed_key": fresh, "created_at": now()}
        async with self.db.unit_of_work() as uow:
            if (await uow.session.execute(known)).one_or_none() is None:
                if (await uow.session.execute(half_made)).scalar_one() >= self.settings.miners_max:
                    raise TooManyMiners
                await uow.session.execute(upsert(OlderMinerRow).values(**values).on_conflict_do_nothing())
            row = (await uow.session.scalars(select(OlderMinerRow).where(*named).with_for_update())).one()
            try:
                return self.opened(row)
            except OlderKeyLost:
                row.sealed_key = fresh
                return self.opened(row)

    @retrying
    async def _note_miner(self, who: Principal, command: RegisterOlder, miner: str) -> str | None:
        """Remember who a name means now; answers who it meant before."""
        named = (OlderMinerRow.account == who.account, OlderMinerRow.older_id == command.older_id)
        async with self.db.unit_of_work() as uow:
            row = (await uow.session.scalars(select(OlderMinerRow).where(*named).with_for_update())).one()
            before, row.miner, row.price_units = row.miner, miner, command.price_units
        return before

    async def _row_of(self, who: Principal, name: str) -> OlderMinerRow | None:
        """The name's row among the caller's, for an admin among all, where only one has it."""
        same = OlderMinerRow.miner == name if ids.is_id("mnr", name) else OlderMinerRow.older_id == name
        wanted = select(OlderMinerRow).where(same, OlderMinerRow.miner.is_not(None))
        async with self.db.reading() as session:
            mine = (await session.scalars(wanted.where(OlderMinerRow.account == who.account))).one_or_none()
            if mine is not None or not who.is_admin:
                return mine
            rows = list(await session.scalars(wanted.limit(2)))
        return rows[0] if len(rows) == 1 else None


def speaking(who: Principal, miner: str) -> Principal:
    """The caller in the name of a miner of its account."""
    return Principal(who.account, who.key, "miner", frozenset({"miners:work"}), miner)
