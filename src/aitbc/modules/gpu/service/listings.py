"""Listings: GPUs that owners offer for rent at a price, what others say of them, and what a model costs."""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import ColumnElement, Select, Subquery, and_, exists, func, literal, not_, or_, select, tuple_
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import aliased

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.database.model_names import is_named
from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database, UnitOfWork
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Conflict, NotFound, TooMany
from aitbc.modules.gpu.models.bookings import IS_OPEN, MICROSECOND, PAID, USED, BookingRow
from aitbc.modules.gpu.models.devices import MEMORY_MIB_PER_GB, DeviceRow, words_of
from aitbc.modules.gpu.models.legacy import LegacyMinerRow
from aitbc.modules.gpu.models.life import Status
from aitbc.modules.gpu.models.listing_views import GpuReview, ListedGpu, Unavailable, gpu_view, review_view
from aitbc.modules.gpu.models.listings import GpuReviewRow, ListedGpuRow
from aitbc.modules.gpu.models.tables import MinerRow, ProfileRow
from aitbc.modules.gpu.models.views import machine_offer
from aitbc.modules.gpu.service.booking_states import cancel_bookings, open_bookings

LISTED_MAX = 1000
"""How many GPUs an account may list."""
MODEL_MAX = 10_000
"""Of how many GPUs of a model the prices are looked at."""


class ListedGpuNotFound(NotFound):
    """There is no such GPU on the market, or it is not yours."""

    code = "listed_gpu_not_found"


class GpuBooked(Conflict):
    """This GPU is booked."""

    code = "gpu_booked"


class GpuReviewed(Conflict):
    """This account reviewed the GPU before."""

    code = "gpu_reviewed"


class OwnGpu(Conflict):
    """Nobody reviews a GPU of their own."""

    code = "own_gpu"


class GpuNotUsed(Conflict):
    """Who reviews a GPU has had it booked and paid for at least a minute of it; this account has not."""

    code = "gpu_not_used"


class TooManyGpus(TooMany):
    """This account lists as many GPUs as it may; remove some."""

    code = "too_many_gpus"


class ListGpu(Struct, frozen=True, kw_only=True):
    """An owner lists a GPU."""

    miner_name: str
    model: str
    memory_gb: int | None
    cuda_cores: int | None
    compute_capability: str | None
    region: str | None
    price_units: int
    """For an hour."""
    description: str


class ListingFilter(Struct, frozen=True, kw_only=True):
    """Which GPUs are asked for."""

    available: bool | None = None
    model: str | None = None
    """Part of the model's name, in either case."""
    region: str | None = None
    price_max_units: int | None = None
    memory_min_gb: float | None = None
    after: str | None = None
    """Only those that were listed before this one."""
    limit: int


class Reviews(Struct, frozen=True, kw_only=True):
    """What is said of a GPU, the newest first."""

    gpu: str
    average_rating: float | None
    total: int
    """Of all, also those that are not shown."""
    shown: tuple[GpuReview, ...]


class ModelPrices(Struct, frozen=True, kw_only=True):
    """What owners ask for GPUs of a model, the cheapest that is available first."""

    gpus: tuple[ListedGpu, ...]
    lowest_units: int
    highest_units: int
    average_units: int
    """Rounded half up to a unit."""
    available: int


