"""The work of a booking that ends: ai stops it before the booking is over, so that none of it goes on for nothing."""

from aitbc.kernel.primitives.errors import AppError
from aitbc.modules.ai.api import AiApi
from aitbc.modules.gpu.models.bookings import BookingRow


async def stop_work(ai: AiApi, booking: BookingRow) -> bool:
    """End the leases and the queue of a booking; whether its miner may have been at work for it.

    Where ai does not answer, it learns of the end from the event, and the miner counts as at work.
    """
    if booking.miner is None:
        return False
    try:
        return await ai.end_booking(booking.id, booking.account) > 0
    except AppError:
        return True
