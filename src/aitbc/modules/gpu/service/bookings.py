"""Booking listed GPUs: their time is held in full, what was used of it is paid, and the rest is returned (decision
0027)."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import Select, func, or_, select, text
from sqlalchemy.dialects.postgresql import insert as upsert

from aitbc.kernel.database.idempotency import IdempotencyKey, IdempotencyKeyReused
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids, money
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import AppError, Conflict, TooMany
from aitbc.modules.ai.api import AiApi, BookingNotFound, BookingNotOpen, Job, OrderJob
from aitbc.modules.gpu.models.bookings import IS_OPEN, MILLISECOND, Booking, BookingRow, BookingState, booking_view
from aitbc.modules.gpu.models.devices import DeviceOwnerRow, DeviceRow
from aitbc.modules.gpu.models.legacy import LegacyMinerRow
from aitbc.modules.gpu.models.life import Status
from aitbc.modules.gpu.models.listings import ListedGpuRow
from aitbc.modules.gpu.models.pricing import total
from aitbc.modules.gpu.models.tables import MinerRow
from aitbc.modules.gpu.service.booked_work import stop_work
from aitbc.modules.gpu.service.booking_payments import BookingPayments
from aitbc.modules.gpu.service.booking_states import begin_booking, end_booking, open_bookings
from aitbc.modules.gpu.service.listings import GpuBooked, Listings, is_shown, listed, with_miner

BOOKINGS_OPEN_MAX = 1000
"""How many GPUs an account may have booked at once."""
QUEUE_SECONDS_MAX = 604_800
"""The longest that a job may wait."""
STOPPING_MAX = timedelta(seconds=60)
"""After so long a miner that sends heartbeats has stopped what it was told to, whatever these say."""
SECOND = timedelta(seconds=1)
STORED = text("SELECT fingerprint, body FROM gpu.answers WHERE account = :account AND key = :key")


class GpuNotBooked(Conflict):
    """This GPU is not booked, or not by you."""

    code = "gpu_not_booked"


class GpuOffline(Conflict):
    """The miner that this GPU is in takes no work now, so it cannot be booked."""

    code = "gpu_offline"


class GpuNotShown(Conflict):
    """The miner that this GPU is in shows no such GPU now, or only one with a fault, so it cannot be booked."""

    code = "gpu_not_shown"


class GpuWithoutMiner(Conflict):
    """Its owner has no miner of the name that this GPU is listed under, so it cannot be booked, nor given a task."""

    code = "gpu_without_miner"


class BookingCostsMore(Conflict):
    """Booking this GPU for so long costs more than the most that was named."""

    code = "booking_costs_more"


class TooManyBookings(TooMany):
    """This account has as many GPUs booked as it may; release some."""

    code = "too_many_bookings"


class BookGpu(Struct, frozen=True, kw_only=True):
    """Somebody wants a GPU for themselves."""

    gpu: str
    duration_ms: int
    cost_max_units: int | None = None
    """The most that it may cost; none for whatever the owner asks."""
    job: str | None = None
    """What it is for, in the booker's words."""


class BookingFilter(Struct, frozen=True, kw_only=True):
    """Which bookings are asked for."""

    states: frozenset[str] | None = None
    booked: bool = True
    """Those that the caller made."""
    owned: bool = False
    """Those of the caller's own GPUs."""
    after: str | None = None
    limit: int