class Listings:
    """Listing GPUs, finding and reviewing them."""

    def __init__(self, db: Database) -> None:
        self._db = db

    @retrying
    async def add(self, who: Principal, command: ListGpu, once: IdempotencyKey = IdempotencyKey.NONE) -> ListedGpu:
        """List a GPU. Raises `TooManyGpus`."""
        async with self._db.unit_of_work() as uow:
            if (earlier := await uow.replay(once, ListedGpu)) is not None:
                return earlier
            listed = select(func.count()).select_from(ListedGpuRow)
            mine = (ListedGpuRow.account == who.account, ListedGpuRow.removed_at.is_(None))
            if (await uow.session.scalar(listed.where(*mine)) or 0) >= LISTED_MAX:
                raise TooManyGpus
            row = ListedGpuRow(
                id=ids.new_id("gpu"),
                account=who.account,
                miner_name=command.miner_name,
                miner=await _own_miner(uow, who, command.miner_name),
                model=command.model,
                words=list(words_of(command.model)),
                memory_gb=command.memory_gb,
                cuda_cores=command.cuda_cores,
                compute_capability=command.compute_capability,
                region=command.region,
                price_units=command.price_units,
                description=command.description,
                created_at=now(),
                removed_at=None,
            )
            uow.add(row)
            await uow.session.flush()
            await uow.audit(who.account, who.key, "market.list_gpu", row.id)
            return await uow.answer(once, await _shown(uow, row.id))

    async def page(self, filters: ListingFilter) -> Sequence[ListedGpu]:
        """GPUs that are listed, everybody's, from the newest on."""
        async with self._db.reading() as session:
            return [_view(*row) for row in (await session.execute(_page_query(filters)))]

    async def get(self, gpu: str) -> ListedGpu:
        """One GPU. Raises `ListedGpuNotFound`."""
        if not ids.is_id("gpu", gpu):
            raise ListedGpuNotFound
        async with self._db.reading() as session:
            row = (await session.execute(_listings_query().where(ListedGpuRow.id == gpu))).one_or_none()
        if row is None:
            raise ListedGpuNotFound
        return _view(*row)

    @retrying
    async def reprice(
        self,
        who: Principal,
        gpu: str,
        price_units: int,
        description: str | None,
        once: IdempotencyKey = IdempotencyKey.NONE,
    ) -> ListedGpu:
        """List a GPU of the caller's at another price. Raises `ListedGpuNotFound`."""
        async with self._db.unit_of_work() as uow:
            if (earlier := await uow.replay(once, ListedGpu)) is not None:
                return earlier
            row = await _find_owned(uow, who, gpu)
            row.price_units = price_units
            row.description = row.description if description is None else description
            await uow.session.flush()
            await uow.audit(who.account, who.key, "market.reprice_gpu", gpu, price_units=price_units)
            return await uow.answer(once, await _shown(uow, gpu))

    async def remove(self, who: Principal, gpu: str, *, force: bool = False) -> list[str]:
        """Take a GPU of the caller's off the market, any for an admin; answers the bookings that this canceled.

        One that is booked goes only by `force`, and its booker gets all of the money back. Raises `ListedGpuNotFound`,
        `GpuBooked`.
        """
        of, at = BookingRow.gpu == gpu, now()
        async with self._db.unit_of_work() as uow:
            row = await _find_owned(uow, who, gpu)
            if not force and any(booking.ends_at > at for booking in await open_bookings(uow, of)):
                raise GpuBooked
            canceled = await cancel_bookings(uow, of, at)
            row.removed_at = at
            await uow.audit(who.account, who.key, "market.unlist_gpu", gpu, canceled=canceled)
        return canceled

    @retrying
    async def review(
        self, who: Principal, gpu: str, rating: int, comment: str, once: IdempotencyKey = IdempotencyKey.NONE
    ) -> GpuReview:
        """Say what the caller thinks of somebody else's GPU after using it, from 1 to 5, once; the same again is
        harmless.

        Raises `ListedGpuNotFound`, `OwnGpu`, `GpuNotUsed`, `GpuReviewed`.
        """
        async with self._db.unit_of_work() as uow:
            if (earlier := await uow.replay(once, GpuReview)) is not None:
                return earlier
            found = await listed(uow, gpu)
            if found.account == who.account:
                raise OwnGpu
            booking = await uow.session.scalar(_used_by(gpu, who.account))
            if booking is None:
                raise GpuNotUsed
            values = {"gpu": gpu, "account": who.account, "rating": rating, "comment": comment}
            values |= {"booking": booking, "created_at": now()}
            said = upsert(GpuReviewRow).values(id=ids.new_id("rev"), **values).on_conflict_do_nothing()
            fresh = await uow.session.scalar(said.returning(GpuReviewRow.id)) is not None
            theirs = (GpuReviewRow.gpu == gpu, GpuReviewRow.account == who.account)
            row = (await uow.session.scalars(select(GpuReviewRow).where(*theirs))).one()
            if not fresh and (row.rating, row.comment) != (rating, comment):
                raise GpuReviewed
            once.replayed = not fresh
            return await uow.answer(once, review_view(row))

    async def reviews(self, gpu: str, limit: int) -> Reviews:
        """What is said of a GPU. Raises `ListedGpuNotFound`."""
        found = await self.get(gpu)
        query = (
            select(GpuReviewRow)
            .where(GpuReviewRow.gpu == gpu, GpuReviewRow.booking.is_not(None))
            .order_by(GpuReviewRow.created_at.desc(), GpuReviewRow.id.desc())
            .limit(limit)
        )
        async with self._db.reading() as session:
            shown = tuple(review_view(row) for row in await session.scalars(query))
        return Reviews(gpu=gpu, average_rating=found.average_rating, total=found.reviews, shown=shown)

    async def model_prices(self, model: str) -> ModelPrices:
        """What GPUs cost whose model has this in its name. Raises `ListedGpuNotFound` when none is listed."""
        found = await self.page(ListingFilter(model=model, limit=MODEL_MAX))
        if not found:
            raise ListedGpuNotFound(f"No GPU of the model {model} is listed.")
        prices = [gpu.price_units for gpu in found]
        ordered = sorted(found, key=lambda gpu: (gpu.status != "available", gpu.price_units, gpu.id))
        return ModelPrices(
            gpus=tuple(ordered),
            lowest_units=min(prices),
            highest_units=max(prices),
            average_units=(2 * sum(prices) + len(prices)) // (2 * len(prices)),
            available=sum(gpu.status == "available" for gpu in found),
        )


