"""What was paid for bookings: of offers, which are kept here, and of listed GPUs, which gpu keeps."""

from datetime import datetime

from msgspec import Struct
from sqlalchemy import select

from aitbc.kernel.database.unit_of_work import Database
from aitbc.modules.gpu.api import GpuApi
from aitbc.modules.marketplace.models.bookings import MarketBookingRow, SliceRow


class Payment(Struct, frozen=True, kw_only=True):
    """What was paid for a job or a booking, and when that was over."""

    payer: str
    owner: str
    miner: str | None
    """None where a GPU was booked that nobody knew the miner of."""
    price_units: int
    fee_units: int | None
    """None where it is not known: it was paid before there were disputes."""
    over_at: datetime | None


class PaidBookings:
    """Finds what was paid for a booking, whichever door it was made by."""

    def __init__(self, database: Database, gpu: GpuApi) -> None:
        self._database = database
        self._gpu = gpu

    async def payment(self, booking: str) -> Payment | None:
        """What was paid for a booking; none where there is no such booking, or one of a listed GPU was not paid."""
        async with self._database.reading() as session:
            row = await session.get(MarketBookingRow, booking)
            paid = select(SliceRow.fee_units).where(SliceRow.booking == booking, SliceRow.paid_units > 0)
            fees = [] if row is None else (await session.scalars(paid)).all()
        if row is None:
            return await self._listed(booking)
        return Payment(
            payer=row.account,
            owner=row.owner,
            miner=row.miner,
            price_units=row.paid_units,
            fee_units=None if None in fees else sum(fee or 0 for fee in fees),
            over_at=row.ended_at,
        )

    async def _listed(self, booking: str) -> Payment | None:
        paid = await self._gpu.paid_booking(booking)
        if paid is None:
            return None
        return Payment(
            payer=paid.payer,
            owner=paid.owner,
            miner=paid.miner,
            price_units=paid.price_units,
            fee_units=paid.fee_units,
            over_at=paid.ended_at,
        )
