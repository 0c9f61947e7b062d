"""Receipts of bookings that are over: what was used, with the booker's machine, and paid, signed by the node."""

from msgspec.structs import replace

from aitbc.kernel.crypto.signing import Key, sign_claims
from aitbc.kernel.database.unit_of_work import Database
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import money
from aitbc.kernel.primitives.errors import Conflict
from aitbc.modules.gpu.api import BookingReceipt, BookingReceiptFile, GpuApi, ReceiptSlice
from aitbc.modules.marketplace.models.bookings import BookingState, SliceRow
from aitbc.modules.marketplace.service.bookings.rows import seen_by
from aitbc.modules.marketplace.service.bookings.slices import Slices


class MarketBookingNotOver(Conflict):
    """This booking has not ended, or did not begin; one that was used has a receipt once it is over."""

    code = "market_booking_not_over"


class MarketReceipts:
    """Signs receipts of bookings."""

    def __init__(self, database: Database, gpu: GpuApi, slices: Slices, key: Key) -> None:
        self._database = database
        self._gpu = gpu
        self._slices = slices
        self._key = key

    async def of(self, who: Principal, booking: str) -> BookingReceiptFile:
        """The receipt of a booking, the same for both sides and at any time.

        Raises `MarketBookingNotFound`, `MarketBookingNotOver`.
        """
        async with self._database.unit_of_work() as uow:
            row = await seen_by(uow, who, booking)
        if row.state != BookingState.ENDED or row.began_at is None or row.ended_at is None:
            raise MarketBookingNotOver
        machine_ms = sum(use.machine_ms for use in await self._gpu.uses([booking]))
        claims = BookingReceipt(
            booking=row.id,
            offer=row.offer,
            miner=row.miner,
            payer=row.account,
            owner=row.owner,
            reason=row.reason or "",
            began_at=row.began_at,
            ended_at=row.ended_at,
            used_ms=row.used_ms,
            machine_ms=min(machine_ms, row.used_ms),
            paid=money.render(row.paid_units),
            slices=tuple(_slice_of(one) for one in await self._slices.of(booking) if one.state == "paid"),
            node_key=self._key.public,
        )
        return BookingReceiptFile(receipt=replace(claims, node_signature=sign_claims(claims, self._key)))


def _slice_of(one: SliceRow) -> ReceiptSlice:
    return ReceiptSlice(
        number=one.number,
        millis=one.millis,
        price_hour=money.render(one.price_units),
        paid=money.render(one.paid_units),
        fee=None if one.fee_units is None else money.render(one.fee_units),
        transaction=one.transaction,
    )
