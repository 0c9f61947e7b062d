"""Jobs that a module above submits in the name of an account, to the GPU which that account has booked."""

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.identity.principal import Principal
from aitbc.kernel.primitives import money
from aitbc.modules.ai.api import Clocks, Job, OrderJob
from aitbc.modules.ai.models.submit_job import Requirements, SubmitJob
from aitbc.modules.ai.service.live_bookings import LiveBookings
from aitbc.modules.ai.service.submissions import Submissions

LEAST = money.render(1)
"""What a job costs whose booking has paid for its time: the least that any job costs, so that it has its receipt."""


class BookedJobs:
    """Submits jobs for another module."""

    def __init__(self, submissions: Submissions, bookings: LiveBookings) -> None:
        self._submissions = submissions
        self._bookings = bookings

    async def order(self, order: OrderJob) -> Job:
        """Submit a job to a booked GPU; the booking has paid for its time already."""
        await self._bookings.note(order.booking, order.account, order.booking_ends_at)
        command = SubmitJob(
            kind=order.kind,
            input=order.input,
            max_price=LEAST,
            requirements=Requirements(booking=order.booking),
            clocks=Clocks(queue_seconds=order.queue_seconds),
        )
        who = Principal(order.account, order.key, "live", frozenset())
        once = IdempotencyKey(order.account, order.request_key, order.fingerprint)
        return await self._submissions.submit(who, command, once)