Whole = tuple[ListedGpuRow, str | None, bool, bool, float | None, int | None, str | None]
"""A listing, the status of its miner, whether that shows such a GPU, whether it is booked, its reviews, its machine."""


def _view(
    row: ListedGpuRow,
    status: str | None,
    shown: bool,  # noqa: FBT001
    booked: bool,  # noqa: FBT001
    average: float | None,
    reviews: int | None,
    machine: str | None,
) -> ListedGpu:
    mean = None if average is None else float(average)
    shown_so = gpu_view(row, why_not(status, shown=shown), booked=booked, average=mean, reviews=reviews or 0)
    return msgspec.structs.replace(shown_so, machine=machine_offer(machine))


def why_not(status: str | None, *, shown: bool) -> Unavailable | None:
    """Why a GPU cannot be had whose miner has this status, or is not known, and shows such a GPU or does not."""
    if status is None:
        return "no_miner"
    if status != Status.ONLINE:
        return "miner_offline"
    return None if shown else "gpu_not_shown"


ListingsQuery = Select[ListedGpuRow, str | None, bool, bool, float | None, int | None, str | None]


def _said() -> Subquery:
    return (
        select(GpuReviewRow.gpu, func.avg(GpuReviewRow.rating).label("average"), func.count().label("reviews"))
        .where(GpuReviewRow.booking.is_not(None))
        .group_by(GpuReviewRow.gpu)
        .subquery()
    )


def _used_by(gpu: str, account: str) -> Select[str]:
    """The last booking by which an account has used a GPU, and paid for it."""
    row = BookingRow
    unreachable = row.unreachable_us * literal(MICROSECOND)
    paid = func.least(row.ended_at, row.ends_at) - row.starts_at - unreachable
    mine = (row.gpu == gpu, row.account == account, row.state.in_(sorted(PAID)), paid >= USED)
    return select(row.id).where(*mine).order_by(row.id.desc()).limit(1)


def is_shown() -> ColumnElement[bool]:
    """Whether the miner that a GPU is in shows such a one, without a fault."""
    gpu, device = ListedGpuRow, DeviceRow
    memory = or_(
        gpu.memory_gb.is_(None), device.memory_mib.is_(None), device.memory_mib >= gpu.memory_gb * MEMORY_MIB_PER_GB
    )
    named = and_(gpu.words != [], gpu.words.contained_by(device.words), device.lesser.contained_by(gpu.words))
    return exists().where(device.miner == MinerRow.id, device.fault.is_(None), named, memory).correlate(gpu, MinerRow)


