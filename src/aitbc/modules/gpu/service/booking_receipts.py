"""Receipts of bookings of listed GPUs that are over: what was used and paid, signed by the node."""

from msgspec.structs import replace

from aitbc.kernel.crypto.signing import Key, sign_claims
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import money
from aitbc.kernel.primitives.errors import Conflict
from aitbc.modules.gpu.api import BookingReceipt, BookingReceiptFile, ReceiptSlice
from aitbc.modules.gpu.models.bookings import PAID, Booking
from aitbc.modules.gpu.service.bookings import Bookings


class BookingNotSettled(Conflict):
    """This booking is not over, or was not paid; one that was has a receipt a moment after its end."""

    code = "booking_not_settled"


class BookingReceipts:
    """Signs receipts of bookings."""

    def __init__(self, bookings: Bookings, key: Key) -> None:
        self._bookings = bookings
        self._key = key

    async def of(self, who: Principal, booking: str) -> BookingReceiptFile:
        """The receipt of a booking, the same for both sides and at any time.

        Raises `BookingNotFound`, `BookingNotSettled`.
        """
        row = await self._bookings.get(who, booking)
        if row.state not in PAID or row.settled_at is None or row.ended_at is None or row.paid_ms is None:
            raise BookingNotSettled
        paid = (row.cost_units or 0) if row.transaction is not None else 0
        claims = BookingReceipt(
            booking=row.id,
            offer=None,
            miner=row.miner,
            payer=row.account,
            owner=row.owner,
            reason=row.state,
            began_at=row.starts_at,
            ended_at=row.ended_at,
            used_ms=row.paid_ms,
            machine_ms=min(row.machine_ms, row.paid_ms),
            paid=money.render(paid),
            slices=(_slice_of(row, paid),),
            node_key=self._key.public,
        )
        return BookingReceiptFile(receipt=replace(claims, node_signature=sign_claims(claims, self._key)))


def _slice_of(row: Booking, paid: int) -> ReceiptSlice:
    """All of its time was held at once, so there is one slice."""
    fee = None if row.fee_units is None or not paid else money.render(row.fee_units)
    return ReceiptSlice(
        number=1,
        millis=row.duration_ms,
        price_hour=money.render(row.price_units),
        paid=money.render(paid),
        fee=fee,
        transaction=row.transaction if paid else None,
    )