class Bookings:
    """Booking listed GPUs, and reading, confirming and releasing bookings."""

    def __init__(self, db: Database, ai: AiApi, listings: Listings, payments: BookingPayments) -> None:
        self._db = db
        self._ai = ai
        self._listings = listings
        self._payments = payments

    async def book(self, who: Principal, command: BookGpu, once: IdempotencyKey = IdempotencyKey.NONE) -> Booking:
        """Book a GPU from now on: keep others away from it, hold the money, and only then let it begin.

        Raises `ListedGpuNotFound`, `GpuBooked`, `GpuWithoutMiner`, `GpuOffline`, `GpuNotShown`, `BookingCostsMore`,
        `TooManyBookings`, `InsufficientFunds`, `AmountOverflow`. A crash in between leaves a booking that the same
        request, repeated, goes on with; else the reconciler refuses it, and its money returns.
        """
        if (earlier := await self._earlier_answer(once)) is not None:
            return earlier
        self._payments.require_open()
        await self._end_overdue(command.gpu)
        try:
            placed = await self._place(who, command, once)
        except AppError:  # what is in the way may be this very request, at another server or before a crash
            twin = await self._placed_by(command, once)
            if twin is None:
                if (earlier := await self._earlier_answer(once)) is not None:
                    return earlier
                raise
            placed = twin
        await self._payments.hold(placed, who.key)
        return await self._begin(who, placed, once)

    async def _placed_by(self, command: BookGpu, once: IdempotencyKey) -> BookingRow | None:
        """The booking that this very request has placed and not begun yet."""
        if once.key is None or not ids.is_id("gpu", command.gpu):
            return None
        mine = (BookingRow.gpu == command.gpu, BookingRow.state == BookingState.PLACED)
        query = select(BookingRow).where(*mine, BookingRow.request == once.digest)
        async with self._db.reading() as session:
            return (await session.scalars(query)).one_or_none()

    async def _place(self, who: Principal, command: BookGpu, once: IdempotencyKey) -> BookingRow:
        async with self._db.unit_of_work() as uow:
            gpu = await listed(uow, command.gpu, lock=True)
            miner = await _miner_of(uow, gpu)
            at = now()
            if miner is None:
                raise GpuWithoutMiner
            if miner.status != Status.ONLINE:
                raise GpuOffline
            await _require_shown(uow, gpu, miner)
            if is_stopping(miner):
                raise GpuBooked(
                    "Its miner is still stopping what its last booker had it do; try again in some seconds."
                )
            cost = total(gpu.price_units, 1, command.duration_ms)
            if command.cost_max_units is not None and cost > command.cost_max_units:
                raise BookingCostsMore(f"It costs {money.render(cost)}.", cost=money.render(cost))
            values = {
                "id": ids.new_id("book"),
                "gpu": gpu.id,
                "miner": miner.id,
                "account": who.account,
                "owner": gpu.account,
                "price_units": gpu.price_units,
                "duration_ms": command.duration_ms,
                "total_units": cost,
                "job": command.job,
                "request": once.digest,
                "state": BookingState.PLACED,
                "starts_at": at,
                "ends_at": at + command.duration_ms * MILLISECOND,
                "grace_ms": self._payments.grace(legacy=await _is_legacy(uow, miner)) // MILLISECOND,
                "counted_at": at,
            }
            placing = upsert(BookingRow).values(**values).on_conflict_do_nothing().returning(BookingRow)
            row = (await uow.session.scalars(placing)).one_or_none()
            if row is None:
                raise GpuBooked
            mine = (BookingRow.account == who.account, IS_OPEN)
            if (
                await uow.session.scalar(select(func.count()).select_from(BookingRow).where(*mine)) or 0
            ) > BOOKINGS_OPEN_MAX:
                raise TooManyBookings
            await uow.audit(who.account, who.key, "booking.place", row.id, gpu=gpu.id)
            return row

    async def _begin(self, who: Principal, placed: BookingRow, once: IdempotencyKey) -> Booking:
        try:
            async with self._db.unit_of_work() as uow:
                if (twin := await uow.replay(once, Booking)) is None:
                    row = await begin_booking(uow, placed.id, placed.miner, now())
                    if row is None:
                        raise BookingNotOpen("The GPU was taken away before this booking began.")
                    await uow.audit(who.account, who.key, "booking.begin", row.id)
                    return await uow.answer(once, await _shown(uow, row))
        except AppError:
            await self._payments.refuse(placed.id, nothing_held=False)
            raise
        if twin.id != placed.id:  # another process answered this very request with another booking
            await self._payments.refuse(placed.id, nothing_held=False)
        return twin

    async def release(self, who: Principal, booking: str, once: IdempotencyKey = IdempotencyKey.NONE) -> Booking:
        """Give a GPU back before its time: the time until now is paid, less that in which its miner took no work.

        The rest returns. What is over stays as it came out.

        Raises `BookingNotFound`, and `BookingNotOpen` for one that has not begun.
        """
        stopped = await self._stop_work(who, booking)
        async with self._db.unit_of_work() as uow:
            if (earlier := await uow.replay(once, Booking)) is not None:
                return earlier
            row = await _find_owned(uow, who, booking)
            if row.state == BookingState.PLACED:
                raise BookingNotOpen
            at = now()
            end = BookingState.RELEASED if at < row.ends_at else BookingState.ENDED
            if await end_booking(uow, row, end, at, stopped=stopped):
                await uow.audit(who.account, who.key, "booking.release", row.id, cost_units=row.cost_units)
            view = await uow.answer(once, await _shown(uow, row))
        with suppress(AppError):  # the reconciler tries again
            await self._payments.settle(booking)
        return view

    async def confirm(self, who: Principal, booking: str, client: str | None) -> Booking:
        """Say that a booking is meant. It changes no term of it. Raises `BookingNotFound`, `BookingNotOpen`."""
        async with self._db.unit_of_work() as uow:
            row = await _find_owned(uow, who, booking, lock=True)
            if row.state != BookingState.ACTIVE or row.ends_at <= now():
                raise BookingNotOpen
            if row.confirmed_at is None:
                row.confirmed_at = now()
                await uow.audit(who.account, who.key, "booking.confirm", row.id)
            row.client = row.client if client is None else client
            await uow.session.flush()
            return await _shown(uow, row)

    async def get(self, who: Principal, booking: str) -> Booking:
        """A booking that the caller made, or of a GPU of the caller's; any for an admin. Raises `BookingNotFound`."""
        if not ids.is_id("book", booking):
            raise BookingNotFound
        async with self._db.reading() as session:
            found = (await session.execute(_bookings_query().where(BookingRow.id == booking))).one_or_none()
        if found is None or not (who.owns(found[0].account) or who.owns(found[0].owner)):
            raise BookingNotFound
        return _view(*found)

    async def page(self, who: Principal, filters: BookingFilter) -> Sequence[Booking]:
        """Bookings from the newest on: the caller's, of everybody for an admin."""
        query = _bookings_query().order_by(BookingRow.id.desc()).limit(filters.limit)
        if not who.is_admin:
            mine = [BookingRow.account == who.account] if filters.booked else []
            mine += [BookingRow.owner == who.account] if filters.owned else []
            query = query.where(or_(*mine))
        if filters.states is not None:
            query = query.where(BookingRow.state.in_(sorted(filters.states)))
        if filters.after is not None:
            query = query.where(BookingRow.id < filters.after)
        async with self._db.reading() as session:
            return [_view(*row) for row in await session.execute(query)]

    async def current(self, gpu: str) -> Booking | None:
        """The booking that a GPU is in now, whoever made it."""
        current = (BookingRow.gpu == gpu, BookingRow.state == BookingState.ACTIVE, BookingRow.ends_at > now())
        async with self._db.reading() as session:
            found = (await session.execute(_bookings_query().where(*current))).one_or_none()
        return None if found is None else _view(*found)

    async def submit_job(self, who: Principal, gpu: str, kind: str, value: dict[str, Any], once: IdempotencyKey) -> Job:
        """Submit a job to a GPU that the caller has booked; it costs one minor unit, and waits no longer than the
        booking lasts.

        Raises `ListedGpuNotFound`, `GpuNotBooked`, `GpuWithoutMiner`, and what a submission raises.
        """
        await self._listings.get(gpu)
        booking = await self.current(gpu)
        if booking is None or booking.account != who.account:
            raise GpuNotBooked
        if booking.miner is None:
            raise GpuWithoutMiner
        left = (booking.ends_at - now()) // SECOND
        return await self._ai.order(
            OrderJob(
                account=who.account,
                key=who.key,
                kind=kind,
                input=value,
                booking=booking.id,
                booking_ends_at=booking.ends_at,
                queue_seconds=min(max(left, 1), QUEUE_SECONDS_MAX),
                request_key=once.key,
                fingerprint=once.fingerprint,
            )
        )

    async def _stop_work(self, who: Principal, booking: str) -> bool:
        """End the work of a booking of the caller's that is about to be released; whether there may have been any."""
        if not ids.is_id("book", booking):
            return False
        async with self._db.reading() as session:
            row = await session.get(BookingRow, booking)
        if row is None or not who.owns(row.account) or row.state != BookingState.ACTIVE:
            return False
        return await stop_work(self._ai, row)

    async def _end_overdue(self, gpu: str) -> None:
        """End what is over and was not ended yet: the next one need not wait for it. Raises `ListedGpuNotFound`."""
        async with self._db.unit_of_work() as uow:
            found = await listed(uow, gpu)
            miner = await _miner_of(uow, found)
            same = BookingRow.gpu == gpu if miner is None else or_(BookingRow.gpu == gpu, BookingRow.miner == miner.id)
            rows = await open_bookings(uow, same & BookingRow.gpu.is_not(None) & (BookingRow.ends_at <= now()))
        for row in rows:
            stopped = await stop_work(self._ai, row)
            async with self._db.unit_of_work() as uow:
                await end_booking(uow, row, BookingState.ENDED, now(), stopped=stopped)

    async def _earlier_answer(self, once: IdempotencyKey) -> Booking | None:
        """The answer to an earlier request with this key. Raises `IdempotencyKeyReused`."""
        if once.key is None:
            return None
        async with self._db.reading() as session:
            row = (await session.execute(STORED, {"account": once.account, "key": once.key})).one_or_none()
        if row is None or row.body is None:
            return None
        if row.fingerprint != once.fingerprint:
            raise IdempotencyKeyReused
        once.replayed = True
        return msgspec.json.decode(row.body, type=Booking)