def _booked() -> ColumnElement[bool]:
    """Whether somebody has it booked now: it, or another GPU of the same miner, which then works for that one only, or
    the same GPU by another miner of its owner's."""
    still = and_(IS_OPEN, BookingRow.ends_at > now())
    same = or_(BookingRow.gpu == ListedGpuRow.id, BookingRow.miner == MinerRow.id, BookingRow.miner.in_(_siblings()))
    return exists().where(still, same).correlate(ListedGpuRow, MinerRow)


def _siblings() -> Select[str]:
    """The other miners that show a GPU of this one's."""
    mine, other = aliased(DeviceRow), aliased(DeviceRow)
    return select(other.miner).join(mine, mine.uuid == other.uuid).where(mine.miner == MinerRow.id).correlate(MinerRow)


def _listings_query() -> ListingsQuery:
    """GPUs that are listed, their miners' status, whether they show such a GPU, whether it is booked, and the mean and
    number of reviews."""
    said = _said()
    machine = select(ProfileRow.machine).where(ProfileRow.miner == MinerRow.id).correlate(MinerRow).scalar_subquery()
    facts = (MinerRow.status, is_shown(), _booked(), said.c.average, said.c.reviews, machine)
    return (
        with_miner(select(ListedGpuRow, *facts))
        .outerjoin(said, said.c.gpu == ListedGpuRow.id)
        .where(ListedGpuRow.removed_at.is_(None))
    )


def with_miner(query: Select[Any]) -> Select[Any]:
    """Listed GPUs beside the miners that they are in, where those are known here."""
    named = and_(LegacyMinerRow.account == ListedGpuRow.account, LegacyMinerRow.legacy_id == ListedGpuRow.miner_name)
    miner = func.coalesce(ListedGpuRow.miner, LegacyMinerRow.miner)
    return query.outerjoin(LegacyMinerRow, named).outerjoin(MinerRow, MinerRow.id == miner)


async def _own_miner(uow: UnitOfWork, who: Principal, name: str) -> str | None:
    """The miner of this id, if it is the caller's own."""
    if not ids.is_id("mnr", name):
        return None
    return await uow.session.scalar(select(MinerRow.id).where(MinerRow.id == name, MinerRow.account == who.account))


def _page_query(filters: ListingFilter) -> ListingsQuery:
    gpu = ListedGpuRow
    query = _listings_query().order_by(gpu.created_at.desc(), gpu.id.desc()).limit(filters.limit)
    if filters.after is not None:
        before = select(ListedGpuRow.created_at).where(ListedGpuRow.id == filters.after).scalar_subquery()
        query = query.where(tuple_(gpu.created_at, gpu.id) < tuple_(before, literal(filters.after, gpu.id.type)))
    if filters.available is not None:
        online = func.coalesce(MinerRow.status, "") == Status.ONLINE
        query = query.where(and_(online, is_shown(), not_(_booked())) == filters.available)
    if filters.model is not None:
        query = query.where(is_named(gpu.model, filters.model))
    if filters.region is not None:
        query = query.where(func.lower(gpu.region) == filters.region.lower())
    if filters.price_max_units is not None:
        query = query.where(gpu.price_units <= filters.price_max_units)
    if filters.memory_min_gb is not None:
        query = query.where(gpu.memory_gb >= filters.memory_min_gb)
    return query


async def _shown(uow: UnitOfWork, gpu: str) -> ListedGpu:
    row: Whole = (await uow.session.execute(_listings_query().where(ListedGpuRow.id == gpu))).one()
    return _view(*row)


async def listed(uow: UnitOfWork, gpu: str, *, lock: bool = False) -> ListedGpuRow:
    """A GPU that is listed. Raises `ListedGpuNotFound`."""
    row = await uow.find(ListedGpuRow, gpu, lock=lock, missing=ListedGpuNotFound)
    if row.removed_at is not None:
        raise ListedGpuNotFound
    return row


async def _find_owned(uow: UnitOfWork, who: Principal, gpu: str) -> ListedGpuRow:
    row = await listed(uow, gpu, lock=True)
    if not who.owns(row.account):
        raise ListedGpuNotFound
    return row
