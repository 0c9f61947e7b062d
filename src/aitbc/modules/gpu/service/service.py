"""The service of gpu: all its parts in one object."""

from collections.abc import Sequence

from prometheus_client import Metric

from aitbc.modules.gpu.service.bookings import Bookings
from aitbc.modules.gpu.service.enrolment import Enrolment
from aitbc.modules.gpu.service.legacy_work import OlderWork
from aitbc.modules.gpu.service.liveness import Liveness
from aitbc.modules.gpu.service.metrics import measure
from aitbc.modules.gpu.service.order_book.book import OrderBook
from aitbc.modules.gpu.service.reputation import Scoring
from aitbc.modules.gpu.service.work import Working


class GpuService(Bookings, OlderWork, Enrolment, Scoring, Working, Liveness, OrderBook):
    """Keeps the miners: how they join, whether they are there, how work reaches them, what they are worth; and the GPU market."""

    async def measure(self) -> Sequence[Metric]:
        """What Prometheus is told of the miners."""
        return await measure(self.db)
