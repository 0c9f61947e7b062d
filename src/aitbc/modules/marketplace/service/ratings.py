"""Ratings: given by the payers of settled receipts, once each, and carried by the offers of the miner."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct
from sqlalchemy import false, select, tuple_, update

from aitbc.kernel.database.retry import retrying
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import ids
from aitbc.kernel.primitives.clock import now
from aitbc.kernel.primitives.errors import Conflict, NotFound
from aitbc.modules.gpu.api import GpuApi
from aitbc.modules.marketplace.models.facts import asked
from aitbc.modules.marketplace.models.ratings import RatingRow, shrunk
from aitbc.modules.marketplace.models.tables import OfferRow
from aitbc.modules.marketplace.service.offer_rows import lock_miner, remember
from aitbc.modules.marketplace.service.payments import PaidBookings
from aitbc.modules.trading.api import TradingApi


class RatedReceiptNotFound(NotFound):
    """There is no such receipt or ended booking, or you did not pay it."""

    code = "rated_receipt_not_found"


class OwnWorkRated(Conflict):
    """This is work or time of your own miner."""

    code = "own_work_rated"


class RatingGiven(Conflict):
    """You said something else of this work before."""

    code = "rating_given"


class MarketRating(Struct, frozen=True, kw_only=True):
    """What the payer of a receipt says of the work."""

    subject: str
    """The receipt of the job, or the booking. For example `rcpt_01k0000000000000000000000a`."""
    account: str
    """Who paid, and rates. For example `acct_01k0000000000000000000000a`."""
    miner: str
    """Who did the work. For example `mnr_01k0000000000000000000000a`."""
    stars: int
    """From 1, the least, to 5. For example `4`."""
    comment: str
    """What else there is to say; may be empty. For example `Fast, and as described.`."""
    rated_at: datetime
    """When it was said."""


class Parties(Struct, frozen=True, kw_only=True):
    """Who paid whom for what can be rated."""

    subject: str
    payer: str
    miner: str
    miner_account: str


class Ratings:
    """Takes and shows ratings."""

    def __init__(self, database: Database, gpu: GpuApi, trading: TradingApi, bookings: PaidBookings) -> None:
        self._database = database
        self._gpu = gpu
        self._bookings = bookings
        self._trading = trading

    async def rate(self, who: Principal, subject: str, stars: int, comment: str) -> MarketRating:
        """Rate work that the caller paid for. Repeating it is harmless.

        Raises `RatedReceiptNotFound`, `OwnWorkRated`, `RatingGiven`.
        """
        parties = await (self._booked(subject) if ids.is_id("book", subject) else self._worked(subject))
        if parties is None or parties.payer != who.account:
            raise RatedReceiptNotFound
        if parties.miner_account == who.account:
            raise OwnWorkRated
        facts = asked(await self._gpu.miner(parties.miner))
        return await self._rate(parties, facts, stars, comment)

    async def _worked(self, receipt: str) -> Parties | None:
        for one in await self._trading.parties([receipt]):
            return Parties(subject=receipt, payer=one.payer, miner=one.miner, miner_account=one.miner_account)
        return None

    async def _booked(self, booking: str) -> Parties | None:
        """Who paid whom for a booking that is over."""
        paid = await self._bookings.payment(booking)
        if paid is None or paid.over_at is None or paid.miner is None or not paid.price_units:
            return None
        return Parties(subject=booking, payer=paid.payer, miner=paid.miner, miner_account=paid.owner)

    @retrying
    async def _rate(self, parties: Parties, facts: dict[str, object], stars: int, comment: str) -> MarketRating:
        async with self._database.unit_of_work() as uow:
            await remember(uow, parties.miner, facts)
            miner = await lock_miner(uow, parties.miner)
            row = await uow.session.get(RatingRow, parties.subject)
            if row is not None:
                if (row.stars, row.comment) != (stars, comment):
                    raise RatingGiven
                return _view(row)
            row = RatingRow(
                subject=parties.subject,
                account=parties.payer,
                miner=parties.miner,
                owner=parties.miner_account,
                stars=stars,
                comment=comment,
                rated_at=now(),
            )
            uow.add(row)
            miner.stars += stars
            miner.ratings += 1
            carried = {"rating_milli": shrunk(miner.stars, miner.ratings), "ratings": miner.ratings}
            await uow.session.flush()
            await uow.session.execute(update(OfferRow).where(OfferRow.miner == miner.id).values(**carried))
            return _view(row)

    async def page(self, miner: str | None, after: tuple[datetime, str] | None, limit: int) -> Sequence[MarketRating]:
        """Ratings of everybody's work, or of a miner's, from the newest on."""
        wanted = select(RatingRow)
        if miner is not None:
            wanted = wanted.where(RatingRow.miner == miner if ids.is_id("mnr", miner) else false())
        if after is not None:
            wanted = wanted.where(tuple_(RatingRow.rated_at, RatingRow.subject) < after)
        newest = wanted.order_by(RatingRow.rated_at.desc(), RatingRow.subject.desc()).limit(limit)
        async with self._database.reading() as session:
            return [_view(row) for row in await session.scalars(newest)]


def _view(row: RatingRow) -> MarketRating:
    return MarketRating(
        subject=row.subject,
        account=row.account,
        miner=row.miner,
        stars=row.stars,
        comment=row.comment,
        rated_at=row.rated_at,
    )