def is_stopping(miner: MinerRow) -> bool:
    """Whether a miner may still be at work for its last booker: none of its heartbeats has shown that it stopped."""
    return miner.stopping_since is not None and now() < miner.stopping_since + STOPPING_MAX


async def _find_owned(uow: UnitOfWork, who: Principal, booking: str, *, lock: bool = False) -> BookingRow:
    row = await uow.find(BookingRow, booking, lock=lock, missing=BookingNotFound)
    if not who.owns(row.account):
        raise BookingNotFound
    return row


async def _miner_of(uow: UnitOfWork, gpu: ListedGpuRow) -> MinerRow | None:
    """The miner that a listed GPU is in, if it is known here."""
    query = with_miner(select(MinerRow).select_from(ListedGpuRow)).where(ListedGpuRow.id == gpu.id)
    return (await uow.session.scalars(query)).one_or_none()


async def _require_shown(uow: UnitOfWork, gpu: ListedGpuRow, miner: MinerRow) -> None:
    """The miner shows the GPU, and nobody has it booked by way of another one. Raises `GpuNotShown`, `GpuBooked`.

    GPUs that other miners show too stay locked: one of these miners is booked at a time.
    """
    uuids = select(DeviceRow.uuid).where(DeviceRow.miner == miner.id)
    twins = select(DeviceRow.miner).where(DeviceRow.uuid.in_(uuids), DeviceRow.miner != miner.id)
    facts: Any = select(is_shown(), twins.exists()).select_from(ListedGpuRow)
    shown, has_twins = (await uow.session.execute(with_miner(facts).where(ListedGpuRow.id == gpu.id))).one()
    if not shown:
        raise GpuNotShown
    if has_twins:
        locked = select(DeviceOwnerRow.uuid).where(DeviceOwnerRow.uuid.in_(uuids)).order_by(DeviceOwnerRow.uuid)
        await uow.session.execute(locked.with_for_update())
        if await open_bookings(
            uow, BookingRow.miner.in_(twins) & ((BookingRow.ends_at > now()) | BookingRow.gpu.is_(None))
        ):
            raise GpuBooked("It is booked by way of another miner that shows the same GPU.")


async def _is_legacy(uow: UnitOfWork, miner: MinerRow) -> bool:
    return await uow.session.scalar(select(LegacyMinerRow.miner).where(LegacyMinerRow.miner == miner.id)) is not None


def _bookings_query() -> Select[BookingRow, ListedGpuRow, str]:
    return (
        select(BookingRow, ListedGpuRow, MinerRow.status)
        .join(ListedGpuRow, ListedGpuRow.id == BookingRow.gpu)
        .outerjoin(MinerRow, MinerRow.id == BookingRow.miner)
    )


def _view(row: BookingRow, gpu: ListedGpuRow, status: str | None) -> Booking:
    return booking_view(row, gpu, online=None if status is None else status == Status.ONLINE)


async def _shown(uow: UnitOfWork, row: BookingRow) -> Booking:
    return _view(*(await uow.session.execute(_bookings_query().where(BookingRow.id == row.id))).one())
